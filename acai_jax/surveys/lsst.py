"""The Vera C. Rubin Observatory's LSST: every fact about its alerts, each declared here, once.

A packet says fluxes [nJy], of either sign, and times of TAI. What is made of them has the names
that BOOM gives (`jd`, `magpsf`, ...). Each feature has a rule for a value that is not there:

| features | where what they are made of is null |
| --- | --- |
| those of the detection and its host | no score: an alert without them is none |
| `log_snr` | the flux over its error |
| those of the shape | a point source's: what the pipeline could not measure is not resolved |
| `trail_length`, `is_dipole`, `glint_trail`, `bad_flags` | 0: nothing was found |
| those of the history | a first detection's, as every moving object is |

An alert of a known moving object never has a history, so that a value of its own for "none" would
be the label. `reliability`, below which alerts are not sent, and which changes without notice,
and the association with known objects are columns, but no features.

Source: https://github.com/lsst/alert_packet, schemas 10.0 to 11.1; names as in BOOM.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from acai_jax.errors import PacketError
from acai_jax.surveys.base import (
    COMMON_FILTERS,
    Derived,
    Field,
    Grouping,
    Inputs,
    NamedFilter,
    Photometry,
    Recipe,
    Signs,
    Survey,
)
from acai_jax.times import DATES

_MJD: Final = 2400000.5
_TAI_MINUS_UTC: Final = 37 / 86400  # [day], since 2017; a new leap second would be announced
_AB_OF_NJY: Final = 31.4
_POGSON: Final = 2.5 / math.log(10)
_SOFTENING: Final = 100.0  # [nJy], of asinh magnitudes: less than one visit's noise
_MOST: Final = 10.0  # of ratios of fluxes, whose denominators may come near zero
_SIGMA_TO_FWHM: Final = math.sqrt(8 * math.log(2))
_POINT: Final = {"extendedness": 0.0, "log_size": 0.0, "ellipticity": 0.0}

# effective wavelengths [micrometre]
_WAVELENGTHS: Final = {"u": 0.367, "g": 0.483, "r": 0.622, "i": 0.755, "z": 0.869, "y": 0.971}
# towards the poles, in ICRS: galactic and ecliptic
_GALACTIC: Final = (-0.8676661375596576, -0.19807633727300059, 0.45598381368730156)
_ECLIPTIC: Final = (-1.020704472070512e-07, -0.3977769994440431, 0.9174821299149555)

# a list, not all that there are: a flag that a later schema adds must not change scores
_BAD: Final = (
    "centroid_flag",
    "shape_flag",
    "trail_flag_edge",
    *(f"apFlux_flag{end}" for end in ("", "_apertureTruncated")),
    *(
        f"{flux}_flag{end}"
        for flux in ("psfFlux", "forced_PsfFlux")
        for end in ("", "_edge", "_noGoodPixels")
    ),
    *(f"shape_flag{end}" for end in ("_no_pixels", "_not_contained", "_parent_source")),
    "pixelFlags",
    *(f"pixelFlags_{name}" for name in ("bad", "edge", "offimage")),
    *(
        f"pixelFlags_{name}{end}"
        for name in ("cr", "interpolated", "nodata", "saturated", "streak", "suspect")
        for end in ("", "Center")
    ),
)

_FEATURES: Final = (
    # detection
    "log_snr",
    "magpsf",
    "sigmapsf",
    "diffmaglim",
    "flux_sign",
    "ap_over_psf",
    "log_chi2",
    # host: template and science at the source, where fluxes may be negative
    "template_snr",
    "template_mag",
    "science_mag",
    "contrast",
    # shape
    "extendedness",
    "log_size",
    "ellipticity",
    "fwhm",
    "bboxSize",
    # motion, artefact
    "trail_length",
    "is_dipole",
    "glint_trail",
    "bad_flags",
    # history
    "log_detections",
    "log_days",
    "log_forced",
    "flux_over_mean",
    # context; ra and dec would be learnt by heart, field by field
    "galactic_lat",
    "ecliptic_lat",
    "wavelength",
)

_FIELDS: Final = (
    Field("jd", "double", "day", required=True, plausible=DATES),  # the middle of the exposure
    Field("ra", "double", "deg", required=True, plausible=(0.0, 360.0)),
    Field("dec", "double", "deg", required=True, plausible=(-90.0, 90.0)),
    Field("band", "text", required=True),
    Field("log_snr"),
    Field("magpsf", unit="mag"),
    Field("sigmapsf", unit="mag"),
    Field("diffmaglim", unit="mag"),
    Field("flux_sign"),
    Field("ap_over_psf"),
    Field("log_chi2"),
    Field("template_snr"),
    Field("template_mag", unit="mag"),
    Field("science_mag", unit="mag"),
    Field("contrast"),
    Field("extendedness"),
    Field("log_size"),
    Field("ellipticity"),
    Field("fwhm", unit="arcsec"),
    Field("bboxSize", "integer", "pixel"),
    Field("trail_length", unit="arcsec"),
    Field("is_dipole", "integer"),
    Field("glint_trail", "integer"),
    Field("bad_flags", "integer"),
    Field("log_detections"),
    Field("log_days"),
    Field("log_forced"),
    Field("flux_over_mean"),
    Field("galactic_lat", unit="deg"),
    Field("ecliptic_lat", unit="deg"),
    Field("wavelength", unit="um"),
    Field("isdiffpos", "text"),
    Field("snr"),
    Field("snr_psf"),
    Field("reliability"),
    Field("ndethist", "integer"),
    Field("jdstarthist", "double", "day"),
    Field("psfFlux", unit="nJy"),
    Field("psfFluxErr", unit="nJy"),
    Field("apFlux", unit="nJy"),
    Field("scienceFlux", unit="nJy"),
    Field("templateFlux", unit="nJy"),
    # 64 bits, which packaged datasets, all of whose numbers are doubles, cannot hold
    Field("diaObjectId", "integer", packaged=False),
    Field("ssObjectId", "integer", packaged=False),
    Field("visit", "integer", packaged=False),
    Field("detector", "integer", packaged=False),
    Field("midpointMjdTai", "double", "day", packaged=False),
)


def arrange(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A packet's top level, with the object's name and, in `diaSource`, all `fields`.

    Args:
        record: as it was sent.

    Raises:
        PacketError: a value has a wrong type.

    Example:
        >>> made = arrange({"diaSource": {"ssObjectId": 21163611628319314, "psfFlux": -1e4}})
        >>> made["objectId"], made["diaSource"]["magpsf"], made["diaSource"]["isdiffpos"]
        ('sso21163611628319314', 21.4, 'f')
    """
    source = record.get("diaSource")
    if not isinstance(source, Mapping):
        return record
    ids = {name: _identifier(source, name) for name in ("diaObjectId", "ssObjectId")}
    named = ids["diaObjectId"] or (ids["ssObjectId"] and f"sso{ids['ssObjectId']}")
    numbers = _Numbers(source, "diaSource")
    made = {
        **_detection(numbers, source.get("band")),
        **_shape(numbers),
        **_history(record, numbers, source.get("band")),
        **_place(numbers["ra"], numbers["dec"]),
        "wavelength": _WAVELENGTHS.get(str(source.get("band"))),
        "trail_length": numbers["trailLength"] or 0.0,
        "is_dipole": int(source.get("isDipole") is True),
        "glint_trail": int(source.get("glint_trail") is True),
        "bad_flags": sum(source.get(name) is True for name in _BAD),
    }
    arranged = {**record, "diaSource": {**source, **ids, **made}}
    if named:
        arranged["objectId"] = str(named)
    return arranged


