"""One simulated thing, visit by visit, as alert packets in LSST's schema 11.1."""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from acai_jax.coordinates import GALACTIC
from acai_jax.simulate.alert import NotDetectedError, SimulatedAlert
from acai_jax.simulate.lsst_images import (
    Pictures,
    Scene,
    beyond_edge,
    cut,
    far_too_faint,
    measure,
)
from acai_jax.simulate.lsst_schema import empty_object, empty_source
from acai_jax.simulate.lsst_sky import (
    EXPOSURE_SECONDS,
    SCALE,
    THINGS,
    Thing,
    Visit,
    draw_visit,
    plain_visits,
)
from acai_jax.surveys.lsst import LSST

_ATTEMPTS: Final = 12  # at one alert, before another thing takes this one's place
_LEAST_RELIABILITY: Final = 0.5  # below it nothing is sent
_AT_EDGE: Final = 0.01  # share of the alerts
_ROWS: Final = 30  # of earlier detections that a packet lists at the most
_YEAR: Final = 365.25
_BLOCK: Final = 2880
_TILT: Final = math.radians(23.43928)  # of the Earth's axis
_ECLIPTIC: Final = (
    (1.0, 0.0, 0.0),
    (0.0, math.cos(_TILT), math.sin(_TILT)),
    (0.0, -math.sin(_TILT), math.cos(_TILT)),
)
Rotation = tuple[tuple[float, float, float], ...]
_SOURCE: Final = empty_source()
_OBJECT: Final = empty_object()


def thing_packets(
    rng: np.random.Generator, label: str, first_id: int, count: int
) -> Iterator[SimulatedAlert]:
    """The alerts of one thing of class `label`, in the order of time.

    Args:
        rng: source of chance.
        label: class, one of CLASSES.
        first_id: diaSourceId of its first alert, and the thing's own; the next ones count on.
        count: how many alerts it sends.
    """
    kind, records = "", []
    while not records:
        kind, records = _try_thing(rng, label, first_id, count)
    for index, record in enumerate(records):
        source = record["diaSource"]
        record["diaSourceId"] = source["diaSourceId"] = first_id + index
        if record["ssSource"] is not None:
            record["ssSource"]["diaSourceId"] = first_id + index
    histories = [record["prvDiaSources"] for record in records]
    for index, before in enumerate(records[:-1]):
        if histories[index + 1] is not None:  # each alert was a detection
            last = before["diaSource"]["midpointMjdTai"]
            since = [row for row in histories[index + 1] if row["midpointMjdTai"] > last]
            histories[index + 1] = [*histories[index], before["diaSource"], *since]
    for record, rows in zip(records, histories, strict=True):
        if rows is not None:
            record["diaObject"] = _object(record["diaSource"], rows)
            record["prvDiaSources"] = _listed(rows) or None
    for record in records:
        yield SimulatedAlert(label, kind, record)


def _try_thing(
    rng: np.random.Generator, label: str, number: int, count: int
) -> tuple[str, list[dict[str, Any]]]:
    """What the thing is, and its alerts; none where it is too faint for one of them."""
    thing = THINGS[label](rng)
    scene = Scene(thing)
    try:
        alerts = [_alert(rng, scene, number) for _ in range(count)]
    except NotDetectedError:
        return thing.kind, []
    return thing.kind, sorted(alerts, key=lambda alert: alert["diaSource"]["midpointMjdTai"])


def _alert(rng: np.random.Generator, scene: Scene, number: int) -> dict[str, Any]:
    thing = scene.thing
    for _ in range(_ATTEMPTS):
        visit = draw_visit(rng, thing.start + rng.uniform(0, thing.duration))
        if far_too_faint(thing, visit):
            continue
        x, y = rng.uniform(-0.5, 0.5, 2).tolist()
        images = scene.pictures(rng, visit, x, y)
        found = measure(rng, images, visit, thing.place.templates[visit.band], x, y)
        if found is not None:
            if rng.uniform() < _AT_EDGE:
                beyond_edge(rng, images)
            return _record(rng, thing, visit, images, found, number, x, y)
    raise NotDetectedError


