"""AlertPacket -> the arrays that the networks take, exactly as a preset's broker makes them.

| preset   | stamp below 63x63                                 | drb null | other feature null |
| -------- | ------------------------------------------------- | -------- | ------------------ |
| acai     | divide by the norm, then pad bottom/right by 1e-9 | braai    | no score           |
| kowalski | the same                                          | use rb   | no score           |
| boom     | pad centred with zeros, then divide by the norm   | no score | no score           |
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.stamps import Image, decode_stamp
from acai_jax.errors import PacketError, StampError
from acai_jax.surveys.ztf import (
    CUTOUTS,
    DRB_INDEX,
    FEATURE_NAMES,
    PRESETS,
    STAMP_SIZE,
    DrbSource,
    Preset,
)

Features = Float32[np.ndarray, "25"]
Triplet = Float32[np.ndarray, "63 63 3"]

_PADDING_VALUE: Final = np.float32(1e-9)
_BEFORE_SCHEMA_3: Final = frozenset({"clrcoeff", "clrcounc"})


class AlertArrays(NamedTuple):
    """One alert as the networks take it.

    Attributes:
        features: raw candidate fields in the order of `FEATURE_NAMES`. Where `drb_source` is
            "braai", `drb` is NaN: the scorer fills it in.
        triplet: normalised stamps; channels are science, template, difference.
        drb_source: where `drb` came from.
    """

    features: Features
    triplet: Triplet
    drb_source: DrbSource


def alert_arrays(packet: AlertPacket, preset: Preset = "acai") -> AlertArrays:
    """Turns a packet into the networks' input.

    Args:
        packet: one alert.
        preset: whose preprocessing to follow; scores differ between them by up to 0.4.

    Raises:
        PacketError: the alert cannot be scored: a null feature, or a stamp that is missing,
            damaged, of a wrong shape, or empty. The message says which.
        ValueError: there is no such preset.

    Example:
        >>> packet = AlertPacket("ZTF20aaelulu", 1, {"magpsf": 18.5}, (None, None, None))
        >>> alert_arrays(packet, "boom")
        Traceback (most recent call last):
        acai_jax.errors.PacketError: null feature: drb

    Source: Duev & van der Walt 2021, sections 2 and 3; the broker codes of Kowalski and BOOM.
    """
    check_preset(preset)
    features, drb_source = feature_vector(packet, preset)
    triplet = np.empty((STAMP_SIZE, STAMP_SIZE, len(CUTOUTS)), np.float32)
    for channel, (name, data) in enumerate(zip(CUTOUTS, packet.cutouts, strict=True)):
        try:
            triplet[..., channel] = normalise_stamp(decode_stamp(data), preset)
        except StampError as error:
            raise StampError(f"{error} ({name})") from None
    return AlertArrays(features, triplet, drb_source)


def check_preset(preset: str) -> None:
    """Raises a `ValueError` for a preset that does not exist."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")


def feature_vector(packet: AlertPacket, preset: Preset) -> tuple[Features, DrbSource]:
    """The 25 raw features, and the source of the first.

    Raises:
        PacketError: a feature is null, NaN or beyond float32.
    """
    candidate = packet.candidate
    values = [candidate.get(name) for name in FEATURE_NAMES]
    drb_source: DrbSource = "packet"
    if _is_null(values[DRB_INDEX]):
        if preset == "kowalski":
            values[DRB_INDEX], drb_source = candidate.get("rb"), "rb"
        elif preset == "acai":
            values[DRB_INDEX], drb_source = 0.0, "braai"
    with np.errstate(over="ignore"):
        features = np.array(values, np.float32)  # None becomes NaN
    if not np.isfinite(features).all():
        if _BEFORE_SCHEMA_3.isdisjoint(candidate):
            raise PacketError(
                "missing features: clrcoeff and clrcounc, which packets before schema 3.0 "
                "(18 July 2018) do not have"
            )
        raise PacketError(_why_not_finite(features, values))
    if drb_source == "braai":
        features[DRB_INDEX] = np.nan
    return features, drb_source


def _why_not_finite(features: Features, values: list[Any]) -> str:
    index = int(np.flatnonzero(~np.isfinite(features))[0])
    name, value = FEATURE_NAMES[index], values[index]
    if _is_null(value):
        return f"null feature: {name}"
    return f"feature beyond float32: {name} is {value!r}"


def normalise_stamp(image: Image, preset: Preset = "acai") -> Float32[np.ndarray, "63 63"]:
    """NaN to 0, division by the L2 norm, padding to 63x63, in the preset's order.

    The norm is taken in float32, as the published scores had it: template edges of 3.4e38
    overflow it to infinity, and the stamp becomes all zeros.

    Raises:
        StampError: every pixel is zero or NaN, which would make the score NaN.

    Example:
        >>> float(normalise_stamp(np.ones((63, 63), np.float32))[0, 0])
        0.01587301678955555
    """
    height, width = image.shape
    if preset == "boom" and image.shape != (STAMP_SIZE, STAMP_SIZE):
        top, left = (STAMP_SIZE - height + 1) // 2, (STAMP_SIZE - width + 1) // 2
        padded = np.zeros((STAMP_SIZE, STAMP_SIZE), np.float32)
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
    if image.shape == (STAMP_SIZE, STAMP_SIZE):
        return image
    padded = np.full((STAMP_SIZE, STAMP_SIZE), _PADDING_VALUE)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _is_null(value: object) -> bool:
    # columnar formats store a null float as NaN
    return value is None or (isinstance(value, float) and math.isnan(value))
