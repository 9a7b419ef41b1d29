"""The Kafka side of a stream: clients that wait for their brokers, and say so once."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from acai_jax.errors import StreamError
from acai_jax.extras import require
from acai_jax.stream.settings import ClientSettings, StreamSettings

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

log: Final = logging.getLogger("acai_jax.stream")

T = TypeVar("T")

Place = tuple[str, int]
"""(topic, partition)."""

Offsets = dict[Place, int]
"""Where to go on, in each place."""

_CONNECT_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 2.0
_TRANSACTION_MS: Final = 20_000  # for so long one that a crash left open keeps readers waiting
_QUEUE_KBYTES: Final = 65_536  # messages fetched ahead: about 800 alerts
# Of two requests on their way to a new partition a broker can refuse the first, as it is not ready,
# and accept the second; what it then says of the first's retry counts as "written already", and its
# messages are lost without a word (seen with Kafka 4.3 and librdkafka 2.16; KAFKA-15591).
_IN_ORDER: Final = {"max.in.flight": 1}
# what an operator has to mend; waiting would not
_REFUSALS: Final = (
    *("_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"),
    *("TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "INVALID_GROUP_ID"),
    *("CLUSTER_AUTHORIZATION_FAILED", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
)


def code(name: str) -> int:
    """Number of one of librdkafka's error codes."""
    return getattr(require("confluent_kafka", "kafka").KafkaError, name)