def _record(
    rng: np.random.Generator,
    thing: Thing,
    visit: Visit,
    images: Pictures,
    found: dict[str, Any],
    number: int,
    x: float,
    y: float,
) -> dict[str, Any]:
    known = thing.moving and thing.known
    source = {
        **_SOURCE,
        **found,
        **_place(rng, thing, visit, found),
        "diaObjectId": 0 if known else number,
        "ssObjectId": number if known else 0,
        "parentDiaSourceId": 0,
        "exposureTime": EXPOSURE_SECONDS,
        "band": visit.band,
        "reliability": _reliability(rng, thing, found),
        "reliabilityVersion": "simulated",
        "timeProcessedMjdTai": visit.mjd_tai + 0.002,
    }
    if rng.uniform() < 0.03:
        source |= dict.fromkeys(("psfFlux_flag", "forced_PsfFlux_flag"), True)
    if rng.uniform() < (0.1 if thing.label == "b" else 0.02):
        source["pixelFlags_interpolated"] = True
        source["pixelFlags_cr"] = bool(rng.uniform() < 0.5)
    side, turned = found["bboxSize"], rng.uniform(0, 360)
    packed = {
        "cutoutScience": (images.science, images.science_variance, images.psf),
        "cutoutTemplate": (images.template, images.template_variance, images.template_psf),
        "cutoutDifference": (images.difference, images.difference_variance, images.psf),
    }
    return {
        "observation_reason": "simulated",
        "target_name": "deep field" if thing.place.deep else "wide",
        "diaSource": {name: _plain(value) for name, value in source.items()},
        **(_NO_HISTORY if known else _history(rng, thing, visit, source, number)),
        "ssSource": _known_object(rng, thing, source, number) if known else None,
        "mpc_orbits": None,
        **{
            name: fits(cut(image, side, x, y), cut(variance, side, x, y), psf, turned)
            for name, (image, variance, psf) in packed.items()
        },
    }


def _place(
    rng: np.random.Generator, thing: Thing, visit: Visit, found: dict[str, Any]
) -> dict[str, Any]:
    """Where and when."""
    # the position of a detection scatters with its noise [arcsec]
    scatter = 0.015 + 0.4 * SCALE * visit.seeing / found["snr"]
    east, north = rng.normal(0, scatter, 2).tolist()
    place, error = thing.place, scatter / 3600
    night = int(visit.mjd_tai)
    return {
        "visit": 20_260_000_00000 + (night % 1000) * 10**5 + int(visit.mjd_tai % 1 * 10**5),
        "detector": int(rng.integers(0, 189)),
        "midpointMjdTai": visit.mjd_tai,
        "ra": (place.ra + east / 3600 / math.cos(math.radians(place.dec))) % 360,
        "dec": place.dec + north / 3600,
        "raErr": error,
        "decErr": error,
        "ra_dec_Cov": 0.0,
        "x": float(rng.uniform(60, 4010)),
        "y": float(rng.uniform(60, 3940)),
        "xErr": scatter / SCALE,
        "yErr": scatter / SCALE,
        "trailRa": place.ra,
        "trailDec": place.dec,
        "trailFlux": found["psfFlux"],
    }


def _reliability(rng: np.random.Generator, thing: Thing, found: dict[str, Any]) -> float:
    """The observatory's own opinion, of what it lets through."""
    shape = (1.3, 1.6) if thing.label == "b" or found["isDipole"] else (2.5, 0.7)
    return _LEAST_RELIABILITY + (1 - _LEAST_RELIABILITY) * float(rng.beta(*shape))


_NO_HISTORY: Final = {"diaObject": None, "prvDiaSources": None, "prvDiaForcedSources": None}


def _history(
    rng: np.random.Generator, thing: Thing, visit: Visit, source: dict[str, Any], number: int
) -> dict[str, Any]:
    """Earlier detections here, and forced photometry in all visits of the last months."""
    since = min(visit.jd - thing.start, _YEAR)
    share, share_before = thing.seen
    before = min(_YEAR - since, 200.0) if share_before else 0.0
    times = [
        *_times(rng, visit.jd - since - before, before, thing.place.visits, share_before),
        *_times(rng, visit.jd - since, since, thing.place.visits, share),
    ]
    visits = plain_visits(rng, sorted(times))
    rows = [_earlier(rng, thing, other, visit, source) for other in visits]
    first = min([visit.jd, *times])
    forced = _times(rng, first, min(visit.jd - first, _YEAR), thing.place.visits, 1.0)
    return {
        "diaObject": None,  # it sums up what is known in the end
        "prvDiaSources": rows,
        "prvDiaForcedSources": [
            _forced(rng, thing, other, visit, source, number)
            for other in plain_visits(rng, sorted(forced))
        ],
    }


