"""What stands still on the sky: stars and galaxies around an alert, by magnitude counts."""

import dataclasses
import math
from typing import Final, Literal

import numpy as np

from acai_jax.simulate.observing import PIXEL_SCALE, Pointing

_STAR_SLOPE: Final = 0.22  # of log10 counts per magnitude
_GALAXY_SLOPE: Final = 0.40
_STAR_COLOUR: Final = (0.7, 0.35)  # mean and scatter of g - r [mag]
_STAR_COLOURS: Final = (-0.3, 1.5)  # the bluest and the reddest
_BRIGHTEST: Final = 9.0
_FAINTEST: Final = 23.0
_STARS_COUNTED_TO: Final = 21.0
_BRIGHTEST_GALAXY: Final = 15.0
_GALAXIES: Final = 4.2  # per square arcminute, down to the faintest
CATALOGUE_RADIUS: Final = 90.0
"""Sources are drawn this far out [arcsec]: as far as Gaia neighbours are looked for."""
_NEAR: Final = 42.0  # [pixel] stamps and Pan-STARRS1 neighbours end closer to the alert than this
_FAR_LIMIT: Final = 20.8  # [mag]; further out Gaia alone looks, which sees nothing fainter


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A star or a galaxy.

    Attributes:
        x, y: from the alert's position [pixel].
        magnitude: in r, AB [mag].
        colour: g - r [mag].
        kind: "star", "galaxy", or "quasar" (a point with a galaxy's history).
        radius: half-light radius [arcsec], 0 for points.
        index, axis_ratio, angle: of the Sersic profile.
        nucleus: share of its light that comes from a central point.
    """

    x: float
    y: float
    magnitude: float
    colour: float
    kind: Literal["star", "galaxy", "quasar"]
    radius: float = 0.0
    index: float = 1.0
    axis_ratio: float = 1.0
    angle: float = 0.0
    nucleus: float = 0.0

    @property
    def distance(self) -> float:
        """From the alert's position [arcsec]."""
        return PIXEL_SCALE * math.hypot(self.x, self.y)

    def in_filter(self, fid: int) -> float:
        """Magnitude in g (1), r (2) or i (3)."""
        return self.magnitude + (self.colour, 0.0, -0.4 * self.colour)[fid - 1]


def star(rng: np.random.Generator, x: float, y: float, magnitude: float) -> Source:
    """A star of a random colour."""
    return Source(x, y, magnitude, _between(*_STAR_COLOURS, rng.normal(*_STAR_COLOUR)), "star")


def galaxy(
    rng: np.random.Generator, x: float, y: float, magnitude: float, *, nucleus: float = 0.0
) -> Source:
    """A galaxy whose size follows from its magnitude, with scatter."""
    radius = 10 ** (0.17 * (19.6 - magnitude)) * rng.lognormal(0, 0.3)
    spiral = rng.random() < 0.7
    return Source(
        x,
        y,
        magnitude,
        rng.normal(0.55 if spiral else 0.8, 0.12),
        "galaxy",
        radius=_between(0.35, 14.0, radius),
        index=rng.uniform(0.8, 1.8) if spiral else rng.uniform(2.5, 4),
        axis_ratio=rng.uniform(0.3, 1),
        angle=rng.uniform(0, math.pi),
        nucleus=nucleus,
    )


def background(rng: np.random.Generator, pointing: Pointing, *, clear: float = 0.0) -> list[Source]:
    """The stars and galaxies that happen to lie around an alert.

    Args:
        rng: source of chance.
        pointing: where; the density of stars follows from it.
        clear: no source closer than this [arcsec].
    """
    area = math.pi * (CATALOGUE_RADIUS / 60) ** 2
    stars = pointing.stars * 10 ** (_STAR_SLOPE * (_FAINTEST - _STARS_COUNTED_TO))
    places = _scattered(rng, rng.poisson(stars * area), _STAR_SLOPE)
    colours = np.clip(rng.normal(*_STAR_COLOUR, len(places)), *_STAR_COLOURS).tolist()
    sources = [
        Source(x, y, magnitude, colour, "star")
        for (x, y, magnitude), colour in zip(places, colours, strict=True)
    ]
    for x, y, magnitude in _scattered(rng, rng.poisson(_GALAXIES * area), _GALAXY_SLOPE):
        sources.append(galaxy(rng, x, y, max(_BRIGHTEST_GALAXY, magnitude)))
    if not clear:
        return sources
    # nothing larger than the clearing may cover its centre either
    return [s for s in sources if s.distance > max(clear, 3 * s.radius)]


def _scattered(rng: np.random.Generator, number: int, slope: float) -> list[list[float]]:
    """(x, y, magnitude) of those of `number` sources that anyone sees [pixel], [mag]."""
    radius = CATALOGUE_RADIUS / PIXEL_SCALE * np.sqrt(rng.random(number))
    angle = rng.uniform(0, 2 * math.pi, number)
    low, high = 10 ** (slope * _BRIGHTEST), 10 ** (slope * _FAINTEST)
    magnitude = np.log10(rng.uniform(low, high, number)) / slope
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    near = np.maximum(np.abs(x), np.abs(y)) < _NEAR
    return np.stack([x, y, magnitude], axis=1)[near | (magnitude < _FAR_LIMIT)].tolist()


def _between(low: float, high: float, value: float) -> float:
    return min(high, max(low, value))
