"""Where and how the survey looks: pointings, their cadence and reference images, exposures."""

import bisect
import dataclasses
import math
from typing import Final, Literal

import numpy as np

PIXEL_SCALE: Final = 1.01
"""Arcseconds along one pixel."""
SURVEY_START: Final = 2458194.5
"""JD of the first public night, 2018 March 17."""
EXPOSURE_SECONDS: Final = 30.0
GAIN: Final = 8.0
"""Electrons per DN, as the noise of real stamps against their sky gives it."""

NOISY: Final = 0.6
"""Share of exposures that are noisier than their sky explains, where nothing else is known."""

_LAST_NIGHT: Final = 2461040.5  # 2025 December 31
_READ_VARIANCE: Final = 14.0  # [DN^2], from the same comparison
_DECLINATIONS: Final = (-28.0, 86.0)
_GALACTIC_POLE: Final = (192.8595, 27.1283)
_ECLIPTIC_POLE: Final = (270.0, 66.5607)
# per filter g, r, i: running share of exposures, sky [DN], zero point [mag], colour coefficient
_SHARES: Final = (0.44, 0.94)  # of g, and of g and r
_SKY: Final = {1: 110.0, 2: 185.0, 3: 210.0}
_ZERO_POINTS: Final = {1: 26.28, 2: 26.24, 3: 25.75}
_COLOUR_COEFFICIENTS: Final = {1: -0.061, 2: 0.103, 3: 0.01}
# median error of the zero point under a clear sky [mag], and how its logarithm grows with cloud:
# from quantiles of 911 real alerts, as the rest of the calibration
_ZERO_POINT_ERRORS: Final = {1: 1.9e-5, 2: 6.5e-6, 3: 9e-6}
_ERROR_PER_CLOUD: Final = 1.75

Region = Literal["anywhere", "stellar", "plane", "extragalactic", "ecliptic"]
"""Stars crowd the Galactic plane, which hides galaxies; asteroids keep to the ecliptic."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """The coadd that exposures of one filter are compared with."""

    frames: int
    first: float
    """JD of its earliest exposure."""
    last: float
    seeing: float
    """FWHM [pixel]."""
    noise: float
    """Of one pixel of the coadd's empty sky under a clear sky's zero point, one sigma [DN]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pointing:
    """A place on the sky and on the detector, and how often the survey comes by.

    Attributes:
        ra, dec: [deg].
        latitude: galactic [deg].
        stars: stars brighter than 21 mag per square arcminute.
        visits_per_year: over all filters.
        field, rcid: ZTF field and readout channel.
        xpos, ypos: position on the channel's image [pixel].
        references: by filter (1 g, 2 r, 3 i).
    """

    ra: float
    dec: float
    latitude: float
    stars: float
    visits_per_year: float
    field: int
    rcid: int
    xpos: float
    ypos: float
    references: dict[int, Reference]

    def visits_before(self, jd: float) -> int:
        """How often the survey has covered this place before `jd`."""
        return max(1, round((jd - SURVEY_START) / 365.25 * self.visits_per_year))


@dataclasses.dataclass(frozen=True, slots=True)
class Exposure:
    """One 30 s exposure, as far as a stamp shows it.

    Attributes:
        jd: start [day]; fid: filter (1 g, 2 r, 3 i).
        seeing: FWHM of the science image's PSF [pixel].
        sky: background [DN]; noise: of one pixel of empty sky, one sigma [DN].
        zero_point: [mag]; colour_coefficient: of the photometric calibration.
        zero_point_error: [mag]; colour_error: of the colour coefficient.
        cloud: how much fainter thick clouds make everything [mag].
    """

    jd: float
    fid: int
    seeing: float
    sky: float
    noise: float
    zero_point: float
    colour_coefficient: float
    zero_point_error: float = 1e-5
    colour_error: float = 1.5e-5
    cloud: float = 0.0

    @property
    def difference_seeing(self) -> float:
        """FWHM of a point source in the difference image [pixel]: a little wider."""
        return 1.17 * self.seeing

    @property
    def registration(self) -> float:
        """Error of the images' registration that `scorr` allows for [pixel]; clouds hide stars."""
        return 0.05 + 0.05 * min(self.cloud, 2.0)

    @property
    def depth(self) -> float:
        """5-sigma limit of the difference image [mag], by the survey's conservative rule."""
        area = 4 * math.pi * (self.difference_seeing / 2.355) ** 2
        return self.magnitude(5 * 1.85 * self.noise * math.sqrt(area))

    def flux(self, magnitude: float) -> float:
        """[mag] -> [DN]."""
        return 10 ** (0.4 * (self.zero_point - magnitude))

    def magnitude(self, flux: float) -> float:
        """[DN] -> [mag]."""
        return self.zero_point - 2.5 * math.log10(flux)