def _object(source: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What sums up an alert and the detections before it; statistics are those of its band."""
    band = source["band"]
    fluxes = [row["psfFlux"] for row in (*rows, source) if row["band"] == band]
    spread = float(np.std(fluxes)) if len(fluxes) > 1 else None
    return {
        **_OBJECT,
        "diaObjectId": source["diaObjectId"],
        "validityStartMjdTai": source["midpointMjdTai"],
        **{name: source[name] for name in ("ra", "raErr", "dec", "decErr", "ra_dec_Cov")},
        f"{band}_psfFluxMean": float(np.mean(fluxes)),
        f"{band}_psfFluxMeanErr": source["psfFluxErr"] / math.sqrt(len(fluxes)),
        f"{band}_psfFluxSigma": spread,
        f"{band}_psfFluxNdata": len(fluxes),
        f"{band}_psfFluxMin": min(fluxes),
        f"{band}_psfFluxMax": max(fluxes),
        f"{band}_psfFluxErrMean": source["psfFluxErr"],
        f"{band}_scienceFluxMean": source["scienceFlux"],
        "nDiaSources": 1 + len(rows),
    }


def _listed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row, which says since when, and the newest."""
    return rows if len(rows) <= _ROWS else [rows[0], *rows[1 - _ROWS :]]


def _times(
    rng: np.random.Generator, start: float, days: float, visits: float, share: float
) -> list[float]:
    """JD of those visits in a stretch of time that do something, in no order."""
    number = rng.poisson(max(0.0, days) / _YEAR * visits * share)
    return (start + rng.uniform(0, max(0.0, days), number)).tolist()


def _earlier(
    rng: np.random.Generator, thing: Thing, other: Visit, visit: Visit, source: dict[str, Any]
) -> dict[str, Any]:
    """An earlier detection: its flux is the light curve's."""
    flux, error = _flux_then(rng, thing, other, visit, source)
    return {
        **_SOURCE,
        **{name: source[name] for name in ("ra", "dec", "raErr", "decErr", "diaObjectId")},
        "midpointMjdTai": other.mjd_tai,
        "band": other.band,
        "psfFlux": flux,
        "psfFluxErr": error,
        "snr": max(5.0, abs(flux) / error),
        "isNegative": flux < 0,
        "bboxSize": source["bboxSize"],
        "timeProcessedMjdTai": other.mjd_tai + 0.002,
    }


def _forced(
    rng: np.random.Generator,
    thing: Thing,
    other: Visit,
    visit: Visit,
    source: dict[str, Any],
    number: int,
) -> dict[str, Any]:
    flux, error = _flux_then(rng, thing, other, visit, source)
    return {
        "diaForcedSourceId": number,
        "diaObjectId": number,
        "ra": source["ra"],
        "dec": source["dec"],
        "visit": 0,
        "detector": source["detector"],
        "psfFlux": flux,
        "psfFluxErr": error,
        "midpointMjdTai": other.mjd_tai,
        "scienceFlux": None,
        "scienceFluxErr": None,
        "band": other.band,
        "timeProcessedMjdTai": other.mjd_tai + 0.002,
        "timeWithdrawnMjdTai": None,
    }


def _flux_then(
    rng: np.random.Generator, thing: Thing, other: Visit, visit: Visit, source: dict[str, Any]
) -> tuple[float, float]:
    error = source["psfFluxErr"] * other.noise / visit.noise
    if thing.light is None:  # what a subtraction leaves differs from visit to visit
        return source["psfFlux"] * float(rng.normal(0.6, 0.7)), error
    return thing.light(other) + float(rng.normal(0, error)), error


def _known_object(
    rng: np.random.Generator, thing: Thing, source: dict[str, Any], number: int
) -> dict[str, Any]:
    """What the catalogue of orbits says of a known object."""
    ra, dec = (float(source[name] + rng.normal(0, 0.2) / 3600) for name in ("ra", "dec"))
    length, _ = thing.trail
    ecliptic, galactic = (_angles(source, rotation) for rotation in (_ECLIPTIC, GALACTIC))
    return {
        "ssObjectId": number,
        "designation": f"simulated {number}",
        "eclLambda": ecliptic[0],
        "eclBeta": ecliptic[1],
        "galLon": galactic[0],
        "galLat": galactic[1],
        "ephRa": ra,
        "ephDec": dec,
        "ephVmag": 31.4 - 2.5 * math.log10(abs(source["psfFlux"])) + float(rng.normal(0, 0.3)),
        "ephRate": length * SCALE / EXPOSURE_SECONDS / 3600 * 86400,  # [deg/day]
    }


def _angles(source: dict[str, Any], rotation: Rotation) -> tuple[float, float]:
    """Longitude and latitude [deg] in other coordinates."""
    ra, dec = (math.radians(source[name]) for name in ("ra", "dec"))
    east = (math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec))
    x, y, z = (sum(a * b for a, b in zip(row, east, strict=True)) for row in rotation)
    return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))


