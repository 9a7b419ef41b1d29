"""Science, template and difference of one exposure of one object, with their noise."""

import dataclasses
import math
from typing import Final

import numpy as np
import scipy.ndimage
from jaxtyping import Float64

from acai_jax.simulate.observing import GAIN, PIXEL_SCALE, Exposure, Reference
from acai_jax.simulate.optics import (
    Stamp,
    coloured,
    points,
    sersic,
    slope,
    smooth_noise,
    trail,
    with_psf,
)
from acai_jax.simulate.sky import Source
from acai_jax.surveys.ztf import STAMP_SIZE

_SATURATION: Final = 45_000.0  # [DN] above the sky, where a pixel's well is full
# from the noise of 207 real difference images and 201 science images: the share of variance that
# columns have in common; what goes to pixels 1, 2 and 3 away, and how much that varies
_COLUMNS: Final = 0.025
_RINGS: Final = (-0.005, -0.012, 0.015)
_RINGS_SCATTER: Final = (0.02, 0.015, 0.01)
# from 75 stars beside real alerts; what varies under an alert leaves less (negative pixels, chi)
_RINGING: Final = 0.05
_RINGING_HERE: Final = 0.6
_STAR: Final = 9  # pixels that hold a star's light
_HERE: Final = slice(STAMP_SIZE // 2 - 5, STAMP_SIZE // 2 + 6)
# as around the brightest stars beside 227 real alerts, whose templates show spikes along rows
_MASKED: Final = 12.1  # [mag]; a square round brighter stars holds no data
_SPIKE: Final = (1.2e-4, 7.0)  # brightest pixel, as share of the star's light; length [pixel]
_AXIS: Final = np.arange(STAMP_SIZE) - STAMP_SIZE // 2
_DRAWN: Final = 40.0  # sources further from the centre than this [pixel] leave no light here


@dataclasses.dataclass(frozen=True, slots=True)
class Subtraction:
    """How well the template was matched to the science image.

    Attributes:
        dx, dy: misregistration [pixel].
        scale: relative error of the flux scale.
        width: error of the matched PSF's variance [pixel^2].
        ringing: what is left of stars in single pixels, in units of their peaks.
    """

    dx: float
    dy: float
    scale: float
    width: float
    ringing: float = 0.0


@dataclasses.dataclass(slots=True)
class Stamps:
    """The three images of an alert before they are packed.

    Attributes:
        science, template, difference: [DN]; the difference is science minus reference.
        photon_noise: one sigma of each pixel of the science image [DN].
        noise: one sigma of each pixel of the difference, subtraction errors included [DN].
        bad: pixels without data.
    """

    science: Stamp
    template: Stamp
    difference: Stamp
    photon_noise: Stamp
    noise: Stamp
    bad: np.ndarray


class Field:
    """The fixed sources around one object; what does not change with the PSF is drawn once."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        near = [
            s
            for s in sources
            if max(abs(s.x), abs(s.y)) < _DRAWN + s.radius / PIXEL_SCALE or s.magnitude < 13.5
        ]
        rows = [(s.x, s.y, *map(s.in_filter, (1, 2, 3))) for s in near if s.kind != "galaxy"]
        self._points = np.array(rows).reshape(-1, 5)  # x, y, magnitudes; then fluxes
        self._points[:, 2:] = 10 ** (-0.4 * self._points[:, 2:])
        self._galaxies = [s for s in near if s.kind == "galaxy"]
        self._profiles: dict[int, np.ndarray] = {}

    def through(
        self, exposure: Exposure, fwhm: float, x: float, y: float, level: float
    ) -> tuple[Stamp, Stamp]:
        """The field in an exposure's filter and zero point: (all light, that of points in it).

        Args:
            exposure: which one.
            fwhm: of the PSF [pixel].
            x: where the object is, from the central pixel along rows [pixel].
            y: along columns [pixel].
            level: point sources end where they are fainter than this [DN].
        """
        flux = exposure.flux(0.0) * self._points[:, 1 + exposure.fid]
        light = [np.stack([*self._points[:, :2].T, flux, np.full_like(flux, fwhm)], axis=1)]
        galaxies: np.ndarray | None = None
        for number, source in enumerate(self._galaxies):
            flux = exposure.flux(source.in_filter(exposure.fid))
            radius = source.radius / PIXEL_SCALE
            point = flux * source.nucleus
            extended = flux - point
            if radius < 1.5 and flux < 300 * level:
                # too small and faint for its profile to show
                width = math.hypot(fwhm, 1.6 * radius)
                light.append(np.array([[source.x, source.y, extended, width]]))
            else:
                if number not in self._profiles:
                    self._profiles[number] = sersic(
                        source.x, source.y, radius, source.index, source.axis_ratio, source.angle
                    )
                seen = extended * self._profiles[number]
                galaxies = seen if galaxies is None else galaxies + seen
            if point:
                light.append(np.array([[source.x, source.y, point, fwhm]]))
        across, down, fluxes, widths = np.concatenate(light).T
        image = points(across + x, down + y, fluxes, widths, level)
        share, length = _SPIKE
        for column, row, flux in self._saturated(exposure, x, y):
            along = np.exp(-np.abs(_AXIS - column) / length)
            image += share * flux * np.outer(np.exp(-((_AXIS - row) ** 2) / 2), along)
        if galaxies is None:
            return image, image
        return image + with_psf(galaxies, fwhm, x, y), image

    def masked(self, exposure: Exposure, x: float, y: float) -> np.ndarray:
        """(63, 63) bool: squares round saturated stars, with the object (x, y) from the centre."""
        bad = np.zeros((STAMP_SIZE, STAMP_SIZE), bool)
        for across, down, flux in self._saturated(exposure, x, y):
            half = 8 + max(0.0, 0.75 * (_MASKED - 0.6 - exposure.magnitude(flux)))
            bad |= np.outer(np.abs(_AXIS - down) <= half, np.abs(_AXIS - across) <= half)
        return bad

    def _saturated(
        self, exposure: Exposure, x: float, y: float
    ) -> list[tuple[float, float, float]]:
        """(x, y, flux) of each star that saturates [pixel], [DN]."""
        across, down, *fluxes = self._points.T
        flux = exposure.flux(0.0) * fluxes[exposure.fid - 1]
        bright = flux > exposure.flux(_MASKED)
        return list(zip(across[bright] + x, down[bright] + y, flux[bright], strict=True))


def draw_subtraction(rng: np.random.Generator) -> Subtraction:
    """The small errors of an ordinary subtraction."""
    dx, dy = rng.normal(0, 0.025, 2).tolist()
    scale, width = rng.normal(0, 0.003), rng.normal(0, 0.012)
    return Subtraction(dx, dy, scale, width, draw_ringing(rng))


def draw_ringing(rng: np.random.Generator) -> float:
    """How much stars ring in one exposure."""
    return _RINGING * rng.lognormal(0, 0.4)


def expose(
    rng: np.random.Generator,
    field: Field,
    exposure: Exposure,
    reference: Reference,
    position: tuple[float, float],
    change: Stamp,
    subtraction: Subtraction,
) -> Stamps:
    """Takes the pictures.

    Args:
        rng: source of chance for the noise.
        field: what stands still.
        exposure: the conditions.
        reference: the coadd that serves as template.
        position: (x, y) of the object, from the central pixel [pixel].
        change: (63, 63) what is new in the science image [DN].
        subtraction: errors of the matching.
    """
    level = 0.15 * exposure.noise
    fixed, stars = field.through(exposure, exposure.seeing, *position, level)
    # the template is scaled to the science image's zero point
    template_noise = reference.noise * 10 ** (-0.4 * exposure.cloud)
    template, _ = field.through(exposure, reference.seeing, *position, 0.3 * template_noise)
    residual, unsure = left_over(fixed, subtraction, exposure.registration)
    residual += _ringing(rng, stars, subtraction)
    light = fixed + change
    variance = exposure.noise**2 + np.clip(light, 0, None) / GAIN
    noise = np.sqrt(variance) * _detector_noise(rng)
    reference_noise = template_noise * smooth_noise(rng)
    tilt = rng.normal(0, 0.1, 2) * template_noise / STAMP_SIZE
    rows = np.arange(STAMP_SIZE) - STAMP_SIZE // 2
    # clouds leave the background uneven
    offset = rng.normal(-0.035 * exposure.cloud, 0.06 + 0.03 * exposure.cloud) * exposure.noise
    plane = offset + tilt[0] * rows[:, None] + tilt[1] * rows
    science = np.minimum(light, _SATURATION) + noise + exposure.sky
    shot = np.sqrt(np.clip(template, 0, None) / GAIN / reference.frames)
    template = (
        np.minimum(template, _SATURATION)
        + reference_noise
        + shot * rng.standard_normal(fixed.shape)
        + exposure.sky
    )
    difference = change + residual + _matched(rng, noise) - reference_noise + plane
    total = np.sqrt(variance + template_noise**2 + unsure)
    bad = np.zeros(fixed.shape, bool)
    return Stamps(science, template, difference, np.sqrt(variance), total, bad)


def left_over(fixed: Stamp, subtraction: Subtraction, registration: float) -> tuple[Stamp, Stamp]:
    """(what a subtraction leaves of fixed light, variance that `scorr` allows for registration)."""
    slope_y, slope_x = slope(fixed, 0), slope(fixed, 1)
    curvature = slope(slope_y, 0) + slope(slope_x, 1)
    residual = (
        subtraction.scale * fixed
        + subtraction.width / 2 * curvature
        - subtraction.dx * slope_x
        - subtraction.dy * slope_y
    )
    return residual, registration**2 * (slope_x**2 + slope_y**2)


def _ringing(rng: np.random.Generator, stars: Stamp, subtraction: Subtraction) -> Stamp:
    """What no subtraction gets right of sharp light: pixels that differ, with no flux in sum.

    In the differences of real alerts, stars beside them leave 0.032, 0.016 and 0.007 of their peak
    1, 2 and 3 pixels from it, whatever their brightness, and white but for that.
    """
    peaks = scipy.ndimage.maximum_filter(stars, _STAR)
    spread = subtraction.ringing * np.sqrt(stars * peaks)
    spread[_HERE, _HERE] *= _RINGING_HERE
    image = spread * smooth_noise(rng)
    flux, sensitivity = (
        scipy.ndimage.uniform_filter(stars * part, _STAR) for part in (image, spread)
    )
    # a PSF fit sees none of it
    return image - spread * np.divide(flux, sensitivity, out=flux, where=sensitivity > 0)


def _detector_noise(rng: np.random.Generator) -> Stamp:
    """Unit noise of the science image: columns are read out a little differently."""
    columns = rng.standard_normal(STAMP_SIZE)
    white = rng.standard_normal((STAMP_SIZE, STAMP_SIZE))
    return math.sqrt(1 - _COLUMNS) * white + math.sqrt(_COLUMNS) * columns


def _matched(rng: np.random.Generator, noise: Stamp) -> Stamp:
    """The noise as image subtraction leaves it: its filter makes faint rings."""
    both = rng.normal(_RINGS, _RINGS_SCATTER)
    rows, columns = (both + rng.normal(0, _RINGS_SCATTER) for _ in range(2))
    return coloured(noise, rows.tolist(), columns.tolist())


def point_change(
    x: float, y: float, flux: float, exposure: Exposure, *, length: float = 0.0, angle: float = 0.0
) -> Float64[np.ndarray, "side side"]:
    """A new source of `flux` [DN] at (x, y) from the central pixel; a trail if it has a length."""
    return flux * trail(length, angle, x, y, exposure.seeing, 0.05 * exposure.noise / abs(flux))


def mask_pixels(rng: np.random.Generator, stamps: Stamps, bad: np.ndarray) -> None:
    """Takes the data out of pixels: NaN, and in the template sometimes 3.4e38."""
    stamps.bad |= bad
    for image in (stamps.science, stamps.template, stamps.difference):
        image[bad] = np.nan
    if rng.uniform() < 0.2:
        extreme = float(np.finfo(np.float32).max)
        stamps.template[bad] = extreme if rng.uniform() < 0.5 else -extreme