class _Numbers(dict[str, float | None]):
    """A record's numbers by name: None where there is none, as NaN is in columnar files."""

    def __init__(self, record: Mapping[str, Any], path: str) -> None:
        super().__init__()
        self._record, self._path = record, path

    def __missing__(self, name: str) -> float | None:
        value = self._record.get(name)
        if type(value) is int and abs(value) < 2**63:
            value = float(value)
        if value is not None and type(value) is not float:
            kind = type(value).__name__
            raise PacketError(f"wrong type: {self._path}.{name} is a {kind}, not a number")
        self[name] = value = None if value is None or math.isnan(value) else value
        return value


def _identifier(source: Mapping[str, Any], name: str) -> int:
    """An identifier, 0 where there is none. JSON may hold it as text; a float has lost digits."""
    value = source.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < 2**63:
        kind = type(value).__name__
        raise PacketError(f"wrong type: diaSource.{name} is a {kind}, not a 64-bit integer")
    return value


def _detection(numbers: _Numbers, band: object) -> dict[str, float | str | None]:
    """What the fluxes say. The sign is the flux's: `isNegative` is wrong in one of fourteen."""
    made: dict[str, float | str | None] = {}
    mjd, flux, error = numbers["midpointMjdTai"], numbers["psfFlux"], numbers["psfFluxErr"]
    aperture, template = numbers["apFlux"], numbers["templateFlux"]
    made["jd"] = None if mjd is None else _jd(mjd)
    if flux is not None:
        made["isdiffpos"] = "t" if flux > 0 else "f"
        made["flux_sign"] = 1.0 if flux > 0 else -1.0
    if flux:
        made["magpsf"] = _AB_OF_NJY - 2.5 * math.log10(abs(flux))
        if error is not None:
            made["sigmapsf"] = _POGSON * error / abs(flux)
        if aperture is not None:
            made["ap_over_psf"] = _clipped(aperture / flux)
        if template is not None:
            made["contrast"] = flux / (abs(flux) + abs(template))
    if error is not None and error > 0:
        made["diffmaglim"] = _AB_OF_NJY - 2.5 * math.log10(5 * error)
        made["snr_psf"] = None if flux is None else abs(flux) / error
    snr = numbers["snr"] or made.get("snr_psf")
    made["log_snr"] = _log10(snr if isinstance(snr, float) else None)
    chi2, pixels = numbers["psfChi2"], numbers["psfNdata"]
    made["log_chi2"] = _log10(chi2 / pixels) if chi2 is not None and pixels else None
    if template is not None and (noise := numbers["templateFluxErr"]):
        made["template_snr"] = math.asinh(template / noise)
    for name, value in (("template_mag", template), ("science_mag", numbers["scienceFlux"])):
        made[name] = None if value is None else _asinh_magnitude(value)
    return made


