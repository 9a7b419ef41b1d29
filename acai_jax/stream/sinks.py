"""Where a batch goes: rejects, scores, what passes filters, a topic, standard output.

Tables come first, and tell which alerts are new. An alert that a crash made come again is passed on
again to what follows; one that some other message has brought already is not.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from acai_jax.errors import OutputError
from acai_jax.network.bank import HeadBank
from acai_jax.stream.metrics import Metrics
from acai_jax.stream.settings import StreamSettings
from acai_jax.stream.tables import PLACE, StreamTable
from acai_jax.stream.work import PLACE_KEY, Outcome
from acai_jax.surveys import Preset
from acai_jax.times import UNIX_EPOCH_JD

if TYPE_CHECKING:
    from confluent_kafka import Message

Messages = list[tuple[str, bytes, bytes]]
"""(topic, key, value) of each."""


class Sinks:
    """All outputs of a stream.

    Args:
        settings: of the stream.
        bank: the model whose scores come.
        preset: of the scores.
        metrics: are told what happens.

    Raises:
        OutputError: a folder cannot be made.
    """

    def __init__(
        self, settings: StreamSettings, bank: HeadBank, preset: Preset, metrics: Metrics
    ) -> None:
        self._settings, self._survey = settings, bank.survey
        self._metrics = metrics
        model = {f"acai_{c}_version": str(bank.provenance[c]["version"]) for c in bank.classes}
        model["preset"] = preset
        alert_id = bank.survey.alert_id
        self._filters = {
            name: StreamTable(settings.out / "filters" / name, (alert_id,), model)
            for name in dict.fromkeys(settings.filters)
        }
        self._scores = StreamTable(settings.out / "scores", (alert_id,), model)
        identity = ("offset", "partition", "topic", "sha256")
        self._rejects = StreamTable(settings.out / "rejects", identity)

    def topics(self) -> list[str]:
        """Topics that are written to: one for all scores, and one for each filter."""
        topic = self._settings.to_topic
        return [] if topic is None else [topic, *(f"{topic}_{name}" for name in self._filters)]

    def flush(
        self,
        messages: Sequence["Message"],
        outcome: Outcome,
        send: Callable[[Messages], None] | None = None,
    ) -> None:
        """Writes a batch to all outputs; when it returns, everything is where it belongs.

        Args:
            messages: as Kafka gave them.
            outcome: what became of them.
            send: sends messages, and commits the offsets of the batch with them.

        Raises:
            OutputError: an output cannot be written.
            StreamError: messages cannot be sent.
        """
        rejected = self._write_rejects(messages, outcome.table)
        ours, new, upgraded = self._scores.add(outcome.table.filter(outcome.decoded))
        topic = self._settings.to_topic
        out = self._messages(topic, ours, outcome)
        for name, table in self._filters.items():
            passed = outcome.passed[name].join(ours, on=PLACE_KEY, how="semi")
            self._metrics.passed.labels(name).inc(len(table.add(passed).new))
            out += self._messages(topic and f"{topic}_{name}", passed, outcome)
        if self._settings.to_stdout:
            _print("".join(outcome.lines[place] for place in ours.select(PLACE_KEY).iter_rows()))
        if send is not None:
            send(out)
        self._metrics.upgraded.inc(upgraded)
        self._count(len(messages), int(new["reason"].null_count()), rejected)
        self._observe(ours)

    def close(self) -> None:
        """Merges what is left in small files."""
        for table in (self._scores, self._rejects, *self._filters.values()):
            table.close()

    def _write_rejects(self, messages: Sequence["Message"], table: pl.DataFrame) -> pl.Series:
        """Keeps what has no scores; returns the reasons of what was not there before."""
        which = table.with_row_index("_row").filter(pl.col("reason").is_not_null())
        raw = [messages[row].value() or b"" for row in which["_row"]]
        rejects = which.with_columns(
            pl.Series("raw", raw, pl.Binary),
            pl.Series("sha256", [hashlib.sha256(each).hexdigest() for each in raw], pl.String),
        )
        identifiers = (self._survey.alert_id, self._survey.object_id)
        columns = (*identifiers, "reason", *PLACE, "sha256", "raw")
        return self._rejects.add(rejects.select(columns)).new["reason"]

    def _messages(self, topic: str | None, rows: pl.DataFrame, outcome: Outcome) -> Messages:
        """A message for each row; the key is the alert's identifier, in digits."""
        if topic is None:
            return []
        keys = (str(alert_id).encode() for alert_id in rows[self._survey.alert_id])
        values = (outcome.encoded[place] for place in rows.select(PLACE_KEY).iter_rows())
        return [(topic, *message) for message in zip(keys, values, strict=True)]

    def _count(self, consumed: int, scored: int, reasons: pl.Series) -> None:
        metrics = self._metrics
        metrics.consumed.inc(consumed)
        metrics.batch.observe(consumed)
        metrics.scored.inc(scored)
        metrics.duplicates.inc(consumed - scored - len(reasons))
        for reason in reasons:
            metrics.count_rejected(reason, 1)

    def _observe(self, ours: pl.DataFrame) -> None:
        now = time.time()
        taken = (ours[self._survey.time] - UNIX_EPOCH_JD) * 86400
        self._metrics.observe_latency("jd", now - taken)
        sent = ours["timestamp"].drop_nulls().to_physical() / 1000
        self._metrics.observe_latency("message", now - sent)


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None
