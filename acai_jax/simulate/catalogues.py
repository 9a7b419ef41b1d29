"""Catalogue neighbours of an alert: Pan-STARRS1, Gaia, and the reference image's own sources."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from acai_jax.simulate.observing import PIXEL_SCALE, Exposure, Reference
from acai_jax.simulate.sky import Source
from acai_jax.surveys.ztf import SENTINEL

_PS1_RADIUS: Final = 30.0  # [arcsec]
_PS1_LIMIT: Final = 22.6  # [mag] in r
_GAIA_LIMIT: Final = 20.6
_GAIA_BRIGHT: Final = 14.0
_FAINT_SOURCES: Final = 8.0  # per square arcminute that only the reference's catalogue has


def pan_starrs(rng: np.random.Generator, sources: Sequence[Source]) -> dict[str, Any]:
    """The three nearest sources and their number: `sgscore1`, `distpsnr1`, ..., `nmtchps`."""
    near = sorted(
        (s for s in sources if s.distance < _PS1_RADIUS and s.magnitude < _PS1_LIMIT),
        key=lambda s: s.distance,
    )
    found: dict[str, Any] = {"nmtchps": len(near)}
    for rank in (1, 2, 3):
        source = near[rank - 1] if rank <= len(near) else None
        faint = source is not None and source.magnitude > 20.5
        for band, fid in (("g", 1), ("r", 2), ("i", 3), ("z", 3)):
            seen = source is not None and rng.uniform() > (0.35 if faint else 0.03)
            found[f"s{band}mag{rank}"] = (
                source.in_filter(fid) + rng.normal(0, 0.03) if source and seen else SENTINEL
            )
        found[f"sgscore{rank}"] = _star_score(rng, source) if source else SENTINEL
        error = rng.normal(0, 0.05, 2)
        found[f"distpsnr{rank}"] = (
            math.hypot(PIXEL_SCALE * source.x + error[0], PIXEL_SCALE * source.y + error[1])
            if source
            else SENTINEL
        )
        found[f"objectidps{rank}"] = int(rng.integers(10**17, 2 * 10**17)) if source else None
    return found


def _star_score(rng: np.random.Generator, source: Source) -> float:
    """1 for stars, 0 for galaxies; less sure of faint ones, 0.5 where nothing is known."""
    if rng.uniform() < (0.35 if source.magnitude > 20.3 else 0.04):
        return 0.5
    if source.kind == "quasar":
        return float(rng.beta(3, 1.5))
    sureness = 1 + 40 / (1 + math.exp((source.magnitude - 19.8) / 0.6))
    if source.kind == "star":
        return float(rng.beta(sureness, 1))
    # compact galaxies look like stars
    compact = 0.35 / max(source.radius, 0.35) + 2 * source.nucleus
    return float(rng.beta(0.35 + 1.2 * compact, 2.5 + 0.3 * sureness))


def gaia(sources: Sequence[Source]) -> dict[str, float]:
    """The nearest source, and the nearest one brighter than 14 mag, within 90 arcsec."""
    found: dict[str, float] = {}
    measured = sorted((s.distance, m) for s in sources if (m := _gaia_magnitude(s)) < _GAIA_LIMIT)
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
        (30 * math.sqrt(rng.uniform()), float(rng.normal(22.8, 0.35))) for _ in range(number)
    )


def reference_source(
    rng: np.random.Generator,
    sources: Sequence[Source],
    faint: Sequence[tuple[float, float]],
    exposure: Exposure,
    reference: Reference,
) -> dict[str, float]:
    """The nearest source of the reference image: `distnr`, `magnr`, `chinr`, `sharpnr`, ..."""
    depth = exposure.depth + 1.25 * math.log10(reference.frames) + 0.5
    near = [(s.distance, s.in_filter(exposure.fid), s) for s in sources if s.distance < 30]
    seen = [(d, m, s) for d, m, s in near if m < depth]
    distance, magnitude, source = min(
        [*seen, *((d, m, None) for d, m in faint)],
        default=(30.0, 23.0, None),
        key=lambda found: found[0],
    )
    if source is None:
        sharp, chi = rng.normal(-0.2, 0.2), rng.lognormal(math.log(0.85), 0.25)
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
