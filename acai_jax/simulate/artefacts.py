"""Bogus alerts: what detectors, optics and subtraction do without any change on the sky."""

import dataclasses
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from acai_jax.simulate.images import Subtraction, draw_ringing, draw_subtraction
from acai_jax.simulate.observing import Exposure, Pointing, draw_pointing
from acai_jax.simulate.optics import CENTRE, points
from acai_jax.simulate.sky import Source, background, star
from acai_jax.surveys.ztf import STAMP_SIZE

NEAREST: Final = slice(CENTRE - 3, CENTRE + 4)
"""Rows or columns that hold data in every alert."""
Defect = Callable[[np.random.Generator, Exposure], np.ndarray]
"""(chance, conditions) -> (63, 63) false light in the science image [DN]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bogus:
    """A false alert.

    Attributes:
        kind: what caused it, for people.
        pointing: where it is seen.
        sources: what stands there.
        subtraction: errors of the matching.
        defect: false light in the science image, if that is the cause.
        detected: share of earlier visits that it made alerts in, at the same place.
        clouds: share of its alerts that come from images taken through thick clouds.
    """

    kind: str
    pointing: Pointing
    sources: tuple[Source, ...]
    subtraction: Subtraction
    defect: Defect | None
    detected: float
    clouds: float


# share of the bogus, and shape (a, b) of the distribution of `Bogus.detected`
_KINDS: Final = {
    "bright star": (0.13, (0.2, 10.0)),
    "cloud": (0.38, (0.5, 60.0)),
    "misregistration": (0.06, (1.0, 10_000.0)),
    "cosmic ray": (0.17, (1.0, 10_000.0)),
    "bad column": (0.09, (1.0, 400.0)),
    "hot pixels": (0.08, (1.0, 400.0)),
    "ghost": (0.09, (1.0, 10_000.0)),
}
# [mag]; brighter ones saturate under a clear sky, and flagged pixels send no alerts; so 95 % of the
# peaks in science images stay below 900 sigma, as those of 141 real bogus
_STARS: Final = {
    "bright star": (12.8, 15.5),
    "cloud": (12.0, 15.0),
    "misregistration": (14.0, 17.5),
}


def draw_bogus(rng: np.random.Generator) -> Bogus:
    """A random false alert."""
    kind = str(rng.choice(tuple(_KINDS), p=[share for share, _ in _KINDS.values()]))
    on_star = kind in ("bright star", "cloud", "misregistration")
    region = "plane" if kind == "cloud" else "stellar" if on_star else "anywhere"
    pointing = draw_pointing(rng, region)
    sources = background(rng, pointing)
    subtraction, defect = draw_subtraction(rng), None
    if on_star:
        magnitude = rng.uniform(*_STARS[kind])
        # the brighter the star, the smaller the error that makes an alert
        shift = rng.uniform(0.15, 0.7) if kind == "misregistration" else rng.uniform(0.03, 0.18)
        angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1.3)
        scale, width = rng.normal(0, 0.015), rng.normal(0, 0.18)
        if kind == "bright star":  # detectors are not linear where it is bright
            scale = rng.choice((-1.0, 1.0)) * rng.lognormal(math.log(0.05), 0.5)
        if kind == "cloud":
            # too few stars are left to match the images by: the flux scale is what suffers most, as
            # `sumrat`, `magpsf` and chi of 51 real ones have it
            shift, reach = rng.uniform(0.05, 0.3), rng.rayleigh(0.15)
            scale = rng.choice((-1.0, 1.0)) * rng.lognormal(math.log(0.28), 0.5)
        centre = star(rng, reach * math.cos(angle), reach * math.sin(angle), float(magnitude))
        sources = [centre, *(s for s in sources if s.distance > 1.5)]
        subtraction = Subtraction(
            dx=shift * math.cos(angle),
            dy=shift * math.sin(angle),
            scale=float(scale),
            width=float(width),
            ringing=draw_ringing(rng),
        )
    else:
        defect = DEFECTS[kind]
    clouds = {"cloud": 1.0, "bright star": 0.3}.get(kind, 0.04)
    detected = float(rng.beta(*_KINDS[kind][1]))
    return Bogus(kind, pointing, tuple(sources), subtraction, defect, detected, clouds)


def _cosmic_ray(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    """A track with sharp edges: no PSF blurs it."""
    image = np.zeros((STAMP_SIZE, STAMP_SIZE))
    length, angle = rng.exponential(3.5), rng.uniform(0, math.pi)
    charge = exposure.noise * rng.lognormal(math.log(22), 0.8)
    for step in np.arange(0, length + 0.25, 0.25) - length / 2:
        column, row = step * math.cos(angle), step * math.sin(angle)
        image[round(CENTRE + row) % STAMP_SIZE, round(CENTRE + column) % STAMP_SIZE] += charge / 4
    image[CENTRE, CENTRE] += charge / 2
    return image * rng.uniform(0.6, 1.4, image.shape)


def _bad_column(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    image = np.zeros((STAMP_SIZE, STAMP_SIZE))
    top = rng.integers(0, CENTRE) if rng.uniform() < 0.5 else 0
    level = exposure.noise * rng.uniform(4, 25)
    image[top:, CENTRE] = level * rng.uniform(0.7, 1.3, STAMP_SIZE - top)
    if rng.uniform() < 0.4:
        image[top:, CENTRE + 1] = -0.5 * level
    return image


def _hot_pixels(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    image = np.zeros((STAMP_SIZE, STAMP_SIZE))
    image[CENTRE, CENTRE] = 1.0
    for _ in range(rng.integers(0, 4)):
        row, column = CENTRE + rng.integers(-1, 2, 2)
        image[row, column] += rng.uniform(-0.6, 0.8)
    return image * exposure.noise * rng.lognormal(math.log(13), 0.5)


def _ghost(rng: np.random.Generator, exposure: Exposure) -> np.ndarray:
    """A reflection inside the telescope: a wide patch or ring, with an edge through the alert."""
    radius = rng.uniform(5, 40)
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.indices((STAMP_SIZE, STAMP_SIZE)) - CENTRE
    distance = np.hypot(rows - radius * math.sin(angle), columns - radius * math.cos(angle))
    edge = 1 / (1 + np.exp((distance - radius - 1.5) / rng.uniform(0.6, 2.5)))
    if rng.uniform() < 0.6:
        edge *= distance > radius * rng.uniform(0.5, 0.9)
    image = edge * exposure.noise * rng.uniform(1.0, 5)
    centre, flux = np.zeros(1), exposure.noise * rng.uniform(10, 60, 1)
    return image + points(centre, centre, flux, rng.uniform(3, 7), 0.1)


DEFECTS: Final[dict[str, Defect]] = {
    "cosmic ray": _cosmic_ray,
    "bad column": _bad_column,
    "hot pixels": _hot_pixels,
    "ghost": _ghost,
}
"""What detectors and optics do, by name."""


def draw_missing(rng: np.random.Generator, share: float) -> np.ndarray:
    """Pixels without data: beyond the chip's edge, bad columns, or spots.

    Args:
        rng: source of chance.
        share: of stamps that lack any.

    Returns:
        (63, 63) bool.
    """
    bad = np.zeros((STAMP_SIZE, STAMP_SIZE), bool)
    if rng.uniform() >= share:
        return bad
    if rng.uniform() < 0.6:
        width = int(rng.integers(1, CENTRE - 4))
        bad[:width] = True
        bad = np.rot90(bad, int(rng.integers(0, 4))).copy()
    else:
        height, width = ((STAMP_SIZE, 9), (7, 7), (12, 12))[rng.choice(3, p=(0.2, 0.5, 0.3))]
        while not bad.any() or bad[NEAREST, NEAREST].any():  # these send no alerts
            top, left = (rng.integers(0, STAMP_SIZE - side + 1) for side in (height, width))
            bad[:] = False
            bad[top : top + height, left : left + width] = True
    return bad
