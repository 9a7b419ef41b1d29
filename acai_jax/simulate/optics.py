"""What the telescope makes of light: Moffat PSFs, Sersic galaxies, trails."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex64, Float64

from acai_jax.surveys.ztf import STAMP_SIZE

CENTRE: Final = STAMP_SIZE // 2
_BETA: Final = 3.0  # of the Moffat profile; atmospheric seeing gives 2.5 to 4.5
_OVERSAMPLING: Final = 2
_REACHES: Final = (3, 5, 9, 18, 36)  # half widths of the squares that point sources fill
# of resampled noise into the next pixel and the one after: correlations of 0.23 and -0.07, as in
# the templates of 144 real alerts
_RESAMPLING: Final = (0.12, -0.05)
_PADDED: Final = 144  # 2 * 63 pixels and a margin against wrapping round, a fast FFT length

Stamp = Float64[np.ndarray, "side side"]
Transform = Complex64[np.ndarray, "rows columns"]


def moffat(
    x: float, y: float, fwhm: float, shape: tuple[int, int] = (STAMP_SIZE, STAMP_SIZE)
) -> Float64[np.ndarray, "h w"]:
    """A point source of unit flux, sampled at the pixels' centres.

    Args:
        x: position from the central pixel along rows [pixel].
        y: along columns [pixel].
        fwhm: full width at half maximum [pixel], the pixel's own width included.
        shape: of the image (height, width).

    Example:
        >>> round(float(moffat(0.2, -0.3, 2.2).sum()), 1)
        1.0
    """
    rows, columns = (np.arange(n) - n // 2 for n in shape)
    return _moffat(rows[:, None] - y, columns[None, :] - x, fwhm)


def slope(image: Stamp, axis: int) -> Stamp:
    """The change from pixel to pixel along an axis; nothing at the border."""
    along = image.T if axis else image
    change = np.zeros_like(along)
    change[1:-1] = (along[2:] - along[:-2]) / 2
    return change.T if axis else change


def _moffat(dy: np.ndarray, dx: np.ndarray, fwhm: float) -> np.ndarray:
    core = (fwhm / 2) ** 2 / (2 ** (1 / _BETA) - 1)
    profile = 1 + (dx * dx + dy * dy) / core
    return (_BETA - 1) / (math.pi * core) / (profile * profile * profile)


def points(
    x: Float64[np.ndarray, " n"],
    y: Float64[np.ndarray, " n"],
    flux: Float64[np.ndarray, " n"],
    fwhm: Float64[np.ndarray, " n"] | float,
    level: float,
) -> Stamp:
    """Many point sources.

    Args:
        x: positions from the central pixel along rows [pixel].
        y: along columns [pixel].
        flux: of each [DN].
        fwhm: of each, or of all [pixel].
        level: each source ends where it is fainter than this [DN].
    """
    core = (np.broadcast_to(fwhm, flux.shape) / 2) ** 2 / (2 ** (1 / _BETA) - 1)
    peak = flux * (_BETA - 1) / (math.pi * core)
    # where the profile falls below the level
    radius = np.sqrt(core * np.maximum(0, np.cbrt(np.abs(peak) / level) - 1)) + 1
    column, row = np.rint(x), np.rint(y)
    outside = np.maximum(np.abs(column), np.abs(row)) - CENTRE
    # the widest squares are for all that reaches further too
    size = np.minimum(np.searchsorted(_REACHES, radius), len(_REACHES) - 1)
    margin = 2 * _REACHES[-1]  # of those that only reach in
    image = np.zeros((STAMP_SIZE + 2 * margin,) * 2)
    # float32 is finer than the noise by far, and twice as fast
    x, y, core, peak = (a.astype(np.float32) for a in (x - column, y - row, core, peak))
    for number, reach in enumerate(_REACHES):
        chosen = np.flatnonzero((size == number) & (outside <= reach))
        if not len(chosen):
            continue
        offsets = np.arange(-reach, reach + 1, dtype=np.float32)
        width = core[chosen, None]
        dx2 = (offsets - x[chosen, None]) ** 2 / width
        dy2 = 1 + (offsets - y[chosen, None]) ** 2 / width
        profile = dy2[:, :, None] + dx2[:, None, :]
        blocks = profile * profile
        blocks *= profile
        np.divide(peak[chosen, None, None], blocks, out=blocks)
        first, side = margin + CENTRE - reach, len(offsets)
        tops, lefts = (where[chosen].astype(int) + first for where in (row, column))
        for block, top, left in zip(blocks, tops.tolist(), lefts.tolist(), strict=True):
            image[top : top + side, left : left + side] += block
    return image[margin:-margin, margin:-margin]


def trail(length: float, angle: float, x: float, y: float, fwhm: float, level: float) -> Stamp:
    """A moving source of unit flux, centred at (x, y).

    Args:
        length: of its path during the exposure [pixel].
        angle: of the path [rad].
        x: middle of the path, from the central pixel along rows [pixel].
        y: along columns [pixel].
        fwhm: of the PSF [pixel].
        level: it ends where it is fainter than this.
    """
    steps = max(1, math.ceil(2 * length))
    along = ((np.arange(steps) + 0.5) / steps - 0.5) * length
    xs, ys = x + along * math.cos(angle), y + along * math.sin(angle)
    return points(xs, ys, np.full(steps, 1 / steps), fwhm, level / steps)


def sersic(
    x: float, y: float, radius: float, index: float, axis_ratio: float, angle: float
) -> Transform:
    """The Fourier transform of a Sersic galaxy of unit flux, before any PSF.

    Args:
        x: centre, from the central pixel along rows [pixel].
        y: along columns [pixel].
        radius: half-light radius along the major axis [pixel].
        index: Sersic index; 1 is a disc, 4 an elliptical.
        axis_ratio: minor over major axis.
        angle: of the major axis [rad].
    """
    scale = _OVERSAMPLING
    middle = _PADDED // 2
    offsets = np.arange(-middle, middle, dtype=np.float32) / scale
    rows, columns = offsets[:, None] - y, offsets[None, :] - x
    major = columns * math.cos(angle) + rows * math.sin(angle)
    minor = (rows * math.cos(angle) - columns * math.sin(angle)) / axis_ratio
    # the steep centre is averaged over its pixel
    r = np.sqrt(major**2 + minor**2 + (0.3 / scale) ** 2)
    b = 2 * index - 1 / 3 + 0.009876 / index
    profile = np.exp(-b * (r / radius) ** (1 / index))
    return np.asarray(scipy.fft.rfft2(profile / profile.sum()))


def with_psf(galaxy: Transform, fwhm: float, x: float = 0.0, y: float = 0.0) -> Stamp:
    """A galaxy from `sersic`, moved by (x, y) [pixel] and seen through a Moffat PSF."""
    scale = _OVERSAMPLING
    offsets = scipy.fft.fftfreq(_PADDED, 1 / _PADDED).astype(np.float32) / scale
    psf = _moffat(offsets[:, None] - y, offsets[None, :] - x, fwhm) / scale**2
    image = np.asarray(scipy.fft.irfft2(galaxy * scipy.fft.rfft2(psf), (_PADDED, _PADDED)))
    start = _PADDED // 2 - scale * CENTRE
    pixels = slice(start, start + scale * STAMP_SIZE, scale)
    # the value at a pixel's centre, as for point sources
    return image[pixels, pixels].astype(np.float64) * scale**2


def smooth_noise(rng: np.random.Generator) -> Stamp:
    """Noise of unit variance whose neighbouring pixels are correlated, as resampling leaves it."""
    return coloured(rng.standard_normal((STAMP_SIZE, STAMP_SIZE)), _RESAMPLING, _RESAMPLING)


def coloured(image: Stamp, along_rows: Sequence[float], along_columns: Sequence[float]) -> Stamp:
    """The image with some of each pixel added to those 1, 2, ... away; noise keeps its variance.

    Args:
        image: (63, 63).
        along_rows: share that goes to the pixels 1, 2, ... away in the same row, on either side.
        along_columns: likewise in the same column.
    """
    for axis, shares in ((1, along_rows), (0, along_columns)):
        kernel = np.array([*reversed(shares), 1.0, *shares])
        kernel /= math.sqrt((kernel * kernel).sum())
        image = scipy.ndimage.convolve1d(image, kernel, axis, mode="wrap")
    return image
