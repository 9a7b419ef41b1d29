"""LSST's sky: places, visits and their conditions, and what sends alerts, at LSST's depth.

Light curves, sources and detectors' defects are those of ZTF's simulation; distances are in LSST's
pixels. Colours in u, z and y are those in g and i.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from acai_jax.simulate.artefacts import DEFECTS, Defect
from acai_jax.simulate.images import Subtraction
from acai_jax.simulate.objects import LightCurve, moved, pulsation, random_walk, supernova
from acai_jax.simulate.objects import tidal_disruption as disruption
from acai_jax.simulate.observing import Exposure
from acai_jax.simulate.optics import CENTRE
from acai_jax.simulate.sky import Source, galaxy, star
from acai_jax.surveys.ztf import STAMP_SIZE

SCALE: Final = 0.2
"""Arcseconds along one pixel."""
EXPOSURE_SECONDS: Final = 30.0
_ZERO_POINT: Final = 31.4  # of nJy, AB
_FIRST_NIGHT: Final = 2461095.5  # 2026 February 24
_LAST_NIGHT: Final = 2461825.5
_TAI_MINUS_UTC: Final = 37 / 86400
_MJD: Final = 2400000.5
# per band: share of visits, noise of an empty pixel [nJy], electrons of a nJy, nearest of g, r, i
_BANDS: Final = {
    "u": (0.06, 30.0, 0.6, 1),
    "g": (0.22, 20.0, 1.9, 1),
    "r": (0.24, 25.0, 1.9, 2),
    "i": (0.24, 38.0, 1.6, 3),
    "z": (0.16, 72.0, 1.2, 3),
    "y": (0.08, 150.0, 0.6, 3),
}
_NAMES: Final = tuple(_BANDS)
_SHARES: Final = tuple(share for share, *_ in _BANDS.values())
_CANVAS: Final = (STAMP_SIZE + 24) * SCALE / 60  # sources are drawn in this square [arcmin]
_GALAXIES: Final = 110.0  # per square arcminute, to the faintest
_GALAXY_SLOPE: Final = 0.33  # of log10 counts per magnitude
_GALAXY_LIMITS: Final = (17.0, 26.5)
_STAR_LIMITS: Final = (15.5, 25.0)
_STAR_SLOPE: Final = 0.15
_DEEP: Final = 0.3  # share of alerts from deep fields
_GALACTIC_POLE: Final = (192.8595, 27.1283)
_ECLIPTIC_POLE: Final = (270.0, 66.5607)


@dataclasses.dataclass(frozen=True, slots=True)
class Visit(Exposure):
    """One visit; `seeing` in pixels, fluxes in nJy, no sky: it is subtracted.

    Attributes:
        band: u, g, r, i, z or y; `fid` is the nearest of g, r and i.
        gain: electrons of one nJy.
        stretch: of its PSF along columns, over that along rows, as a difference of variances
            [pixel^2].
    """

    band: str = "g"
    gain: float = 1.9
    stretch: float = 0.0

    @property
    def mjd_tai(self) -> float:
        """Its middle [day]."""
        return self.jd - _MJD + _TAI_MINUS_UTC


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """The coadd of a band: not matched to any visit's PSF."""

    seeing: float
    noise: float
    stretch: float


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an object lies, and how often it is visited.

    Attributes:
        ra, dec: [deg].
        latitude: galactic [deg].
        deep: it is in a deep field.
        visits: in a year, over all bands.
        templates: by band.
    """

    ra: float
    dec: float
    latitude: float
    deep: bool
    visits: float
    templates: dict[str, Template]


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
    """What sends alerts.

    Attributes:
        label: its class.
        kind: what it is, for people.
        place: where.
        sources: what stands there; positions in pixels from it.
        light: flux of the difference [nJy], if it is in the sky.
        start, duration: when it does so [JD], [day].
        seen: share of the visits since its start, and before it, that detect something here.
        trail: length of its path in a visit [pixel], and direction [rad].
        moving: it leaves no history; a known object has a catalogue's entry.
        known: it is in the catalogue.
        subtraction: errors of the images' matching, if that is what sends the alerts.
        defect: false light in the science image.
    """

    label: str
    kind: str
    place: Place
    sources: tuple[Source, ...]
    light: LightCurve | None
    start: float
    duration: float
    seen: tuple[float, float]
    trail: tuple[float, float] = (0.0, 0.0)
    moving: bool = False
    known: bool = False
    subtraction: Subtraction | None = None
    defect: Defect | None = None


def draw_night(rng: np.random.Generator, *, duration: float = 0.0) -> float:
    """A random JD of the survey, so long before its end that `duration` [day] fits."""
    return float(rng.uniform(_FIRST_NIGHT, _LAST_NIGHT - duration))


def draw_visit(rng: np.random.Generator, jd: float) -> Visit:
    """The conditions of one visit."""
    band = _NAMES[rng.choice(len(_NAMES), p=_SHARES)]
    _, noise, gain, fid = _BANDS[band]
    seeing = float(np.clip(rng.lognormal(math.log(1.18), 0.22), 0.65, 2.3)) / SCALE
    return Visit(
        jd=jd,
        fid=fid,
        seeing=seeing,
        sky=0.0,
        noise=noise * float(rng.lognormal(0, 0.15)),
        zero_point=_ZERO_POINT,
        colour_coefficient=0.0,
        band=band,
        gain=gain,
        stretch=_stretch(rng, seeing),
    )


def plain_visits(rng: np.random.Generator, times: list[float]) -> list[Visit]:
    """Visits at these times [JD], of which nothing matters but the band."""
    numbers = rng.choice(len(_NAMES), len(times), p=_SHARES).tolist()
    return [_plain_visit(jd, _NAMES[number]) for jd, number in zip(times, numbers, strict=True)]


def _plain_visit(jd: float, band: str) -> Visit:
    _, noise, _, fid = _BANDS[band]
    return Visit(jd, fid, 5.9, 0.0, noise, _ZERO_POINT, 0.0, band=band)


def _stretch(rng: np.random.Generator, seeing: float) -> float:
    """Of a PSF that wind and optics leave elliptical, by 0.05 to 0.3."""
    ellipticity = rng.choice((-1.0, 1.0)) * rng.uniform(0.05, 0.3)
    return float(2 * ellipticity * (seeing / 2.355) ** 2)


def _draw_place(rng: np.random.Generator, accept: Callable[[float, float], float]) -> Place:
    """A place; the chance to keep one follows from its galactic and ecliptic latitude."""
    while True:
        ra = rng.uniform(0, 360)
        low, high = (math.sin(math.radians(d)) for d in (-75.0, 12.0))
        dec = math.degrees(math.asin(rng.uniform(low, high)))
        galactic, ecliptic = (_latitude(ra, dec, *p) for p in (_GALACTIC_POLE, _ECLIPTIC_POLE))
        if rng.uniform() < accept(abs(galactic), abs(ecliptic)):
            break
    deep = bool(rng.uniform() < _DEEP)
    templates = {}
    for band, (_, noise, _, _) in _BANDS.items():
        seeing = float(rng.uniform(0.8, 1.25)) / SCALE
        relative = float(rng.lognormal(math.log(0.17), 0.35)) * (0.6 if deep else 1.0)
        templates[band] = Template(seeing, noise * relative, _stretch(rng, seeing))
    visits = rng.uniform(150, 400) if deep else rng.uniform(40, 110)
    return Place(ra, dec, galactic, deep, float(visits), templates)


def _extragalactic(galactic: float, ecliptic: float) -> float:
    del ecliptic
    return 1 - math.exp(-max(0.0, galactic - 8) / 8)


def _stellar(galactic: float, ecliptic: float) -> float:
    del ecliptic
    return 0.15 + math.exp(-galactic / 15)


def _ecliptic(galactic: float, ecliptic: float) -> float:
    return math.exp(-ecliptic / 9) * (1 - math.exp(-max(0.0, galactic - 3) / 5))


def _latitude(ra: float, dec: float, pole_ra: float, pole_dec: float) -> float:
    a, d, p = math.radians(ra - pole_ra), math.radians(dec), math.radians(pole_dec)
    sine = math.sin(d) * math.sin(p) + math.cos(d) * math.cos(p) * math.cos(a)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def _around(rng: np.random.Generator, place: Place, clear: float = 0.0) -> list[Source]:
    """The stars and galaxies that happen to lie here, none closer than `clear` [pixel]."""
    area = _CANVAS**2
    stars = 2.0 + 60 * math.exp(-abs(place.latitude) / 9)
    found = [
        star(rng, *_somewhere(rng, _STAR_SLOPE, _STAR_LIMITS))
        for _ in range(rng.poisson(stars * area))
    ]
    found += [
        galaxy(rng, *_somewhere(rng, _GALAXY_SLOPE, _GALAXY_LIMITS))
        for _ in range(rng.poisson(_GALAXIES * area))
    ]
    return [
        s for s in found if math.hypot(s.x, s.y) > max(clear, bool(clear) * 2 * s.radius / SCALE)
    ]


def _somewhere(
    rng: np.random.Generator, slope: float, limits: tuple[float, float]
) -> tuple[float, float, float]:
    half = _CANVAS / 2 * 60 / SCALE
    x, y = rng.uniform(-half, half, 2).tolist()
    low, high = (10 ** (slope * limit) for limit in limits)
    return x, y, math.log10(rng.uniform(low, high)) / slope


def hosted(rng: np.random.Generator) -> Thing:
    """A supernova at an offset from the centre of a resolved galaxy."""
    place = _draw_place(rng, _extragalactic)
    host = galaxy(rng, 0.0, 0.0, float(np.clip(rng.normal(20.3, 1.5), 16.5, 23.5)))
    distance = host.radius * rng.gamma(2.3, 0.9)
    distance = float(np.clip(distance, max(0.5, 0.25 * host.radius), max(0.8, 4 * host.radius)))
    host = moved(host, distance, rng.uniform(0, 2 * math.pi), SCALE)
    peak = float(np.clip(rng.normal(21.2, 1.2), 16.5, 23.3))
    light, start, duration = supernova(rng, peak, draw_night)
    sources = (host, *_around(rng, place, clear=3.0))
    return Thing("h", "supernova", place, sources, light, start, duration, (0.8, 0.0))


def nuclear(rng: np.random.Generator) -> Thing:
    """A quasar, an active nucleus, or a tidal disruption event in a galaxy's nucleus."""
    place = _draw_place(rng, _extragalactic)
    kind = str(rng.choice(("quasar", "active nucleus", "tidal disruption"), p=(0.35, 0.53, 0.12)))
    if kind == "quasar":
        magnitude, colour = float(rng.normal(20.0, 1.1)), float(rng.normal(0.25, 0.15))
        centre = Source(0.0, 0.0, magnitude, colour, "quasar")
    else:
        magnitude = float(np.clip(rng.normal(19.6, 1.2), 16.5, 22.5))
        nucleus = float(rng.uniform(0.15, 0.7)) if kind == "active nucleus" else 0.1
        centre = galaxy(rng, 0.0, 0.0, magnitude, nucleus=nucleus)
    centre = moved(centre, rng.rayleigh(0.03), rng.uniform(0, 2 * math.pi), SCALE)
    sources = (centre, *_around(rng, place, clear=3.0))
    if kind == "tidal disruption":
        found = disruption(rng, float(rng.normal(21.0, 0.9)), draw_night)
        return Thing("n", kind, place, sources, *found, (0.8, 0.0))
    light, start, duration = random_walk(rng, centre, centre.nucleus or 1.0, draw_night)
    seen = float(rng.beta(1.5, 1.2)) if rng.uniform() < 0.75 else 0.02
    return Thing("n", kind, place, sources, light, start, duration, (seen, 0.3 * seen))