def fits(image: np.ndarray, variance: np.ndarray, psf: np.ndarray, turned: float) -> bytes:
    """A cutout: a FITS file of the image [nJy], its variance, and its PSF.

    Args:
        image: of the stamp.
        variance: of each pixel.
        psf: in the middle of the detector.
        turned: position angle of the camera [deg].
    """
    height, width = image.shape
    cosine, sine = (f(math.radians(turned)) * SCALE / 3600 for f in (math.cos, math.sin))
    angles = (("PC1_1", -cosine), ("PC1_2", sine), ("PC2_1", sine), ("PC2_2", cosine))
    primary = (
        _card("SIMPLE", "T"),
        *_axes(-32, image.shape),
        _card("EXTEND", "T"),
        _card("ROTPA", f"{turned:.10f}"),
        _card("BUNIT", "'nJy     '"),
        _card("WCSAXES", 2),
        _card("CRPIX1", (width + 1) / 2),
        _card("CRPIX2", (height + 1) / 2),
        *(_card(name, f"{value:.13E}") for name, value in angles),
    )
    noise = (
        *_extension(-32, variance.shape),
        _card("UTYPE", "'VarianceUncertainty'"),
        _card("EXTNAME", "'UNCERT  '"),
    )
    shape = (*_extension(-64, psf.shape), _card("EXTNAME", "'PSFIMAGE'"))
    parts = ((primary, image, ">f4"), (noise, variance, ">f4"), (shape, psf, ">f8"))
    blocks = itertools.chain.from_iterable(
        ("".join((*cards, "END")).ljust(_BLOCK).encode(), array.astype(kind).tobytes())
        for cards, array, kind in parts
    )
    return b"".join(block + bytes(-len(block) % _BLOCK) for block in blocks)


@functools.cache
def _extension(bits: int, shape: tuple[int, ...]) -> tuple[str, ...]:
    plain = (_card("PCOUNT", 0), _card("GCOUNT", 1))
    return (_card("XTENSION", "'IMAGE   '"), *_axes(bits, shape), *plain)


@functools.cache
def _axes(bits: int, shape: tuple[int, ...]) -> tuple[str, ...]:
    height, width = shape
    named = (("BITPIX", bits), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height))
    return tuple(_card(name, value) for name, value in named)


def _card(name: str, value: object) -> str:
    text = str(value)
    return f"{name:<8}= {text if text.startswith(chr(39)) else text.rjust(20)}".ljust(80)


def _plain(value: Any) -> Any:
    """Python's own types: Avro writers refuse NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def identity(record: dict[str, Any]) -> tuple[str, int]:
    """The object's name and the alert's identifier of a packet."""
    source = record["diaSource"]
    object_id, known = source["diaObjectId"], source["ssObjectId"]
    return str(object_id) if object_id else f"sso{known}", source[LSST.alert_id]
