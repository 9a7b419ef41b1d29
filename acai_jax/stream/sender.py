"""Messages and the offsets behind them, in one transaction: scores for a topic, exactly once."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from acai_jax.errors import StreamError
from acai_jax.extras import require
from acai_jax.stream.kafka import Connection, Offsets, code, in_time, partitions

if TYPE_CHECKING:
    from confluent_kafka import Producer

log: Final = logging.getLogger("acai_jax.stream")

_ATTEMPT_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 0.5
_METADATA_SECONDS: Final = 10.0
# partitions have gone to another worker
_LOST: Final = (
    *("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID"),
)


class TransactionalSender:
    """Sends messages, and commits the offsets behind them, in one transaction: both or neither.

    After any failure a new producer takes the place of the old one, whose transaction is undone
    by that. The client's own ways back can wait for ever (librdkafka 2.16), so each step has a
    thread, which is left behind if it does not come back.

    Args:
        connection: of the stream.
        group: whose offsets to commit.
        name: of this worker, unlike that of any other.
        topics: that must be there.

    Raises:
        StreamError: a setting is none, the brokers have no transactions, or no such topic.
    """

    def __init__(
        self, connection: Connection, group: str, name: str, topics: Iterable[str]
    ) -> None:
        self._connection = connection
        self._group = group
        self._name = name
        kafka = require("confluent_kafka", "kafka")
        try:
            self._producer: Producer | None = connection.producer(name)
            for topic in topics:
                self._check_topic(self._producer, topic)
        except kafka.KafkaException as error:
            raise StreamError(f"cannot send scores: {connection.explain(error)}") from None

    def send(
        self,
        messages: Sequence[tuple[str, bytes, bytes]],
        offsets: Offsets,
        group: Any,
        keep_trying: Callable[[], bool],
    ) -> bool:
        """Sends (topic, key, value) messages and commits offsets, trying until it is done.

        Args:
            messages: to send.
            offsets: (topic, partition) -> offset to commit.
            group: metadata of the consumer's group.
            keep_trying: asked after each failure.

        Returns:
            False where that was not to be, or the partitions are another worker's: nothing was
            sent, and nothing committed.

        Raises:
            StreamError: the brokers refuse it.
        """
        kafka = require("confluent_kafka", "kafka")
        lost = {code(name) for name in _LOST}
        while True:
            reason, why = None, ""
            try:
                attempt = functools.partial(self._attempt, messages, offsets, group, self._producer)
                self._producer = in_time(attempt, _ATTEMPT_SECONDS)
                self._connection.recovered()
                return True
            except kafka.KafkaException as error:
                reason, why = error.args[0], self._connection.explain(error)
            except TimeoutError:
                why = f"no answer in {_ATTEMPT_SECONDS:.0f} s"
            self._producer = None
            if reason is not None and reason.code() in lost:
                self._undo()
                return False
            if reason is not None and self._connection.refuses(reason) and not reason.fatal():
                raise StreamError(f"cannot send scores: {why}")
            if not keep_trying():
                log.warning("scores were not sent, and will come again: %s", why)
                return False
            self._connection.say_once("waiting to send scores")
            time.sleep(_RETRY_SECONDS)

    def _attempt(
        self,
        messages: Sequence[tuple[str, bytes, bytes]],
        offsets: Offsets,
        group: Any,
        producer: "Producer | None",
    ) -> "Producer":
        if producer is None:
            producer = self._connection.producer(self._name)
            # from here on no earlier attempt can succeed; but one may have, unheard
            committed = self._connection.committed(self._group, offsets)
            if all(committed.get(place, -1) >= offset for place, offset in offsets.items()):
                return producer
        producer.begin_transaction()
        for topic, key, value in messages:
            producer.produce(topic, key=key, value=value)
        producer.send_offsets_to_transaction(partitions(offsets), group)
        producer.commit_transaction()
        return producer

    def _undo(self) -> None:
        """Undoes what is open now, not once its time is out: until then readers wait for it."""
        renew = functools.partial(self._connection.producer, self._name)
        with contextlib.suppress(require("confluent_kafka", "kafka").KafkaException, TimeoutError):
            self._producer = in_time(renew, _ATTEMPT_SECONDS)

    def _check_topic(self, producer: "Producer", topic: str) -> None:
        deadline = time.monotonic() + _METADATA_SECONDS
        while True:
            # asking for it by name lets brokers make it that do such things
            problem = producer.list_topics(topic, timeout=_METADATA_SECONDS).topics[topic].error
            if problem is None:
                return
            being_made = problem.retriable() or problem.code() == code("UNKNOWN_TOPIC_OR_PART")
            if not being_made or time.monotonic() > deadline:
                raise StreamError(f"cannot write to topic {topic}: {problem.str()}")
            time.sleep(_RETRY_SECONDS)