def draw_pointing(rng: np.random.Generator, region: Region) -> Pointing:
    """A random place in the survey's footprint, more often where things of its kind are."""
    while True:
        ra = rng.uniform(0, 360)
        low, high = (math.sin(math.radians(d)) for d in _DECLINATIONS)
        dec = math.degrees(math.asin(rng.uniform(low, high)))
        latitude = _latitude(ra, dec, *_GALACTIC_POLE)
        # dust and arms scatter them
        stars = (0.8 + 24 * math.exp(-abs(latitude) / 10)) * rng.lognormal(-0.2, 0.8)
        stars = min(stars, 70.0)
        if rng.uniform() < _abundance(region, ra, dec, latitude, stars):
            break
    references = {}
    for fid in (1, 2, 3):
        first = SURVEY_START + rng.uniform(0, 120)
        last = first + rng.uniform(20, 200)
        frames = int(rng.integers(15, 41))
        seeing, noise = rng.normal(2.15, 0.12), rng.lognormal(math.log(7), 0.25)
        references[fid] = Reference(frames, first, last, seeing, noise / math.sqrt(frames))
    return Pointing(
        ra=ra,
        dec=dec,
        latitude=latitude,
        stars=stars,
        visits_per_year=float(np.clip(rng.lognormal(math.log(260), 0.9), 10, 1100)),
        field=int(245 + (dec + 30) * 5.4),
        rcid=int(rng.integers(0, 64)),
        xpos=float(rng.uniform(40, 3032)),
        ypos=float(rng.uniform(40, 3040)),
        references=references,
    )


def _abundance(region: Region, ra: float, dec: float, latitude: float, stars: float) -> float:
    """How many objects of a region's kind there are here, from 0 to 1."""
    if region == "stellar":
        return min(1.0, (stars / 8) ** 0.7)
    if region == "plane":
        return min(1.0, (stars / 40) ** 2)
    if region == "extragalactic":  # dust hides the rest
        return 1 - math.exp(-max(0.0, abs(latitude) - 8) / 6)
    if region == "ecliptic":
        return math.exp(-abs(_latitude(ra, dec, *_ECLIPTIC_POLE)) / 8)
    return 1.0


def draw_night(rng: np.random.Generator, *, duration: float = 0.0) -> float:
    """A random JD of the survey, so long before its end that `duration` [day] fits."""
    # the references come first
    return float(rng.uniform(SURVEY_START + 330, _LAST_NIGHT - duration))


def draw_exposure(
    rng: np.random.Generator, jd: float, clouds: float, noisy: float = NOISY
) -> Exposure:
    """The conditions of one exposure: filter, seeing, sky brightness, transparency.

    Args:
        rng: source of chance.
        jd: when.
        clouds: share of exposures that are taken through thick clouds.
        noisy: share of exposures that are noisier than their sky explains.
    """
    fid = 1 + bisect.bisect(_SHARES, rng.uniform())
    seeing = rng.lognormal(math.log(2.0 if fid > 1 else 2.12), 0.14)
    if rng.uniform() < 0.12:
        seeing *= rng.uniform(1.3, 2.2)
    sky = _SKY[fid] * rng.lognormal(0, 0.28)
    noise = math.sqrt(sky / GAIN + _READ_VARIANCE)
    if rng.uniform() < noisy:
        noise *= rng.uniform(1.2, 3.4)
    zero_point = _ZERO_POINTS[fid] + rng.normal(0, 0.08)
    cloud = 0.0
    if rng.uniform() < clouds:
        cloud = rng.uniform(2, 4.4)
        # real stamps have less sky then, and the noise of the detector and its calibration
        sky, noise = sky * 10 ** (-0.4 * cloud), rng.normal(10.6, 0.5)
    elif rng.uniform() < 0.1:
        cloud = rng.exponential(0.35)
    zero_point -= cloud
    # few stars are left to calibrate with
    error = _ZERO_POINT_ERRORS[fid] * rng.lognormal(_ERROR_PER_CLOUD * cloud, 0.7)
    return Exposure(
        jd=jd,
        fid=fid,
        seeing=float(np.clip(seeing, 1.5, 5.5)),
        sky=float(sky),
        noise=float(noise),
        zero_point=float(zero_point),
        colour_coefficient=float(_COLOUR_COEFFICIENTS[fid] + rng.normal(0, 0.016 + 0.03 * cloud)),
        zero_point_error=float(error),
        colour_error=float(error * rng.lognormal(0.4, 0.28)),
        cloud=float(cloud),
    )


def _latitude(ra: float, dec: float, pole_ra: float, pole_dec: float) -> float:
    """Latitude [deg] above the plane that has this pole."""
    a, d, p = math.radians(ra - pole_ra), math.radians(dec), math.radians(pole_dec)
    sine = math.sin(d) * math.sin(p) + math.cos(d) * math.cos(p) * math.cos(a)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))
