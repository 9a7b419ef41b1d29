"""Where a batch goes: rejects, scores, what passes filters, a topic, standard output.

Tables come first, and tell which alerts are new. An alert that a crash made come again is passed on
again to what follows; one that some other message has brought already is not.
"""

import dataclasses
import hashlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from acai_jax.errors import OutputError, Reject
from acai_jax.filters import apply_filter, named_filter
from acai_jax.model import HeadBank
from acai_jax.packet import AlertPacket
from acai_jax.schema import UNIX_EPOCH_JD, Preset
from acai_jax.score import score_table_schema
from acai_jax.sources import Encoded, decode
from acai_jax.stream.metrics import Metrics
from acai_jax.stream.outputs import AvroEncoder
from acai_jax.stream.settings import StreamSettings
from acai_jax.stream.tables import PLACE, StreamTable

if TYPE_CHECKING:
    from confluent_kafka import Message

Messages = list[tuple[str, bytes, bytes]]
"""(topic, key, value) of each."""

_REJECT_COLUMNS: Final = {
    "candid": pl.Int64(),
    "objectId": pl.String(),
    "reason": pl.String(),
    **PLACE,
    "sha256": pl.String(),
    "raw": pl.Binary(),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Messages, and the alert in each.

    Attributes:
        messages: as Kafka gave them.
        alerts: one for each.
    """

    messages: Sequence["Message"]
    alerts: Sequence[AlertPacket | Reject]

    def offsets(self) -> dict[tuple[str, int], int]:
        """(topic, partition) -> where to go on after these messages."""
        return {(m.topic(), m.partition()): m.offset() + 1 for m in self.messages}  # type: ignore

    def places(self) -> pl.DataFrame:
        """The columns of `PLACE`, a row for each message."""
        rows = [(m.topic(), m.partition(), m.offset(), _timestamp(m)) for m in self.messages]
        return pl.DataFrame(rows, schema=dict(PLACE), orient="row")


def decode_message(message: "Message") -> AlertPacket | Reject:
    """The alert of one message, which is an Avro container with its schema inside."""
    origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
    raw = message.value()
    if raw is None:
        return Reject("empty message", origin=origin)
    found = list(itertools.islice(decode(Encoded(origin, raw)), 2))
    if len(found) == 1:
        return found[0]
    number = "more than one record" if found else "no record"
    return Reject(f"not one alert: the container holds {number}", origin=origin)


class Sinks:
    """All outputs of a stream.

    Args:
        settings: of the stream.
        bank: the model whose scores come.
        preset: of the scores.
        metrics: are told what happens.

    Raises:
        OutputError: a folder cannot be made.
        FilterError: there is no such filter, or it does not fit the table.
    """

    def __init__(
        self, settings: StreamSettings, bank: HeadBank, preset: Preset, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._encoder = AvroEncoder(bank.classes)
        model = {f"acai_{c}_version": str(bank.provenance[c]["version"]) for c in bank.classes}
        model["preset"] = preset
        nothing = pl.DataFrame(schema={**score_table_schema(bank.classes), **PLACE})
        self._filters: dict[str, tuple[str, StreamTable]] = {}
        for name in dict.fromkeys(settings.filters):
            where = named_filter(name, settings.filters_file).where
            apply_filter(nothing, where)  # a mistake in it is found now
            table = StreamTable(settings.out / "filters" / name, ("candid",), model)
            self._filters[name] = (where, table)
        self._scores = StreamTable(settings.out / "scores", ("candid",), model)
        identity = ("offset", "partition", "topic", "sha256")
        self._rejects = StreamTable(settings.out / "rejects", identity)

    def topics(self) -> list[str]:
        """Topics that are written to: one for all scores, and one for each filter."""
        topic = self._settings.to_topic
        return [] if topic is None else [topic, *(f"{topic}_{name}" for name in self._filters)]

    def flush(
        self,
        batch: Batch,
        scored: pl.DataFrame,
        send: Callable[[Messages], None] | None = None,
    ) -> None:
        """Writes a batch to all outputs; when it returns, everything is where it belongs.

        Args:
            batch: messages and alerts.
            scored: their score table, a row for each.
            send: sends messages, and commits the offsets of the batch with them.

        Raises:
            OutputError: an output cannot be written.
            StreamError: messages cannot be sent.
        """
        scored = scored.hstack(batch.places())
        self._write_rejects(batch, scored)
        decoded = pl.Series([isinstance(alert, AlertPacket) for alert in batch.alerts])
        rows = scored.filter(decoded)
        before = self._scores.written
        ours = self._scores.add(rows)
        duplicates = len(rows) - (self._scores.written - before)
        messages: Messages = []
        topic = self._settings.to_topic
        if topic is not None:
            messages += ((topic, *message) for message in self._encoder.messages(ours))
        for name, (where, table) in self._filters.items():
            passed = apply_filter(ours, where)
            table.add(passed)
            self._metrics.passed.labels(name).inc(len(passed))
            if topic is not None:
                named = f"{topic}_{name}"
                messages += ((named, *message) for message in self._encoder.messages(passed))
        if self._settings.to_stdout:
            _print(self._encoder.json_lines(ours))
        if send is not None:
            send(messages)
        self._count(scored, ours, duplicates)

    def close(self) -> None:
        """Merges what is left in small files."""
        for table in (self._scores, self._rejects, *(t for _, t in self._filters.values())):
            table.close()

    def _write_rejects(self, batch: Batch, scored: pl.DataFrame) -> None:
        which = scored.with_row_index("_row").filter(pl.col("reason").is_not_null())
        if which.is_empty():
            return
        raw = [batch.messages[row].value() or b"" for row in which["_row"]]
        rejects = which.with_columns(
            pl.Series("raw", raw, pl.Binary),
            pl.Series("sha256", [hashlib.sha256(each).hexdigest() for each in raw], pl.String),
        )
        self._rejects.add(rejects.select(list(_REJECT_COLUMNS)))

    def _count(self, scored: pl.DataFrame, ours: pl.DataFrame, duplicates: int) -> None:
        metrics, now = self._metrics, time.time()
        reasons = scored["reason"].drop_nulls()
        metrics.consumed.inc(len(scored))
        metrics.batch.observe(len(scored))
        metrics.scored.inc(len(scored) - len(reasons))
        metrics.duplicates.inc(duplicates)
        for reason in reasons:
            metrics.count_rejected(reason, 1)
        taken = (ours["jd"] - UNIX_EPOCH_JD) * 86400
        metrics.observe_latency("jd", now - taken)
        sent = ours["timestamp"].drop_nulls().to_physical() / 1000
        metrics.observe_latency("message", now - sent)


def _timestamp(message: "Message") -> int | None:
    kind, milliseconds = message.timestamp()
    return milliseconds if kind else None  # 0: not available


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None
