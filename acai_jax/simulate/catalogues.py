"""Catalogue neighbours of an alert: Pan-STARRS1, Gaia, and the reference image's own sources."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from acai_jax.simulate.observing import PIXEL_SCALE, Exposure, Reference
from acai_jax.simulate.sky import Source
from acai_jax.surveys.ztf import SENTINEL

_PS1_RADIUS: Final = 30.0  # [arcsec]
_PS1_LIMIT: Final = 22.8  # [mag] in r
_FILTERS: Final = (1, 2, 3, 3)  # whose magnitudes stand for g, r, i and z
_VOTES: Final = 800  # the smallest common step of real star scores is about 1/800
_GAIA_LIMIT: Final = 20.6
_GAIA_BRIGHT: Final = 14.0
_FAINT_SOURCES: Final = 12.0  # per square arcminute that only the reference's catalogue has


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A source of the Pan-STARRS1 catalogue: position [arcsec] from the object, and its fields."""

    x: float
    y: float
    magnitudes: tuple[float, ...]
    star_score: float
    number: int


def catalogue_entries(rng: np.random.Generator, sources: Sequence[Source]) -> list[Entry]:
    """What Pan-STARRS1 lists around an object, and a little beyond."""
    near = [s for s in sources if s.distance < _PS1_RADIUS + 3 and s.magnitude < _PS1_LIMIT]
    listed = [part for source in near for part in (source, *_split(rng, source))]
    shape = (len(listed), len(_FILTERS))
    drawn = zip(
        listed,
        rng.random(shape).tolist(),
        rng.normal(0, 0.03, shape).tolist(),
        rng.standard_normal((len(listed), 2)).tolist(),
        rng.integers(10**17, 2 * 10**17, len(listed)).tolist(),
        strict=True,
    )
    return [_entry(rng, *row) for row in drawn]


def _split(rng: np.random.Generator, source: Source) -> list[Source]:
    """Further entries for one source: galaxies fall into parts, bright stars have false friends."""
    wide = source.radius / PIXEL_SCALE if source.kind == "galaxy" else 0.0
    if wide < 1.5:
        wide = 1.5 if source.magnitude < 15.5 and rng.uniform() < 0.4 else 0.0
    parts = []
    for _ in range(min(4, rng.poisson(0.7)) if wide else 0):
        distance, angle = wide * rng.gamma(3, 0.4), rng.uniform(0, 2 * math.pi)
        parts.append(
            dataclasses.replace(
                source,
                x=source.x + distance * math.cos(angle),
                y=source.y + distance * math.sin(angle),
                magnitude=min(_PS1_LIMIT, source.magnitude + rng.gamma(3, 1.0)),
                nucleus=0.0,
            )
        )
    return parts


def _entry(
    rng: np.random.Generator,
    source: Source,
    chances: list[float],
    noise: list[float],
    where: list[float],
    number: int,
) -> Entry:
    faint = source.magnitude > 20.5
    missing = 0.35 if faint else 0.03
    magnitudes = tuple(
        source.in_filter(fid) + error if chance > missing else SENTINEL
        for fid, chance, error in zip(_FILTERS, chances, noise, strict=True)
    )
    error = 0.04 if faint else 0.006  # as it agrees with Gaia on real alerts
    return Entry(
        x=PIXEL_SCALE * source.x + error * where[0],
        y=PIXEL_SCALE * source.y + error * where[1],
        magnitudes=magnitudes,
        star_score=_star_score(rng, source, measured=magnitudes[1] != SENTINEL),
        number=number,
    )


def pan_starrs(entries: Sequence[Entry], x: float, y: float) -> dict[str, Any]:
    """The three nearest sources and their number: `sgscore1`, `distpsnr1`, ..., `nmtchps`.

    Args:
        entries: from `catalogue_entries`.
        x: where this alert stands, from the object [arcsec].
        y: likewise.
    """
    near = sorted(((math.hypot(e.x - x, e.y - y), e) for e in entries), key=lambda pair: pair[0])
    near = [pair for pair in near if pair[0] < _PS1_RADIUS]
    found: dict[str, Any] = {"nmtchps": len(near)}
    for rank in (1, 2, 3):
        distance, entry = near[rank - 1] if rank <= len(near) else (SENTINEL, None)
        magnitudes = entry.magnitudes if entry else (SENTINEL,) * 4
        for band, magnitude in zip("griz", magnitudes, strict=True):
            found[f"s{band}mag{rank}"] = magnitude
        found[f"sgscore{rank}"] = entry.star_score if entry else SENTINEL
        found[f"distpsnr{rank}"] = distance
        found[f"objectidps{rank}"] = entry.number if entry else None
    return found


