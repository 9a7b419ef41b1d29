"""AlertPacket -> the arrays that the networks take, exactly as a preset's broker makes them.

| preset   | stamp below full size                             | drb null | other feature null |
| -------- | ------------------------------------------------- | -------- | ------------------ |
| acai     | divide by the norm, then pad bottom/right by 1e-9 | braai    | no score           |
| kowalski | the same                                          | use rb   | no score           |
| boom     | pad centred with zeros, then divide by the norm   | no score | no score           |
| lsst     | the same; a larger stamp's middle                 |          | no score           |
| lsst-snr | asinh of pixel / noise, then the same             |          | no score           |

As `lsst` does `winter`. LSST's features have rules of their own for nulls: `surveys.lsst`.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
from jaxtyping import Float32

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.stamps import Image, decode_stamp, decode_variance
from acai_jax.errors import PacketError, PresetError, StampError
from acai_jax.surveys import DEFAULT, DrbSource, Preset
from acai_jax.surveys.base import BRAAI, Survey

Features = Float32[np.ndarray, " f"]
Triplet = Float32[np.ndarray, "h w c"]

_PADDING_VALUE: Final = np.float32(1e-9)


class AlertArrays(NamedTuple):
    """One alert as the networks take it.

    Attributes:
        features: raw fields in the order of the survey's inputs: `FEATURE_NAMES` for ZTF. Where
            `drb_source` is "braai", `drb` is NaN: the scorer fills it in.
        triplet: normalised stamps; channels are science, template, difference.
        drb_source: where `drb` came from.
    """

    features: Features
    triplet: Triplet
    drb_source: DrbSource


def alert_arrays(packet: AlertPacket, preset: Preset | None = None) -> AlertArrays:
    """Turns a packet into the networks' input.

    Args:
        packet: one alert.
        preset: whose preprocessing to follow; scores differ between them by up to 0.4. By default
            the survey's first: "acai" for ZTF.

    Raises:
        PacketError: the alert cannot be scored: a null feature, or a stamp that is missing,
            damaged, of a wrong shape, or empty. The message says which.
        PresetError: there is no such preset.

    Example:
        >>> packet = AlertPacket("ZTF20aaelulu", 1, {"clrcoeff": 0.1}, (None, None, None))
        >>> alert_arrays(packet, "boom")
        Traceback (most recent call last):
        acai_jax.errors.PacketError: null feature: drb

    Source: Duev & van der Walt 2021, sections 2 and 3; the broker codes of Kowalski and BOOM.
    """
    survey = packet.survey
    preset = preset or cast(Preset, next(iter(survey.recipes)))
    check_preset(preset, survey)
    features, drb_source = feature_vector(packet, preset)
    noise = survey.recipes[preset].in_noise
    side = survey.largest_stamp
    triplet = np.empty(survey.inputs.triplet, np.float32)
    for channel, (name, data) in enumerate(zip(survey.cutouts, packet.cutouts, strict=True)):
        try:
            image = decode_stamp(data, side)
            if noise:
                image = in_units_of_noise(image, decode_variance(data, side))
            triplet[..., channel] = normalise_stamp(image, preset, survey)
        except StampError as error:
            raise StampError(f"{error} ({name})") from None
    return AlertArrays(features, triplet, drb_source)


def check_preset(preset: str, survey: Survey = DEFAULT) -> None:
    """Raises a `PresetError` for a preset that the survey does not have."""
    if preset not in survey.recipes:
        raise PresetError(f"unknown preset {preset!r}; known: {', '.join(survey.recipes)}")


def feature_vector(packet: AlertPacket, preset: Preset) -> tuple[Features, DrbSource]:
    """The raw features, and the source of `drb`, which other numbers may stand in for.

    Raises:
        PacketError: a feature is null, NaN or beyond float32.
    """
    survey, fields = packet.survey, packet.fields
    names = survey.inputs.features
    values = [fields.get(name) for name in names]
    source = "packet"
    for name, stand_in in survey.recipes[preset].stand_ins.items():
        if _is_null(fields.get(name)):
            given = 0.0 if stand_in == BRAAI else fields.get(stand_in)
            values[names.index(name)], source = given, stand_in
    with np.errstate(over="ignore"):
        features = np.array(values, np.float32)  # None becomes NaN
    if not np.isfinite(features).all():
        if survey.late_features and survey.late_features.isdisjoint(fields):
            raise PacketError(survey.late_reason)
        raise PacketError(_why_not_finite(features, values, names))
    if source == BRAAI:
        features[names.index(survey.replaced)] = np.nan
    return features, cast(DrbSource, source)


def _why_not_finite(features: Features, values: list[Any], names: Sequence[str]) -> str:
    index = int(np.flatnonzero(~np.isfinite(features))[0])
    name, value = names[index], values[index]
    if _is_null(value):
        return f"null feature: {name}"
    return f"feature beyond float32: {name} is {value!r}"


def in_units_of_noise(image: Image, variance: Image) -> Image:
    """asinh(pixel / standard deviation): linear within the noise, and beyond it logarithmic.

    A pixel without a variance above zero has no value: NaN.

    Raises:
        StampError: the two differ in size.

    Example:
        >>> in_units_of_noise(np.array([[6.0]], np.float32), np.array([[4.0]], np.float32)).round(3)
        array([[1.818]], dtype=float32)
    """
    if image.shape != variance.shape:
        raise StampError("odd-shaped stamp: its variance has another size")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.arcsinh(image / np.sqrt(variance))
    found[~(variance > 0)] = np.nan
    return found


def normalise_stamp(
    image: Image, preset: Preset = "acai", survey: Survey = DEFAULT
) -> Float32[np.ndarray, "side side"]:
    """NaN to 0, division by the L2 norm, padding to full size, in the preset's order.

    Of a stamp that is larger, the middle is taken before all else.

    The norm is taken in float32, as the published scores had it: template edges of 3.4e38
    overflow it to infinity, and the stamp becomes all zeros.

    Raises:
        StampError: every pixel is zero or NaN, which would make the score NaN; or one in the
            middle is NaN, where the recipe minds.

    Example:
        >>> float(normalise_stamp(np.ones((63, 63), np.float32))[0, 0])
        0.01587301678955555
    """
    side = survey.inputs.stamp
    if max(image.shape) > side:
        top, left = (max(0, (size - side) // 2) for size in image.shape)
        image = image[top : top + side, left : left + side]
    height, width = image.shape
    recipe = survey.recipes[preset]
    if recipe.whole_centre:
        middle = image[(height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1]
        if not np.isfinite(middle).all():
            raise StampError("no centre: the stamp's middle pixels have no value")
    if image.shape != (side, side) and recipe.padding == "centred":
        top, left = (side - height + 1) // 2, (side - width + 1) // 2
        padded = np.zeros((side, side), np.float32)
        padded[top : top + height, left : left + width] = image
        image = padded
    with np.errstate(over="ignore", invalid="ignore"):
        flat = image.ravel()
        square = flat.dot(flat)
        if not math.isfinite(square):  # only then can a pixel be NaN or infinite
            image = np.nan_to_num(image)
            flat = image.ravel()
            square = flat.dot(flat)
    norm = np.sqrt(square)
    if norm == 0:
        raise StampError("empty stamp: every pixel is zero or NaN")
    image = image / norm
    if image.shape == (side, side):
        return image
    padded = np.full((side, side), _PADDING_VALUE)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _is_null(value: object) -> bool:
    # columnar formats store a null float as NaN
    return value is None or (isinstance(value, float) and math.isnan(value))
