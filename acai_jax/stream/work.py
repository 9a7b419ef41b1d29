"""What is done with a batch before anything of it is written: alerts, scores, filters, encoding.

Whatever one message causes on this way makes it a reject, and it alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from acai_jax.alerts.packet import AlertPacket
from acai_jax.errors import Reject, reason_of
from acai_jax.filters.expressions import apply_filter, named_filter
from acai_jax.score.scorer import Scorer
from acai_jax.stream.decoding import decode_message
from acai_jax.stream.outputs import ScoreEncoder
from acai_jax.stream.registry import Schemas
from acai_jax.stream.settings import StreamSettings
from acai_jax.stream.tables import PLACE
from acai_jax.surveys import Preset

if TYPE_CHECKING:
    from confluent_kafka import Message

PLACE_KEY: Final = ("topic", "partition", "offset")
"""The columns that tell one message from another."""

_PlaceKey = tuple[str, int, int]
_ANY: Final = (Exception, pl.exceptions.PanicException)  # a panic of polars is no Exception


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some messages.

    Attributes:
        table: a row for each: its scores, or why it has none, and its place.
        decoded: whether each holds an alert.
        passed: filter -> the rows that pass it.
        encoded: place -> what goes to a topic, if anything does.
        lines: place -> what goes to standard output, if anything does.
    """

    table: pl.DataFrame
    decoded: pl.Series
    passed: Mapping[str, pl.DataFrame]
    encoded: Mapping[_PlaceKey, bytes]
    lines: Mapping[_PlaceKey, str]


class Work:
    """Scores messages, tries the filters, and encodes what may be sent.

    Args:
        settings: of the stream.
        scorer: scores alerts.
        registry: where schemas are that messages only have the number of.

    Attributes:
        survey: of the alerts.

    Raises:
        FilterError: there is no such filter, or it does not fit the table.
    """

    def __init__(
        self, settings: StreamSettings, scorer: Scorer, registry: Schemas | None = None
    ) -> None:
        self._settings = settings
        self._scorer = scorer
        self._registry = registry
        self._preset: Preset = settings.preset or scorer.bank.preset
        classes, survey = scorer.bank.classes, scorer.bank.survey
        self.survey = survey
        self._encoder = ScoreEncoder(classes, survey)
        nothing = pl.DataFrame(schema={**scorer.schema, **PLACE})
        self._filters = {
            name: named_filter(name, settings.filters_file, survey).where
            for name in settings.filters
        }
        for where in self._filters.values():
            apply_filter(nothing, where)  # a mistake in it is found now

    def warm_up(self) -> None:
        """Compiles what scores, so that no alert waits for it later."""
        self._scorer.warm_up()

    def do(self, messages: Sequence["Message"]) -> Outcome:
        """Does all of it: together, or one by one if that fails.

        Raises:
            StreamError: as for `decode_message`.
        """
        alerts = [decode_message(message, self._registry) for message in messages]
        try:
            return self._together(messages, alerts)
        except _ANY:
            self._scorer.warm_up()  # raises where it is the device that fails, and no alert
        alone = [self._alone(*each) for each in zip(messages, alerts, strict=True)]
        return Outcome(
            pl.concat([each.table for each in alone]),
            pl.concat([each.decoded for each in alone]),
            {name: pl.concat([each.passed[name] for each in alone]) for name in self._filters},
            {place: value for each in alone for place, value in each.encoded.items()},
            {place: value for each in alone for place, value in each.lines.items()},
        )

    def _alone(self, message: "Message", alert: AlertPacket | Reject) -> Outcome:
        try:
            return self._together([message], [alert])
        except _ANY as error:
            reject = Reject(reason_of(error), alert.alert_id, alert.object_id, alert.origin)
        try:
            return self._together([message], [reject])
        except _ANY:  # it is what the alert calls itself that fails
            return self._together([message], [Reject(reject.reason)])

    def _together(
        self, messages: Sequence["Message"], alerts: Sequence[AlertPacket | Reject]
    ) -> Outcome:
        table = self._scorer.score_packets(alerts, self._preset).hstack(places(messages))
        decoded = pl.Series([isinstance(alert, AlertPacket) for alert in alerts])
        rows = table.filter(decoded)
        encoded: dict[_PlaceKey, bytes] = {}
        lines: dict[_PlaceKey, str] = {}
        if self._settings.to_topic is not None or self._settings.to_stdout:
            records = self._encoder.records(rows)
            for place, record in zip(rows.select(PLACE_KEY).iter_rows(), records, strict=True):
                if self._settings.to_topic is not None:
                    encoded[place] = self._encoder.message(record)
                if self._settings.to_stdout:
                    lines[place] = self._encoder.line(record)
        passed = {name: apply_filter(rows, where) for name, where in self._filters.items()}
        return Outcome(table, decoded, passed, encoded, lines)


def places(messages: Sequence["Message"]) -> pl.DataFrame:
    """The columns of `PLACE`, a row for each message."""
    rows = [(m.topic(), m.partition(), m.offset(), _timestamp(m)) for m in messages]
    return pl.DataFrame(rows, schema=dict(PLACE), orient="row")


def _timestamp(message: "Message") -> int | None:
    kind, milliseconds = message.timestamp()
    return milliseconds if kind else None  # 0: not available
