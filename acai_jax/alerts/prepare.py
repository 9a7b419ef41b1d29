"""Pieces of sources -> rows and arrays, a chunk of alerts at a time.

This module and all that it imports stay free of JAX, so that workers start fast and never touch
an accelerator.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import AlertArrays, alert_arrays, check_preset
from acai_jax.alerts.sources import Encoded, decode
from acai_jax.errors import PacketError, Reject, reason_of
from acai_jax.surveys import DEFAULT, Preset
from acai_jax.surveys.base import BRAAI, Survey
from acai_jax.workers import map_chunks

CHUNK_ALERTS: Final = 128


_CHUNK_BYTES: Final = 32 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk of alerts, ready to score.

    Attributes:
        columns: the score table's columns but the scores, a value for each of n alerts.
        accepted: (m,) int, the rows that have arrays; every other row has a reason.
        features: (m, f) float32.
        triplets: (m, h, w, c) float32.
        source_bytes: how much of the sources it took, for progress bars.
    """

    columns: dict[str, list[Any]]
    accepted: np.ndarray
    features: Float32[np.ndarray, "m f"]
    triplets: Float32[np.ndarray, "m h w c"]
    source_bytes: int


def chunks(encoded: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """Groups pieces into chunks of about `CHUNK_ALERTS` alerts: always the same chunks."""
    chunk: list[Encoded] = []
    alerts = size = 0
    for piece in encoded:
        chunk.append(piece)
        alerts += piece.count
        # what the piece itself holds, or the file that it names
        held = len(piece.content) if isinstance(piece.content, bytes) else piece.source_bytes
        size += max(held, piece.memory_bytes)
        if alerts >= CHUNK_ALERTS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, alerts, size = [], 0, 0
    if chunk:
        yield chunk


def prepare_chunks(
    chunked: Iterable[list[Encoded]], preset: Preset, workers: int | None, survey: Survey = DEFAULT
) -> Iterator[Prepared]:
    """Prepares chunks for the scorer; see `map_chunks`."""
    return map_chunks(chunked, functools.partial(prepare, preset=preset, survey=survey), workers)


def prepare(chunk: list[Encoded], preset: Preset, survey: Survey = DEFAULT) -> Prepared:
    """Decodes and preprocesses a chunk; never raises for what a packet holds."""
    alerts = [alert for piece in chunk for alert in decode(piece)]
    return prepare_alerts(alerts, preset, sum(piece.source_bytes for piece in chunk), survey)


def row_columns(survey: Survey = DEFAULT) -> tuple[str, ...]:
    """The columns of `Prepared`."""
    ids = (survey.alert_id, survey.object_id)
    return (*ids, *survey.table_fields, "drb_source", "reason", "origin")


def prepare_alerts(
    alerts: Sequence[AlertPacket | Reject],
    preset: Preset,
    source_bytes: int = 0,
    survey: Survey = DEFAULT,
) -> Prepared:
    """Rows and arrays of alerts that are decoded already; never raises for what one holds.

    Args:
        alerts: of `survey`; one of another is a reject.
        preset: whose preprocessing to follow.
        source_bytes: that the alerts took.
        survey: whose alerts the heads read.
    """
    check_preset(preset, survey)
    columns: dict[str, list[Any]] = {name: [] for name in row_columns(survey)}
    inputs = survey.inputs
    accepted: list[int] = []
    features = np.empty((len(alerts), len(inputs.features)), np.float32)
    triplets = np.empty((len(alerts), *inputs.triplet), np.float32)
    for row, alert in enumerate(alerts):
        result, values = _row(alert, preset, survey)
        for name, value in zip(survey.table_fields, values, strict=True):
            columns[name].append(value)
        columns[survey.alert_id].append(alert.alert_id)
        columns[survey.object_id].append(alert.object_id)
        columns["origin"].append(alert.origin)
        if isinstance(result, Reject):
            columns["drb_source"].append(None)
            columns["reason"].append(result.reason)
        else:
            columns["drb_source"].append(result.drb_source)
            columns["reason"].append(None)
            if survey.replaced and result.drb_source not in ("packet", BRAAI):
                value = result.features[inputs.features.index(survey.replaced)]
                columns[survey.replaced][row] = float(value)
            features[len(accepted)], triplets[len(accepted)], _ = result
            accepted.append(row)
    count = len(accepted)
    rows = np.array(accepted, np.int64)
    return Prepared(columns, rows, features[:count], triplets[:count], source_bytes)


def _row(
    alert: AlertPacket | Reject, preset: Preset, survey: Survey
) -> tuple[AlertArrays | Reject, Sequence[Any]]:
    """An alert's arrays, and what the table says of it."""
    nothing = (None,) * len(survey.table_fields)
    if isinstance(alert, AlertPacket) and alert.survey is not survey:
        title = alert.survey.title
        alert = _rejected(alert, PacketError(f"not {survey.an_alert}: a packet of {title}"))
    if isinstance(alert, Reject):
        return alert, nothing
    try:
        get = alert.fields.get
        values = [_table_value(kind, get(name)) for name, kind in survey.kinds.items()]
    except Exception as error:
        return _rejected(alert, error), nothing
    return arrays_or_reject(alert, preset), values


def arrays_or_reject(packet: AlertPacket, preset: Preset) -> AlertArrays | Reject:
    """As `alert_arrays`, with a `Reject` in place of whatever the packet causes."""
    check_preset(preset, packet.survey)
    try:
        return alert_arrays(packet, preset)
    except Exception as error:
        return _rejected(packet, error)


def _rejected(packet: AlertPacket, error: Exception) -> Reject:
    return Reject(reason_of(error), packet.alert_id, packet.object_id, packet.origin)


def _table_value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "text":
        return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)
    if kind == "integer":
        return None if math.isnan(value) else int(value)
    return float(value)