def variable(rng: np.random.Generator) -> Thing:
    """A star that varies."""
    place = _draw_place(rng, _stellar)
    magnitude = float(np.clip(rng.normal(18.8, 1.7), 15.5, 23.0))
    centre = star(rng, 0.0, 0.0, magnitude)
    centre = moved(centre, rng.rayleigh(0.03), rng.uniform(0, 2 * math.pi), SCALE)
    sources = (centre, *_around(rng, place, clear=2.0))
    seen = float(rng.beta(1.5, 1.0)) if rng.uniform() < 0.8 else 0.02
    start = draw_night(rng, duration=500.0)
    light = pulsation(rng, centre)
    return Thing("v", "variable star", place, sources, light, start, 500.0, (seen, 0.3 * seen))


def orphan(rng: np.random.Generator) -> Thing:
    """An asteroid, or a transient whose host is too faint to see."""
    if rng.uniform() < 0.14:
        place = _draw_place(rng, _extragalactic)
        found = supernova(rng, float(np.clip(rng.normal(21.8, 0.9), 18, 23.3)), draw_night)
        sources = tuple(s for s in _around(rng, place, clear=8.0) if s.magnitude > 22.5)
        return Thing("o", "hostless", place, sources, *found, (0.7, 0.0))
    place = _draw_place(rng, _ecliptic)
    magnitude = float(np.clip(23.4 - rng.exponential(1.9), 16.0, 23.6))
    speed = rng.lognormal(math.log(0.5), 0.35)  # [arcsec/min]
    if rng.uniform() < 0.05:  # near the Earth
        speed = rng.uniform(4, 20)
    trail = float(speed * EXPOSURE_SECONDS / 60 / SCALE), float(rng.uniform(0, math.pi))
    colour = rng.normal(0.5, 0.1)

    def light(exposure: Exposure) -> float:
        return exposure.flux(magnitude + (colour, 0.0, -0.2)[exposure.fid - 1])

    return Thing(
        "o",
        "asteroid",
        place,
        tuple(_around(rng, place, clear=2.5)),
        light,
        draw_night(rng),
        0.1,
        (0.0, 0.0),
        trail,
        moving=True,
        known=bool(rng.uniform() < (0.9 if magnitude < 21.5 else 0.5)),
    )


