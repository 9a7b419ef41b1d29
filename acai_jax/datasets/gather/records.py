"""A labelled packet becomes a record of the dataset."""

from typing import Any

import numpy as np

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.surveys.ztf import CUTOUTS, DATASET_FIELDS, TEXT_FIELDS, Preset

Record = dict[str, Any]

CANDIDATE_FIELDS = tuple(name for name in DATASET_FIELDS if name not in TEXT_FIELDS)
"""Numbers of `candidate` that a record of raw stamps keeps."""


def example(packet: AlertPacket, label: str, preset: Preset, *, stamps: bool) -> Record:
    """One record. Where its `drb_source` is "braai", its `drb` is still NaN.

    Raises:
        PacketError: the alert has no arrays under this preset.
    """
    fields = packet.candidate
    about_the_alert = {
        "label": label,
        "candid": packet.candid,
        "objectId": packet.objectId,
        **{name: float(fields[name]) for name in ("jd", "ra", "dec")},  # type: ignore[arg-type]
        **{name: int(fields[name]) for name in ("fid", "programid")},  # type: ignore[arg-type]
    }
    if stamps:
        raw = {name: data or b"" for name, data in zip(CUTOUTS, packet.cutouts, strict=True)}
        # None becomes NaN
        candidate = np.array([fields.get(name) for name in CANDIDATE_FIELDS], np.float64)
        return {**raw, "candidate": candidate, **about_the_alert}
    arrays = alert_arrays(packet, preset)
    return {
        "triplet": arrays.triplet,
        "features": arrays.features,
        **about_the_alert,
        "preset": preset,
        "drb_source": arrays.drb_source,
    }
