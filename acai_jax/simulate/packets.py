"""One simulated object, epoch by epoch, as alert packets in ZTF's schema 4.02."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from isal import igzip

from acai_jax.simulate.alert import NotDetectedError, SimulatedAlert
from acai_jax.simulate.artefacts import NEAREST, Bogus, draw_bogus, draw_missing
from acai_jax.simulate.catalogues import (
    catalogue_entries,
    faint_sources,
    gaia,
    gaia_sources,
    pan_starrs,
    reference_source,
)
from acai_jax.simulate.images import (
    Field,
    Stamps,
    Subtraction,
    draw_subtraction,
    expose,
    left_over,
    mask_pixels,
    point_change,
)
from acai_jax.simulate.objects import OBJECTS, SkyObject
from acai_jax.simulate.observing import (
    EXPOSURE_SECONDS,
    GAIN,
    NOISY,
    PIXEL_SCALE,
    SURVEY_START,
    Exposure,
    draw_exposure,
    draw_night,
)
from acai_jax.simulate.optics import moffat
from acai_jax.simulate.photometry import LEAST_SCORR, detection, matched_filter
from acai_jax.simulate.schema402 import SCHEMA_VERSION, previous_fields
from acai_jax.surveys.ztf import CUTOUTS, SENTINEL, STAMP_SIZE

_ATTEMPTS: Final = 12  # at one alert, before another object takes this one's place
_PATCH: Final = (9, 9)  # pixels that a first look takes in
_PREVIOUS_DAYS: Final = 30.0
_PREVIOUS: Final = previous_fields()


def object_packets(
    rng: np.random.Generator, label: str, name: str, first_candid: int, count: int
) -> Iterator[SimulatedAlert]:
    """The alerts of one object of class `label`, in the order of time.

    Args:
        rng: source of chance.
        label: class, one of CLASSES.
        name: objectId.
        first_candid: of its first alert; the next ones count on.
        count: how many alerts it sends.
    """
    kind, records = "", []
    while not records:
        kind, records = _try_object(rng, label, count)
    candidates = [record["candidate"] for record in records]
    for before, after in itertools.pairwise(candidates):  # each alert was a detection
        after["ndethist"] = max(after["ndethist"], before["ndethist"] + 1)
        after["ncovhist"] = max(after["ncovhist"], after["ndethist"])
        after["jdstarthist"] = before["jdstarthist"]
    for index, record in enumerate(records):
        candid = first_candid + index
        record |= {"objectId": name, "candid": candid}
        record["candidate"]["candid"] = candid
        record["prv_candidates"] = _previous(candidates[:index], record["candidate"]["jd"])
        for cutout, image in zip(CUTOUTS, ("science", "template", "difference"), strict=True):
            data = record.pop(image)
            record[cutout] = {"fileName": f"candid{candid}_{image}.fits.gz", "stampData": data}
        yield SimulatedAlert(label, kind, record)


def _try_object(
    rng: np.random.Generator, label: str, count: int
) -> tuple[str, list[dict[str, Any]]]:
    """What the object is, and its alerts; none where it is too faint for one of them."""
    thing = draw_bogus(rng) if label == "b" else OBJECTS[label](rng)
    scene = _Scene(rng, thing)
    try:
        alerts = [scene.alert(rng) for _ in range(count)]
    except NotDetectedError:
        return thing.kind, []
    return thing.kind, sorted(alerts, key=lambda alert: alert["candidate"]["jd"])


class _Scene:
    """An object with all that stays the same from alert to alert."""

    def __init__(self, rng: np.random.Generator, thing: SkyObject | Bogus) -> None:
        self.thing = thing
        self.pointing = thing.pointing
        self.field = Field(thing.sources)
        self.entries = catalogue_entries(rng, thing.sources)
        self.gaia = gaia_sources(thing.sources)
        self.stars = [s for s in thing.sources if s.kind != "galaxy" and s.distance < 1]
        self.faint = faint_sources(rng)
        if isinstance(thing, Bogus):
            self.start, self.duration = draw_night(rng, duration=300.0), 300.0
        else:
            self.start, self.duration = thing.start, thing.duration
        self.clouds = thing.clouds if isinstance(thing, Bogus) else 0.04
        self.noisy = NOISY if isinstance(thing, Bogus) else thing.noisy
        self.missing_share = 0.22 if isinstance(thing, Bogus) else 0.07

    def alert(self, rng: np.random.Generator) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            jd = self.start + rng.uniform(0, self.duration)
            exposure = draw_exposure(rng, jd, self.clouds, self.noisy)
            # the brightest pixel is the stamp's central one
            x, y = rng.uniform(-0.5, 0.5, 2).tolist()
            stamps = self._stamps(rng, exposure, x, y)
            if stamps is None:
                continue
            found = detection(rng, stamps, exposure, x, y)
            if found is None:
                continue
            candidate = self._candidate(rng, stamps, exposure, found)
            if not self._looks_real(rng, candidate["drb"]):
                return _record(candidate, stamps)
        raise NotDetectedError

    def _looks_real(self, rng: np.random.Generator, drb: float) -> bool:
        """Whether nobody would label it as bogus, though it is: a star whose flux seems to change.

        A quarter of 51 real alerts in clouds has a `drb` above 0.94, and a twentieth of 141 real
        bogus one above 0.97.
        """
        on_star = isinstance(self.thing, Bogus) and self.thing.defect is None
        return on_star and rng.uniform() < drb**2

    def _stamps(
        self, rng: np.random.Generator, exposure: Exposure, x: float, y: float
    ) -> Stamps | None:
        thing = self.thing
        subtraction = draw_subtraction(rng)
        if isinstance(thing, Bogus):
            subtraction = thing.subtraction
            if thing.defect is None:
                if self._left_over(exposure, subtraction, x, y) < LEAST_SCORR - 1:
                    return None  # noise would make an alert of one in twenty
                change = np.zeros((STAMP_SIZE, STAMP_SIZE))
            else:
                change = thing.defect(rng, exposure)
        else:
            flux = thing.light(exposure)
            if abs(flux) < self._faintest(exposure):
                return None  # far too faint to be worth drawing
            length, angle = (thing.orbit.trail, thing.orbit.angle) if thing.orbit else (0.0, 0.0)
            change = point_change(x, y, flux, exposure, length=length, angle=angle)
        bad = self.field.masked(exposure, x, y)
        if bad[NEAREST, NEAREST].any():
            return None  # where a star saturates, the survey sends no alerts
        reference = self.pointing.references[exposure.fid]
        stamps = expose(rng, self.field, exposure, reference, (x, y), change, subtraction)
        bad |= draw_missing(rng, self.missing_share)
        if bad.any():
            mask_pixels(rng, stamps, bad)
        return stamps

    def _left_over(self, exposure: Exposure, subtraction: Subtraction, x: float, y: float) -> float:
        """Signal to noise that a bad subtraction leaves of the star at the centre."""
        star = self.thing.sources[0]
        at_star, at_centre = (
            moffat(x + dx, y + dy, exposure.seeing, _PATCH) for dx, dy in ((star.x, star.y), (0, 0))
        )
        light = exposure.flux(star.in_filter(exposure.fid)) * at_star
        residual, unsure = left_over(light, subtraction, exposure.registration)
        noise = np.sqrt(exposure.noise**2 + light / GAIN + unsure)
        flux, error = matched_filter(residual, noise, at_centre)
        return abs(flux) / error

    def _faintest(self, exposure: Exposure) -> float:
        """Flux [DN] below which a change here is surely not detected."""
        # a star that the change sits on leaves a residual of misregistration: scorr counts it
        star = sum(exposure.flux(s.in_filter(exposure.fid)) for s in self.stars)
        sigma = exposure.seeing / 2.355
        residual = exposure.registration * star / (math.sqrt(4 * math.pi) * sigma**2)
        return max(exposure.flux(exposure.depth + 0.35), 4.4 * residual)

    def _candidate(
        self,
        rng: np.random.Generator,
        stamps: Stamps,
        exposure: Exposure,
        found: dict[str, Any],
    ) -> dict[str, Any]:
        reference = self.pointing.references[exposure.fid]
        # the position of a detection scatters with its noise [arcsec]
        scatter = 0.03 + 0.5 * PIXEL_SCALE * exposure.seeing / found["scorr"]
        x, y = rng.normal(0, scatter, 2).tolist()
        candidate = {
            **found,
            **_survey_fields(rng, self, exposure, x, y),
            **pan_starrs(self.entries, x, y),
            **gaia(self.gaia, x, y),
            **reference_source(rng, self.thing.sources, self.faint, exposure, reference, x, y),
            **_history(rng, self.thing, exposure.jd),
            **_solar_system(rng, self.thing, found["magpsf"]),
            **_reliability(rng, self.thing, found, exposure.cloud),
            "mindtoedge": _edge_distance(self.pointing.xpos, self.pointing.ypos, stamps.bad),
        }
        return {k: _plain(v) for k, v in candidate.items()}


def _record(candidate: dict[str, Any], stamps: Stamps) -> dict[str, Any]:
    sign = 1.0 if candidate["isdiffpos"] == "t" else -1.0
    return {
        "schemavsn": SCHEMA_VERSION,
        "publisher": "acai_jax (simulated)",
        "candidate": candidate,
        "fp_hists": None,
        "science": fits_gz(stamps.science),
        "template": fits_gz(stamps.template),
        "difference": fits_gz(sign * stamps.difference),
    }


def fits_gz(image: np.ndarray) -> bytes:
    """A gzipped FITS file of one float32 image, as a cutout holds it."""
    height, width = image.shape
    cards = (
        "SIMPLE  =                    T",
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
        f"NAXIS1  = {width:20d}",
        f"NAXIS2  = {height:20d}",
        "BUNIT   = 'DN      '",
        "END",
    )
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode("ascii")
    with np.errstate(over="ignore"):
        data = image.astype(">f4").tobytes()
    return igzip.compress(header + data + bytes(-len(data) % 2880), compresslevel=1, mtime=0)


def _survey_fields(
    rng: np.random.Generator, scene: _Scene, exposure: Exposure, x: float, y: float
) -> dict[str, Any]:
    pointing = scene.pointing
    reference = pointing.references[exposure.fid]
    night = int(exposure.jd - 2457754.5)
    pid = night * 10**9 + int((exposure.jd % 1) * 10**6) * 1000 + pointing.rcid * 10
    scatter = abs(rng.normal(0.045, 0.012))
    return {
        "jd": exposure.jd,
        "fid": exposure.fid,
        "pid": pid,
        "diffmaglim": exposure.depth,
        "pdiffimfilename": f"simulated_{pid}_scimrefdiffimg.fits",
        "programpi": "simulated",
        "programid": 1,
        "tblid": int(rng.integers(0, 200)),
        "nid": night,
        "rcid": pointing.rcid,
        "field": pointing.field,
        "xpos": pointing.xpos,
        "ypos": pointing.ypos,
        "ra": (pointing.ra + x / 3600 / math.cos(math.radians(pointing.dec))) % 360,
        "dec": pointing.dec + y / 3600,
        "ranr": pointing.ra,
        "decnr": pointing.dec,
        "tooflag": 0,
        "rfid": pointing.field * 10**6 + exposure.fid * 10**5 + pointing.rcid,
        "jdstartref": reference.first,
        "jdendref": reference.last,
        "nframesref": reference.frames,
        "magzpsci": exposure.zero_point,
        "magzpsciunc": exposure.zero_point_error,
        "magzpscirms": scatter,
        "nmatches": int(rng.integers(60, 2000) * 10 ** (-0.3 * exposure.cloud)),
        "clrcoeff": exposure.colour_coefficient,
        "clrcounc": exposure.colour_error,
        "zpclrcov": -exposure.colour_error * rng.uniform(0.5, 1),
        "zpmed": exposure.zero_point + rng.normal(0.02, 0.03),
        "clrmed": rng.normal(0.68, 0.1),
        "clrrms": rng.normal(0.26, 0.05),
        "exptime": EXPOSURE_SECONDS,
    }


def _history(
    rng: np.random.Generator, thing: SkyObject | Bogus, jd: float
) -> dict[str, float | int]:
    """Earlier detections at this place, and visits to it."""
    visits = thing.pointing.visits_before(jd)
    earlier = rng.binomial(visits, thing.detected)
    if isinstance(thing, SkyObject):
        active = thing.duration / 365.25 * thing.pointing.visits_per_year
        fraction = min(1.0, (jd - thing.start) / thing.duration)
        if thing.orbit is None:
            # since it is active, a part of all visits saw it
            earlier += rng.binomial(max(0, round(active * fraction)), thing.seen)
        elif rng.uniform() < 0.05:
            earlier = 1
    first = max(SURVEY_START, jd - (jd - SURVEY_START) * min(1.0, 0.1 + 0.05 * earlier))
    return {
        "ndethist": 1 + min(int(earlier), visits - 1),
        "ncovhist": visits,
        "jdstarthist": float(rng.uniform(first, jd)) if earlier else jd,
        "jdendhist": jd,
    }


def _solar_system(
    rng: np.random.Generator, thing: SkyObject | Bogus, magnitude: float
) -> dict[str, Any]:
    if isinstance(thing, SkyObject) and thing.orbit and thing.orbit.name:
        return {
            "ssdistnr": float(rng.rayleigh(0.5)),
            "ssmagnr": magnitude + rng.normal(0, 0.25),
            "ssnamenr": thing.orbit.name,
        }
    return {"ssdistnr": SENTINEL, "ssmagnr": SENTINEL, "ssnamenr": "null"}


def _reliability(
    rng: np.random.Generator, thing: SkyObject | Bogus, found: dict[str, Any], cloud: float
) -> dict[str, Any]:
    """Scores as the survey's own real/bogus classifiers give them.

    A regression of the logit over 219 real alerts: both distrust negative lobes, long and lost
    shapes, poor fits and clouds. What detectors and optics do, they recognise.
    """
    if isinstance(thing, Bogus) and thing.defect is not None:
        logit, rb = rng.normal(-2.4, 2.4), rng.normal(0.42, 0.14)
    else:
        certainty = min(3.0, 2 * math.log10(found["scorr"] / 5))
        logit = 8.6 - 8.9 * (1 - found["sumrat"]) - 6.4 * math.log(found["elong"])
        logit += 2.2 * math.log(found["scorr"] / 5) - 0.7 * math.log(found["chipsf"])
        logit -= 2.5 * (found["seeratio"] == 2) + 2.3 * min(cloud, 4.0) + rng.normal(0, 2.6)
        rb = rng.normal(0.5 + 0.03 * min(logit, 12) + 0.02 * certainty, 0.11)
    return {
        "drb": 1 / (1 + math.exp(-logit)),
        "drbversion": "simulated",
        "rb": float(np.clip(rb, 0.02, 0.99)),
        "rbversion": "simulated",
    }


def _edge_distance(xpos: float, ypos: float, bad: np.ndarray) -> float:
    """To the chip's edge [pixel]; where a stamp's border lacks data, the edge is on the stamp."""
    for side in (bad, bad.T, bad[::-1], bad.T[::-1]):
        if side[0].all():
            return float(STAMP_SIZE // 2 - int(np.argmin(side.all(axis=1))))
    return min(xpos, ypos, 3072 - xpos, 3080 - ypos)


def _previous(earlier: list[Mapping[str, Any]], jd: float) -> list[dict[str, Any]] | None:
    """The object's detections of the last 30 days."""
    recent = [c for c in earlier if jd - c["jd"] < _PREVIOUS_DAYS]
    return [{name: c[name] for name in _PREVIOUS} for c in recent] or None


def _plain(value: Any) -> Any:
    """Python's own types: Avro writers refuse NumPy's."""
    return value.item() if isinstance(value, np.generic) else value