def _star_score(rng: np.random.Generator, source: Source, *, measured: bool) -> float:
    """1 for stars, 0 for galaxies, less sure of faint stars; 0.5 where nothing is known."""
    if rng.uniform() < (0.1 if measured else 0.45):
        return 0.5
    if source.kind == "quasar":
        return float(rng.beta(3, 1.5))
    if source.kind == "star":
        doubt = 0.009 * (1 + 10 ** (0.5 * (source.magnitude - 19)))
    else:  # compact galaxies look like stars; most others are told for sure
        compact = 0.35 / max(source.radius, 0.35) + source.nucleus
        doubt = 0.003 * (1 + 10 ** (0.5 * (source.magnitude - 19))) + 0.05 * compact**2
    doubt = min(1.0, doubt * rng.lognormal(0, 1.2))
    # the votes of a forest are counted, not measured
    return round(_VOTES * (1 - doubt if source.kind == "star" else doubt)) / _VOTES


def gaia_sources(sources: Sequence[Source]) -> list[tuple[float, float, float]]:
    """Position [arcsec] from the object and magnitude of what Gaia measures."""
    measured = ((s, _gaia_magnitude(s)) for s in sources)
    return [(PIXEL_SCALE * s.x, PIXEL_SCALE * s.y, m) for s, m in measured if m < _GAIA_LIMIT]


def gaia(sources: Sequence[tuple[float, float, float]], x: float, y: float) -> dict[str, float]:
    """The nearest source, and the nearest one brighter than 14 mag, within 90 arcsec.

    Args:
        sources: from `gaia_sources`.
        x: where this alert stands, from the object [arcsec].
        y: likewise.
    """
    found: dict[str, float] = {}
    measured = sorted((math.hypot(sx - x, sy - y), m) for sx, sy, m in sources)
    for suffix, limit in (("", _GAIA_LIMIT), ("bright", _GAIA_BRIGHT)):
        distance, magnitude = next(((d, m) for d, m in measured if m < limit), (SENTINEL, SENTINEL))
        found[f"neargaia{suffix}"], found[f"maggaia{suffix}"] = distance, magnitude
    return found


def _gaia_magnitude(source: Source) -> float:
    """Gaia sees points, and the sharp centres of galaxies."""
    if source.kind != "galaxy":
        return source.magnitude
    compact = source.nucleus + (1 - source.nucleus) * (0.1 if source.index > 2 else 0.015)
    return source.magnitude - 2.5 * math.log10(compact)


def faint_sources(rng: np.random.Generator) -> list[tuple[float, float]]:
    """(distance [arcsec], magnitude) of sources at the reference's limit, nearest first."""
    number = rng.poisson(_FAINT_SOURCES * math.pi * 0.5**2)
    return sorted(
        (30 * math.sqrt(rng.uniform()), float(rng.normal(22.9, 0.3))) for _ in range(number)
    )


def reference_source(
    rng: np.random.Generator,
    sources: Sequence[Source],
    faint: Sequence[tuple[float, float]],
    exposure: Exposure,
    reference: Reference,
    x: float,
    y: float,
) -> dict[str, float]:
    """The nearest source of the reference image: `distnr`, `magnr`, `chinr`, `sharpnr`, ...

    Args:
        rng: source of chance.
        sources: around the object.
        faint: from `faint_sources`.
        exposure: whose alert it is.
        reference: of the exposure's filter.
        x: where this alert stands, from the object [arcsec].
        y: likewise.
    """
    depth = exposure.depth + 1.25 * math.log10(reference.frames) + 0.5
    near = [
        (math.hypot(PIXEL_SCALE * s.x - x, PIXEL_SCALE * s.y - y), s.in_filter(exposure.fid), s)
        for s in sources
        if s.distance < 30
    ]
    seen = [(d, m, s) for d, m, s in near if m < depth]
    distance, magnitude, source = min(
        [*seen, *((d, m, None) for d, m in faint)],
        default=(30.0, 23.0, None),
        key=lambda found: found[0],
    )
    if source is None:
        sharp, chi = rng.normal(-0.25, 0.18), rng.lognormal(math.log(0.8), 0.45)
    elif source.kind == "galaxy":
        size = source.radius * (1 - source.nucleus) / (PIXEL_SCALE * reference.seeing)
        sharp = 0.28 * size * rng.lognormal(0, 0.3) + rng.normal(0, 0.04)
        brightness = 10 ** (0.2 * (19.5 - magnitude))
        chi = 0.7 + min(8.0, brightness * min(1.0, size) * rng.lognormal(0, 0.4))
    else:
        sharp, chi = rng.normal(-0.008, 0.035), rng.lognormal(math.log(0.62), 0.42)
    error = 0.013 + 0.2 * 10 ** (0.4 * (magnitude - 22.5))
    return {
        "distnr": abs(distance / PIXEL_SCALE + rng.normal(0, 0.07)),
        "magnr": magnitude + rng.normal(0, error),
        "sigmagnr": error,
        "chinr": float(chi),
        "sharpnr": float(np.clip(sharp, -0.9, 0.95)),
    }
