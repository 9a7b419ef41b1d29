"""LSST's images of one visit, and what its pipeline measures on them."""

import dataclasses
import math
from typing import Any, Final

import numpy as np
import scipy.ndimage

from acai_jax.simulate.images import Subtraction
from acai_jax.simulate.lsst_sky import SCALE, Template, Thing, Visit
from acai_jax.simulate.optics import (
    CENTRE,
    Stamp,
    moffat,
    points,
    sersic,
    smooth_noise,
    trail,
    with_psf,
)
from acai_jax.surveys.ztf import STAMP_SIZE

_SHAPE: Final = (STAMP_SIZE, STAMP_SIZE)
_ROWS, _COLUMNS = np.indices(_SHAPE) - CENTRE
PSF_SIDE: Final = 41
"""Pixels along each side of a PSF's image; fits use as many."""
_FIT: Final = slice(CENTRE - PSF_SIDE // 2, CENTRE + PSF_SIDE // 2 + 1)
_APERTURE: Final = 12.0  # [pixel]
_THRESHOLD: Final = 5.0
_FAINT: Final = 18.0  # in units of noise times FWHM: a detection of 12 standard deviations
_GROWN: Final = 2.4  # footprints, by so many standard deviations of the PSF
_SMALLEST, _LARGEST = 30, STAMP_SIZE  # of stamps [pixel]; the survey's end at 102


@dataclasses.dataclass(slots=True)
class Pictures:
    """The three images of a visit [nJy], sky-subtracted, their variances and PSFs."""

    science: Stamp
    template: Stamp
    difference: Stamp
    science_variance: Stamp
    template_variance: Stamp
    difference_variance: Stamp
    psf: np.ndarray
    template_psf: np.ndarray


class Scene:
    """What stands still around a thing; a galaxy is drawn once."""

    def __init__(self, thing: Thing) -> None:
        self.thing = thing
        self._galaxies: dict[int, np.ndarray] = {}

    def through(self, visit: Visit, fwhm: float, x: float, y: float, noise: float) -> Stamp:
        """The sources in a visit's band, with the thing (x, y) from the central pixel."""
        light: list[tuple[float, float, float, float]] = []  # x, y, flux, width of points
        galaxies: np.ndarray | None = None
        for number, source in enumerate(self.thing.sources):
            flux = visit.flux(source.in_filter(visit.fid))
            radius = source.radius / SCALE
            point = flux * source.nucleus if source.kind == "galaxy" else flux
            extended = flux - point
            if extended and flux < _FAINT * fwhm * noise:
                # too faint for its profile to show
                light.append((source.x + x, source.y + y, extended, math.hypot(fwhm, 1.6 * radius)))
            elif extended:
                if number not in self._galaxies:
                    self._galaxies[number] = sersic(
                        source.x, source.y, radius, source.index, source.axis_ratio, source.angle
                    )
                seen = extended * self._galaxies[number]
                galaxies = seen if galaxies is None else galaxies + seen
            if point:
                light.append((source.x + x, source.y + y, point, fwhm))
        across, down, fluxes, widths = np.array(light).reshape(-1, 4).T
        image = points(across, down, fluxes, widths, 0.1 * noise)
        return image if galaxies is None else image + with_psf(galaxies, fwhm, x, y)

    def pictures(self, rng: np.random.Generator, visit: Visit, x: float, y: float) -> Pictures:
        """Takes the pictures, with the thing (x, y) from the central pixel."""
        template = self.thing.place.templates[visit.band]
        fixed = _stretched(self.through(visit, visit.seeing, x, y, visit.noise), visit.stretch)
        coadd = self.through(visit, template.seeing, x, y, template.noise)
        coadd = _stretched(coadd, template.stretch)
        change = _stretched(self._change(visit, x, y), visit.stretch)
        if self.thing.defect is not None:  # no PSF blurs the detector's own
            change = change + self.thing.defect(rng, visit)
        light = np.clip(fixed + change, 0, None)
        variance = visit.noise**2 + light / visit.gain
        coadd_variance = template.noise**2 + np.clip(coadd, 0, None) / (visit.gain * 25)
        noise = np.sqrt(variance) * rng.standard_normal(_SHAPE)
        coadd_noise = np.sqrt(coadd_variance) * smooth_noise(rng)
        residual = _residual(fixed, self.thing.subtraction or _ordinary(rng))
        # the sky is subtracted, but never quite
        left = rng.normal(0.12, 0.35) * template.noise
        total = variance + coadd_variance
        return Pictures(
            science=fixed + change + noise + rng.normal(0.3, 0.35) * visit.noise * 0.5,
            template=coadd + coadd_noise + left,
            difference=change + residual + noise - coadd_noise + rng.normal(0.1, 0.1) * visit.noise,
            science_variance=variance,
            template_variance=coadd_variance,
            difference_variance=total,
            psf=_psf(visit.seeing, visit.stretch),
            template_psf=_psf(template.seeing, template.stretch),
        )

    def _change(self, visit: Visit, x: float, y: float) -> Stamp:
        if self.thing.light is None:
            return np.zeros(_SHAPE)
        flux = self.thing.light(visit)
        length, angle = self.thing.trail
        if length < 0.5:
            one = np.ones(1)
            return points(x * one, y * one, flux * one, visit.seeing, 1e-3 * visit.noise)
        level = 1e-3 * visit.noise / abs(flux)
        return flux * trail(min(length, 45.0), angle, x, y, visit.seeing, level)


def _ordinary(rng: np.random.Generator) -> Subtraction:
    """The small errors of an ordinary subtraction."""
    dx, dy = rng.normal(0, 0.02, 2).tolist()
    return Subtraction(dx, dy, float(rng.normal(0, 0.001)), float(rng.normal(0, 0.03)))


def _residual(fixed: Stamp, wrong: Subtraction) -> Stamp:
    """What stands still and is not subtracted."""
    down, across = np.gradient(fixed)
    curved = np.gradient(down, axis=0) + np.gradient(across, axis=1)
    return wrong.scale * fixed + wrong.width / 2 * curved - wrong.dx * across - wrong.dy * down


def _stretched(image: np.ndarray, stretch: float) -> np.ndarray:
    """Blurred along columns, or along rows where `stretch` is negative [pixel^2]."""
    axis = 0 if stretch > 0 else 1
    return scipy.ndimage.gaussian_filter1d(image, math.sqrt(abs(stretch)), axis, truncate=3.0)


def _psf(fwhm: float, stretch: float) -> np.ndarray:
    psf = _stretched(moffat(0.0, 0.0, fwhm, (PSF_SIDE, PSF_SIDE)), stretch)
    return psf / psf.sum()


def far_too_faint(thing: Thing, visit: Visit) -> bool:
    """Whether a change of the sky is surely not detected."""
    if thing.light is None:
        return False
    error = visit.noise * math.sqrt(4 * math.pi) * visit.seeing / 2.355
    return abs(thing.light(visit)) < 0.8 * _THRESHOLD * error


def measure(
    rng: np.random.Generator, images: Pictures, visit: Visit, template: Template, x: float, y: float
) -> dict[str, Any] | None:
    """The fields of one detection, or None where nothing is detected at the centre.

    Args:
        rng: source of chance, for what images do not show.
        images: of the visit.
        visit: the conditions.
        template: of the visit's band.
        x: where the source is, from the central pixel along rows [pixel].
        y: along columns [pixel].
    """
    width = visit.seeing / 2.355
    smooth = scipy.ndimage.gaussian_filter(images.difference, width, truncate=3.0)
    noise = math.sqrt(float(np.median(images.difference_variance)) / (4 * math.pi)) / width
    significance = smooth / noise
    footprint = _footprint(significance, width)
    if footprint is None:
        return None
    peak = significance[CENTRE - 1 : CENTRE + 2, CENTRE - 1 : CENTRE + 2]
    sign = 1.0 if abs(peak.max()) >= abs(peak.min()) else -1.0
    model = _model(visit.seeing * float(rng.normal(1.01, 0.008)), visit.stretch, x, y)
    difference, variance = images.difference[_FIT, _FIT], images.difference_variance[_FIT, _FIT]
    flux, error = _fit(difference, variance, model)
    chi2 = float(((difference - flux * model) ** 2 / variance).sum())
    inside = np.hypot(_ROWS - y, _COLUMNS - x) < _APERTURE
    lobes = significance[CENTRE - 7 : CENTRE + 8, CENTRE - 7 : CENTRE + 8]
    dipole = bool(min(lobes.max(), -lobes.min()) > _THRESHOLD)
    science = _fit(images.science[_FIT, _FIT], variance, model)
    old = _model(template.seeing, template.stretch, x, y)
    coadd = _fit(images.template[_FIT, _FIT], images.template_variance[_FIT, _FIT], old)
    wide = _model(1.25 * visit.seeing, 1.5 * visit.stretch, x, y)
    wider = _fit(difference, variance, wide)
    excess = (wider[0] / wider[1]) ** 2 - (flux / error) ** 2
    peak_snr = float(abs(sign * peak).max())
    return {
        "bboxSize": footprint,
        "isNegative": sign < 0,
        "snr": peak_snr * float(rng.normal(1.0, 0.015)),
        "psfFlux": flux,
        "psfFluxErr": error,
        "psfChi2": chi2 * float(rng.lognormal(0.01, 0.02)),
        "psfNdata": PSF_SIDE**2,
        "apFlux": float(images.difference[inside].sum()),
        "apFluxErr": math.sqrt(float(images.difference_variance[inside].sum())),
        "scienceFlux": science[0],
        "scienceFluxErr": science[1],
        "templateFlux": coadd[0],
        "templateFluxErr": coadd[1],
        "isDipole": dipole,
        "dipoleFitAttempted": dipole,
        **_shape(rng, sign * images.difference, visit, x, y, excess, dipole),
    }


def _footprint(significance: Stamp, width: float) -> int | None:
    """The larger side of the box around what is above the threshold [pixel]."""
    above = np.zeros(_SHAPE, np.int32)
    scipy.ndimage.label(np.abs(significance) > _THRESHOLD, output=above)
    middle = above[CENTRE - 1 : CENTRE + 2, CENTRE - 1 : CENTRE + 2]
    number = int(middle.max())
    if not number:
        return None
    rows, columns = np.nonzero(above == number)
    grown = 2 * round(_GROWN * width)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 + grown


def _model(fwhm: float, stretch: float, x: float, y: float) -> np.ndarray:
    model = _stretched(moffat(x, y, fwhm, (PSF_SIDE, PSF_SIDE)), stretch)
    return model / model.sum()


def _fit(image: np.ndarray, variance: np.ndarray, model: np.ndarray) -> tuple[float, float]:
    """Flux and its error."""
    weight = model / variance
    norm = float((weight * model).sum())
    return float((weight * image).sum()) / norm, 1 / math.sqrt(norm)


def _shape(
    rng: np.random.Generator,
    image: Stamp,
    visit: Visit,
    x: float,
    y: float,
    excess: float,
    dipole: bool,
) -> dict[str, Any]:
    """Moments [arcsec^2], and what follows from them; null where they cannot be measured."""
    variance = (visit.seeing / 2.355) ** 2 + abs(visit.stretch) / 2
    # by the same measure, so that a point's are those of the PSF
    psf = _moments(_stretched(moffat(0.0, 0.0, visit.seeing), visit.stretch), variance, 0.0, 0.0)
    assert psf is not None
    xx, yy, xy = (value * SCALE**2 for value in psf)
    found: dict[str, Any] = {"ixxPSF": xx, "iyyPSF": yy, "ixyPSF": xy, "shape_flag": True}
    moments = _moments(image, variance, x, y)
    if moments is None or rng.uniform() < (0.2 if dipole else 0.01):
        return found
    xx, yy, xy = (value * SCALE**2 for value in moments)
    long = math.hypot(xx - yy, 2 * xy)
    return {
        **found,
        "shape_flag": False,
        "ixx": xx,
        "iyy": yy,
        "ixy": xy,
        "extendedness": 1 / (1 + math.exp(1.6 - 0.9 * math.asinh(excess / 2))),
        "trailLength": 1.32 * math.sqrt(6 * long),
        "trailAngle": math.degrees(math.atan2(2 * xy, xx - yy)) / 2,
    }


def _moments(
    image: Stamp, variance: float, x: float, y: float
) -> tuple[float, float, float] | None:
    """Moments under a Gaussian weight of the PSF's width, the weight's own share taken out."""
    across, down = _COLUMNS - x, _ROWS - y
    light = np.exp(-(across**2 + down**2) / (2 * variance)) * image
    total = light.sum()
    if total <= 0:
        return None
    xx, yy = (light * across**2).sum() / total, (light * down**2).sum() / total
    xy = (light * across * down).sum() / total
    # of the product of two Gaussians, inverse covariances add
    determinant = xx * yy - xy * xy
    if xx <= 0 or yy <= 0 or determinant <= 0:
        return None
    a, b, c = yy / determinant - 1 / variance, xx / determinant - 1 / variance, -xy / determinant
    determinant = a * b - c * c
    if a <= 0 or b <= 0 or determinant <= 0:
        return None
    return float(b / determinant), float(a / determinant), float(-c / determinant)


def beyond_edge(rng: np.random.Generator, images: Pictures) -> None:
    """Takes away what lies beyond the detector's edge: a border of the stamp."""
    width = CENTRE - _SMALLEST // 2 + int(rng.integers(1, 11))
    turns = int(rng.integers(0, 4))
    for plane in (
        *(images.science, images.template, images.difference),
        *(images.science_variance, images.template_variance, images.difference_variance),
    ):
        np.rot90(plane, turns)[:width] = np.nan


def cut(image: Stamp, side: int, x: float, y: float) -> np.ndarray:
    """The stamp of `side` pixels whose centre is nearest to (x, y)."""
    side = min(_LARGEST, max(_SMALLEST, side))
    top, left = (
        min(STAMP_SIZE - side, max(0, CENTRE - side // 2 + (side % 2 == 0 and offset > 0)))
        for offset in (y, x)
    )
    return image[top : top + side, left : left + side]