# share of the bogus that the observatory's own network lets through
_BOGUS: Final = {
    "bright star": 0.3,
    "dipole": 0.26,
    "spike": 0.14,
    "cosmic ray": 0.08,
    "bad column": 0.05,
    "hot pixels": 0.04,
    "ghost": 0.08,
    "satellite": 0.05,
}


def bogus(rng: np.random.Generator) -> Thing:
    """What detectors, optics and subtraction do without any change on the sky."""
    kind = str(rng.choice(tuple(_BOGUS), p=tuple(_BOGUS.values())))
    on_star = kind in ("bright star", "dipole")
    place = _draw_place(rng, _stellar if on_star or kind == "spike" else lambda *_: 0.5)
    sources, subtraction, seen = _around(rng, place), None, 0.0
    if on_star:
        magnitude = float(rng.uniform(15.5, 19.5) if kind == "dipole" else rng.uniform(15, 18))
        angle, reach = rng.uniform(0, 2 * math.pi), rng.rayleigh(0.3)
        make = star if rng.uniform() < 0.75 else galaxy
        centre = make(rng, reach * math.cos(angle), reach * math.sin(angle), magnitude)
        sources = [centre, *(s for s in sources if math.hypot(s.x, s.y) > 3)]
        shift = rng.uniform(0.1, 0.7) if kind == "dipole" else rng.rayleigh(0.06)
        scale = rng.normal(0, 0.004)
        if kind == "bright star":  # the PSF is matched badly where it is brightest
            scale = rng.choice((-1.0, 1.0)) * rng.lognormal(math.log(0.012), 0.6)
        width = rng.normal(0, 0.1 if kind == "dipole" else 1.2)
        subtraction = Subtraction(
            float(shift * math.cos(angle)), float(shift * math.sin(angle)), float(scale), width
        )
        seen = float(rng.beta(0.8, 4.0))
    defect = None if on_star else _LSST_DEFECTS.get(kind) or DEFECTS[kind]
    return Thing(
        "b",
        kind,
        place,
        tuple(sources),
        None,
        draw_night(rng, duration=300.0),
        300.0,
        (seen, seen),
        subtraction=subtraction,
        defect=defect,
    )


def _spike(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    """A diffraction spike of a star outside the stamp, which turns with the camera."""
    return _streak(rng, exposure, width=rng.uniform(1.2, 3.0), fading=rng.uniform(8, 40))


def _satellite(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    """A satellite's streak, or a glint on it."""
    return _streak(rng, exposure, width=exposure.seeing / 2.355, fading=rng.uniform(2, 200))


def _streak(
    rng: np.random.Generator, exposure: Exposure, width: float, fading: float
) -> np.ndarray:
    angle = rng.uniform(0, math.pi)
    rows, columns = np.indices((STAMP_SIZE, STAMP_SIZE)) - CENTRE
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    level = exposure.noise * rng.lognormal(math.log(4), 0.6)
    return level * np.exp(-np.abs(along) / fading - (across / width) ** 2 / 2)


_LSST_DEFECTS: Final[dict[str, Defect]] = {"spike": _spike, "satellite": _satellite}

THINGS: Final = {"h": hosted, "o": orphan, "n": nuclear, "v": variable, "b": bogus}
"""Class -> maker of a random thing of it."""
