"""What the survey's pipeline measures on a difference image: the fields of one detection."""

import math
from typing import Any, Final

import numpy as np

from acai_jax.simulate.images import Stamps
from acai_jax.simulate.observing import Exposure
from acai_jax.simulate.optics import CENTRE, moffat
from acai_jax.surveys.ztf import STAMP_SIZE

LEAST_SCORR: Final = 5.0
"""Signal to noise in the matched filter from which on there is an alert."""
_HALF: Final = 4  # PSF fits use the central 9x9 pixels
_CORE: Final = slice(CENTRE - _HALF, CENTRE + _HALF + 1)
_PSF_ERROR: Final = 0.18  # of a pixel's light
_ALLOWED: Final = 0.1  # share of the variance beyond the photons' that chi allows for
_FIVE: Final = slice(CENTRE - 2, CENTRE + 3)
_BIG: Final = slice(CENTRE - 9, CENTRE + 10)
_ROWS, _COLUMNS = np.indices((STAMP_SIZE, STAMP_SIZE)) - CENTRE
_RADIUS: Final = np.hypot(_ROWS, _COLUMNS)
_APERTURE: Final = 7.0  # [pixel]
_BIG_APERTURE: Final = 9.0
_ANNULUS: Final = (_RADIUS > 14) & (_RADIUS < 26)


def detection(
    rng: np.random.Generator, stamps: Stamps, exposure: Exposure, x: float, y: float
) -> dict[str, Any] | None:
    """Measures the source at the centre of a difference image.

    Args:
        rng: source of chance, for what stamps do not show (such as the calibration's scatter).
        stamps: the images, in DN.
        exposure: their conditions.
        x: where the source is, from the central pixel along rows [pixel].
        y: along columns [pixel].

    Returns:
        Fields of `candidate`, units as in ZTF's schema; None where nothing would be detected
        (a S/N below LEAST_SCORR).
    """
    positive = np.nan_to_num(stamps.difference)
    psf = moffat(x, y, exposure.seeing * rng.normal(1.04, 0.015))
    core = positive[_CORE, _CORE]
    flux, spread = matched_filter(core, stamps.noise[_CORE, _CORE], psf[_CORE, _CORE])
    scorr = abs(flux) / spread
    if scorr < LEAST_SCORR:
        return None
    sign = 1.0 if flux > 0 else -1.0
    image, core, flux = sign * positive, sign * core, abs(flux)
    quiet = exposure.noise
    # the PSF model is never quite that of the image: by so much that clear real alerts' chi grows
    # with their peak as it does; photons of what stands there are allowed for, and some misplacing
    model = flux * psf[_FIVE, _FIVE]
    wrong = _PSF_ERROR * rng.standard_normal(model.shape) * model
    photons, whole = (noise[_FIVE, _FIVE] ** 2 for noise in (stamps.photon_noise, stamps.noise))
    expected = (1 - _ALLOWED) * photons + _ALLOWED * whole
    chi = float(((image[_FIVE, _FIVE] - model + wrong) ** 2 / expected).mean())
    sky_pixels = image[_ANNULUS & ~stamps.bad]
    sky = float(np.median(sky_pixels)) if len(sky_pixels) else 0.0
    aperture = _aperture(image, _APERTURE, sky)
    big_aperture = _aperture(image, _BIG_APERTURE, sky)
    magpsf = exposure.magnitude(flux)
    ap_error = quiet * math.sqrt(math.pi) * _APERTURE
    big_error = quiet * math.sqrt(math.pi) * _BIG_APERTURE
    magap, sigmagap = _magnitude(exposure, aperture, ap_error)
    magapbig, sigmagapbig = _magnitude(exposure, big_aperture, big_error)
    widest = exposure.difference_seeing
    steady = float(np.nanmax(stamps.template[_FIVE, _FIVE])) - exposure.sky
    fwhm = _measured_width(rng, core, widest, steady / quiet, exposure.cloud)
    a, b = _moments(image)
    five = image[_FIVE, _FIVE]
    dsnrms = float(image[CENTRE, CENTRE] / quiet)
    ssnrms = float(flux / quiet * np.sqrt((psf[_CORE, _CORE] ** 2).sum()))
    seeratio = min(2.0, widest / fwhm)
    return {
        "isdiffpos": "t" if sign > 0 else "f",
        "magpsf": magpsf,
        "sigmapsf": _psf_error(rng, scorr, exposure.depth - magpsf),
        "chipsf": max(0.6, chi * rng.lognormal(0.15, 0.25)),
        "magap": magap,
        "sigmagap": sigmagap,
        "magapbig": magapbig,
        "sigmagapbig": sigmagapbig,
        "magdiff": magap - magpsf,
        "magfromlim": exposure.depth - magap,
        "sky": sky + rng.normal(0, 0.06 * quiet),
        "fwhm": fwhm,
        "seeratio": seeratio,
        "classtar": float(np.clip(1 - rng.exponential(0.25 / math.sqrt(scorr)), 0, 1)),
        "aimage": a,
        "bimage": b,
        "aimagerat": a / fwhm,
        "bimagerat": b / fwhm,
        "elong": a / b,
        "nneg": int((five < 0).sum()),
        "nbad": int(stamps.bad[_FIVE, _FIVE].sum()),
        "sumrat": float(five.sum() / np.abs(five).sum()),
        "scorr": scorr,
        "dsnrms": dsnrms,
        "ssnrms": ssnrms,
        "dsdiff": dsnrms - ssnrms,
    }


