"""A labelled packet becomes a record of the dataset."""

from typing import Any

import numpy as np

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.surveys import Preset

Record = dict[str, Any]

_TYPES = {"double": float, "float": float, "integer": int, "text": str}


def example(packet: AlertPacket, label: str, preset: Preset, *, stamps: bool) -> Record:
    """One record. Where its `drb_source` is "braai", its `drb` is still NaN.

    Raises:
        PacketError: the alert has no arrays under this preset.
    """
    survey, fields = packet.survey, packet.fields
    about_the_alert = {
        "label": label,
        survey.alert_id: packet.alert_id,
        survey.object_id: packet.object_id,
        **{name: _TYPES[survey.kinds[name]](fields[name]) for name in survey.required_fields},
    }
    if stamps:
        raw = {name: data or b"" for name, data in zip(survey.cutouts, packet.cutouts, strict=True)}
        # None becomes NaN
        numbers = np.array([fields.get(name) for name in survey.dataset_numbers], np.float64)
        return {**raw, survey.record: numbers, **about_the_alert}
    arrays = alert_arrays(packet, preset)
    return {
        "triplet": arrays.triplet,
        "features": arrays.features,
        **about_the_alert,
        "preset": preset,
        "drb_source": arrays.drb_source,
    }