class Connection:
    """What all clients of a stream share: settings, secrets, and what the brokers last said.

    Args:
        servers: HOST:PORT of one or more brokers, with commas.
        client: further settings of the client.
    """

    def __init__(self, servers: str, client: ClientSettings) -> None:
        self._servers = servers
        self._client = client
        self._refusals = {code(name) for name in _REFUSALS}
        self._said: set[str] = set()
        self._refused: str | None = None
        self._logger = logging.getLogger("acai_jax.stream.kafka")
        self._logger.addFilter(self._redact_record)
        # what the client's own log has to say comes to `on_error` as well, but for debugging
        self._logger.setLevel(logging.DEBUG if "debug" in client.values else logging.CRITICAL + 1)

    def consumer(
        self, settings: StreamSettings, on_commit: Callable[[Any, list[Any]], None]
    ) -> "Consumer":
        """A consumer that commits nothing by itself.

        Args:
            settings: of the stream.
            on_commit: told (error or None, partitions) of each commit that was not waited for.

        Raises:
            StreamError: a setting is none, the brokers cannot be reached, or they refuse us.
        """
        config = {
            "queued.max.messages.kbytes": _QUEUE_KBYTES,
            "fetch.queue.backoff.ms": 50,  # a second by default: longer than the queue lasts
            "topic.metadata.refresh.interval.ms": 10_000,  # a night's topic appears at any time
            **self._client.values,
            "bootstrap.servers": self._servers,
            "group.id": settings.group,
            "auto.offset.reset": "error",  # the reader decides, and tells
            "isolation.level": "read_committed",  # of the group's offsets, too
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "on_commit": on_commit,
        }
        consumer = self._make(require("confluent_kafka", "kafka").Consumer, config)
        self._reach(consumer.list_topics, lambda: consumer.poll(0))
        return consumer

    def producer(self, transactional_id: str) -> "Producer":
        """A producer whose messages count only once their transaction is committed.

        An earlier producer of the same name is cut off, and its open transaction is undone.

        Raises:
            StreamError: a setting is none.
            KafkaException: the brokers have no transactions for us, or not now.
        """
        config = {
            "transaction.timeout.ms": _TRANSACTION_MS,
            **self._client.connection(),
            "bootstrap.servers": self._servers,
            "transactional.id": transactional_id,
            "linger.ms": 5,
            "compression.type": "lz4",
            **_IN_ORDER,
        }
        producer = self._make(require("confluent_kafka", "kafka").Producer, config)
        producer.init_transactions(_CONNECT_SECONDS)
        return producer

    def plain_producer(self, config: Mapping[str, object]) -> "Producer":
        """A producer without transactions, once the brokers answer.

        Args:
            config: settings, which those of the user override.

        Raises:
            StreamError: as for `consumer`.
        """
        kafka = require("confluent_kafka", "kafka")
        producer = self._make(kafka.Producer, self._overridden(config) | _IN_ORDER)
        self._reach(producer.list_topics, lambda: producer.poll(0))
        return producer

    def administrator(self) -> "AdminClient":
        """A client that makes topics."""
        return self._make(
            require("confluent_kafka.admin", "kafka").AdminClient, self._overridden({})
        )

    def committed(self, group: str, places: Iterable[Place]) -> Offsets:
        """Offsets that a group has committed; none of a transaction that may yet be undone.

        Raises:
            KafkaException: the brokers do not say.
        """
        kafka = require("confluent_kafka", "kafka")
        config = {
            **self._client.connection(),
            "bootstrap.servers": self._servers,
            "group.id": group,
            "isolation.level": "read_committed",
        }
        # asked by an administrator, librdkafka 2.16 crashes where the group's broker has changed
        consumer = self._make(kafka.Consumer, config)
        try:
            wanted = [kafka.TopicPartition(*place) for place in places]
            found = consumer.committed(wanted, timeout=_CONNECT_SECONDS)
        finally:
            consumer.close()
        for error in (p.error for p in found if p.error is not None):
            raise kafka.KafkaException(error)
        return {(p.topic, p.partition): p.offset for p in found}

    def explain(self, error: Exception) -> str:
        """What an error says, without secrets."""
        first: Any = error.args[0] if error.args else error
        return self._client.redact(first.str() if hasattr(first, "str") else str(first))

    def on_error(self, error: Any) -> None:
        """Takes what a client reports on its own: it goes on trying; it is said once."""
        text = self._client.redact(error.str())
        if error.code() in self._refusals:
            self._refused = text
            self.say_once(f"the brokers refuse us: {text}")
        elif error.code() == code("_ALL_BROKERS_DOWN"):
            self.say_once("waiting for the brokers: none can be reached")

    def say_once(self, text: str) -> None:
        """Logs a warning, unless it was said since the last `recovered`."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)

    def recovered(self) -> None:
        """All is well again: what goes wrong from now on is news."""
        if self._said:
            self._said.clear()
            log.info("going on")

    def _overridden(self, config: Mapping[str, object]) -> dict[str, object]:
        return {**config, **self._client.values, "bootstrap.servers": self._servers}

    def _make(self, kind: Callable[..., Any], config: dict[str, Any]) -> Any:
        kafka = require("confluent_kafka", "kafka")
        config = {**config, "error_cb": self.on_error}
        try:
            return kind(config, logger=self._logger)
        except (kafka.KafkaException, ValueError, TypeError) as error:
            raise StreamError(f"Kafka settings: {self.explain(error)}") from None

    def _reach(self, list_topics: Callable[..., Any], poll: Callable[[], object]) -> None:
        kafka = require("confluent_kafka", "kafka")
        deadline = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                list_topics(timeout=_ANSWER_SECONDS)
                return
            except kafka.KafkaException as error:
                why = self.explain(error)
            poll()  # which is when `on_error` is called
            if self._refused is not None:
                raise StreamError(f"{self._servers} refuses us: {self._refused}")
            if time.monotonic() > deadline:
                raise StreamError(f"cannot reach {self._servers}: {why}")

    def refuses(self, error: Any) -> bool:
        """Whether an error is one that waiting does not mend."""
        return error.code() in self._refusals or error.fatal()

    def _redact_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._client.redact(record.getMessage()), ()
        return True


def existing_topics(consumer: "Consumer") -> set[str]:
    """Names of the topics that the brokers have, and let us see."""
    topics = consumer.list_topics(timeout=_CONNECT_SECONDS).topics
    return {name for name, topic in topics.items() if topic.error is None}


def partitions(offsets: Mapping[Place, int]) -> list[Any]:
    """(topic, partition) -> offset, as the client wants it."""
    partition = require("confluent_kafka", "kafka").TopicPartition
    return [partition(topic, number, offset) for (topic, number), offset in offsets.items()]


def in_time(function: Callable[[], T], seconds: float) -> T:
    """Calls what may never return, in a thread that is left behind if it does not.

    Raises:
        TimeoutError: it has not returned.

    Example:
        >>> in_time(lambda: time.sleep(60), 0.01)
        Traceback (most recent call last):
        TimeoutError
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future.result(seconds)