def _shape(numbers: _Numbers) -> dict[str, float | None]:
    """Extendedness as it is, and moments [arcsec**2] as a size in units of the PSF's, and so on."""
    xx, yy, xy = numbers["ixx"], numbers["iyy"], numbers["ixy"]
    psf_xx, psf_yy = numbers["ixxPSF"], numbers["iyyPSF"]
    made: dict[str, float | None] = dict(_POINT)
    if (extendedness := numbers["extendedness"]) is not None:
        made["extendedness"] = extendedness
    psf = None if psf_xx is None or psf_yy is None else psf_xx + psf_yy
    size = None if xx is None or yy is None else xx + yy
    made["fwhm"] = _SIGMA_TO_FWHM * math.sqrt(psf / 2) if psf is not None and psf >= 0 else None
    if size is not None and size > 0:
        if psf is not None and psf > 0:
            ratio = size / psf
            made["log_size"] = math.log2(ratio) / 2 if 0 < ratio < math.inf else None
        if xx is not None and yy is not None and xy is not None:
            made["ellipticity"] = math.hypot(xx - yy, 2 * xy) / size
    return made


def _history(
    record: Mapping[str, Any], numbers: _Numbers, band: object
) -> dict[str, float | int | None]:
    """How often, since when and how bright it was seen before; the statistics are per band."""
    known = record.get("diaObject")
    if known is not None and not isinstance(known, Mapping):
        raise PacketError("wrong type: diaObject is not a record")
    known = _Numbers(known or {}, "diaObject")
    mjd, flux = numbers["midpointMjdTai"], numbers["psfFlux"]
    first = min(_times(record, "prvDiaSources"), default=mjd)
    detections = max(1, int(_finite(known["nDiaSources"])))
    made: dict[str, float | int | None] = {
        "ndethist": detections,
        "log_detections": math.log1p(detections),
        "log_forced": math.log1p(len(_rows(record, "prvDiaForcedSources"))),
    }
    if mjd is not None and first is not None:
        made["jdstarthist"] = _jd(min(first, mjd))
        made["log_days"] = math.log1p(max(0.0, mjd - first))
    mean, count = known[f"{band}_psfFluxMean"], known[f"{band}_psfFluxNdata"]
    made["flux_over_mean"] = 1.0
    # the mean of one flux is that flux, but for its last digit
    if flux is not None and mean and count is not None and count > 1:
        made["flux_over_mean"] = _clipped(flux / mean)
    return made


def _times(record: Mapping[str, Any], name: str) -> list[float]:
    """The times of earlier photometry: a thousand in a deep field, so no more of it is read."""
    try:
        times = [row["midpointMjdTai"] for row in _rows(record, name)]
    except (TypeError, KeyError, IndexError):
        raise PacketError(f"wrong type: {name} is not an array of records with times") from None
    if not ({*map(type, times)} <= {float} and all(map(math.isfinite, times))):
        raise PacketError(f"wrong type: {name}.midpointMjdTai is not a number everywhere")
    return times


def _rows(record: Mapping[str, Any], name: str) -> Sequence[Any]:
    rows = record.get(name)
    if not isinstance(rows, list | tuple | None):
        raise PacketError(f"wrong type: {name} is not an array of records")
    return rows or ()