def matched_filter(image: np.ndarray, noise: np.ndarray, psf: np.ndarray) -> tuple[float, float]:
    """(flux, its error) of what a PSF fit sees; wide and narrow sources alike, through the PSF.

    Args:
        image: (n, n) of the difference [DN].
        noise: one sigma of each pixel [DN].
        psf: where the source is, of unit flux.
    """
    weight = psf / (psf**2).sum()
    return float((weight * image).sum()), 1.1 * float(np.sqrt(((weight * noise) ** 2).sum()))


def _aperture(image: np.ndarray, radius: float, sky: float) -> float:
    inside = np.clip(radius + 0.5 - _RADIUS[_BIG, _BIG], 0, 1)
    return float((inside * (image[_BIG, _BIG] - sky)).sum())


def _magnitude(exposure: Exposure, flux: float, error: float) -> tuple[float, float]:
    # where the aperture sums to nothing, its error is the limit
    flux = max(flux, error)
    return exposure.magnitude(flux), 1.0857 * error / flux


def _psf_error(rng: np.random.Generator, scorr: float, margin: float) -> float:
    """Error of the PSF-fit magnitude [mag], as real alerts relate it to their S/N and depth.

    A regression over 227 of them: it falls with the magnitudes by which a source is brighter than
    the limit (`margin`) more slowly than photon noise alone; its logarithm scatters by 0.22.
    """
    error = math.exp(-1.19 - 0.21 * math.log(scorr) - 0.39 * margin) * rng.lognormal(0, 0.2)
    return min(0.217, max(0.019, error))  # alerts end at five sigma


def _measured_width(
    rng: np.random.Generator, core: np.ndarray, seeing: float, steady: float, cloud: float
) -> float:
    """FWHM [pixel] as the survey's source extractor gives it, in hundredths of a pixel.

    On top of a bright star of `steady` times the noise it often finds no source of its own, in
    clouds more often, and half of the seeing takes its place: so in 47 of 98 real alerts that the
    published heads call v or b, and in 2 of 129 others.
    """
    width = _width(core) * rng.lognormal(0, 0.12)
    if rng.uniform() < 0.07:  # blended with its surroundings
        width *= rng.uniform(1.3, 2.2)
    lost = 0.5 / (1 + math.exp(-2 * math.log(max(steady, 1.0) / 60)))
    lost += 0.25 * (lost > 0.2 and cloud > 1)
    if width < 0.62 * seeing or rng.uniform() < lost:
        return max(1.04, seeing / 2)
    return round(width, 2)


def _width(core: np.ndarray) -> float:
    """FWHM [pixel]: the diameter of the area above half of the peak."""
    fraction = core / core[_HALF - 1 : _HALF + 2, _HALF - 1 : _HALF + 2].max()
    area = np.clip((fraction - 0.25) / 0.5, 0, 1).sum()
    return float(max(1.04, 2 * math.sqrt(area / math.pi)))


def _moments(image: np.ndarray) -> tuple[float, float]:
    """Windowed RMS along both axes [pixel]."""
    rows, columns = _ROWS[_CORE, _CORE], _COLUMNS[_CORE, _CORE]
    light = np.clip(image[_CORE, _CORE], 0, None) * np.exp(-(_RADIUS[_CORE, _CORE] ** 2) / 4.5)
    total = light.sum()
    xx, yy = (light * columns**2).sum() / total, (light * rows**2).sum() / total
    xy = (light * rows * columns).sum() / total
    middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    return math.sqrt(max(middle + half, 0.09)), math.sqrt(max(middle - half, 0.06))