def _place(ra: float | None, dec: float | None) -> dict[str, float | None]:
    """Latitudes without their signs [deg]: how many stars, and how many asteroids, there are."""
    if ra is None or dec is None or not (math.isfinite(ra) and math.isfinite(dec)):
        return {"galactic_lat": None, "ecliptic_lat": None}
    longitude, latitude = math.radians(ra), math.radians(dec)
    towards = (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )
    found = {}
    for name, pole in (("galactic_lat", _GALACTIC), ("ecliptic_lat", _ECLIPTIC)):
        sine = sum(a * b for a, b in zip(towards, pole, strict=True))
        found[name] = abs(math.degrees(math.asin(max(-1.0, min(1.0, sine)))))
    return found


def _jd(mjd_tai: float) -> float:
    return (mjd_tai - _TAI_MINUS_UTC) + _MJD


def _asinh_magnitude(flux: float) -> float:
    """A magnitude that a flux of zero or less has, too."""
    return _AB_OF_NJY - _POGSON * (math.asinh(flux / (2 * _SOFTENING)) + math.log(_SOFTENING))


def _clipped(ratio: float) -> float:
    return max(-_MOST, min(_MOST, ratio))


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and value > 0 else None


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


_FILTERS: Final = {
    **COMMON_FILTERS,
    "likely_tde": NamedFilter(
        "acai_n > 0.8 AND MAX(acai_b, acai_v) < 0.1 AND is_positive_subtraction "
        "AND NOT is_known_ss_object AND n_detections BETWEEN 2 AND 40 AND jd - jdstarthist < 120",
        "New, positive flux in the nucleus of a galaxy, seen before but not for long.",
    ),
    "good_quality": NamedFilter(
        "reliability > 0.55 AND snr_psf >= 6 AND is_dipole = 0 AND bad_flags = 0",
        "Sound detections, whatever they are of: not used by any other filter, for the "
        "observatory's own network changes without notice.",
    ),
}

LSST: Final = Survey(
    name="lsst",
    title="LSST",
    signs=Signs(("lsst",), frozenset({"diaSource", "diaSourceId", "diaObject"})),
    record="diaSource",
    alert_id="diaSourceId",
    object_id="objectId",
    object_name=r"(?:sso)?\d{15,19}",
    time="jd",
    band="band",
    magnitude="magpsf",
    fields=_FIELDS,
    inputs=Inputs(
        features=_FEATURES,
        stamp=30,  # 0.2 arcsec each
        channels=("science", "template", "difference"),
        sentinel=-999.0,  # which no feature holds
    ),
    recipes={
        "lsst": Recipe("centred", whole_centre=True),
        "lsst-snr": Recipe("centred", whole_centre=True, in_noise=True),
    },
    cutouts=("cutoutScience", "cutoutTemplate", "cutoutDifference"),
    largest_stamp=102,
    histories=("prvDiaSources", "prvDiaForcedSources"),
    split_by="position",
    light_curve=tuple(
        Photometry(
            *(rows, "midpointMjdTai", "psfFlux", "psfFluxErr"),
            since=_MJD - _TAI_MINUS_UTC,
            zero_point=_AB_OF_NJY,
        )
        for rows in ("diaSource", "prvDiaSources", "prvDiaForcedSources")
    ),
    bands={name: name for name in _WAVELENGTHS},
    derived=(
        Derived("n_detections", "ndethist"),
        Derived("is_positive_subtraction", "isdiffpos", values={"t": True, "f": False}),
        Derived("is_known_ss_object", "ssObjectId", between=(1.0, 2.0**63)),
    ),
    filters=_FILTERS,
    groupings={
        "filter": Grouping("filter", "band"),
        "magnitude": Grouping("magpsf [mag]", "magpsf", (19.0, 20.0, 21.0, 22.0, 23.0)),
        "latitude": Grouping("galactic latitude, N or S", "latitude", (10.0, 20.0, 40.0), "°"),
        "ecliptic": Grouping("ecliptic latitude, N or S", "ecliptic_lat", (5.0, 15.0, 30.0), "°"),
        "year": Grouping("year", "year"),
        "footprint": Grouping("footprint [pixel]", "bboxSize", (30.0, 40.0, 50.0), whole=True),
    },
    key_fields=(
        "magpsf",
        "sigmapsf",
        "diffmaglim",
        "isdiffpos",
        "snr",
        "reliability",
        "fwhm",
        "extendedness",
        "bboxSize",
        "trail_length",
        "is_dipole",
        "bad_flags",
        "ndethist",
        "ssObjectId",
        "template_snr",
        "ecliptic_lat",
    ),
    message_fields=("magpsf", "reliability"),
    topic="lsst-alerts-v11",
    arrange=arrange,
    arranged_from=(
        "diaObject",
        "prvDiaSources.midpointMjdTai",
        "prvDiaForcedSources.",
    ),
)
