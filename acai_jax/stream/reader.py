"""The consumer of a stream: messages of its topics come into the intake, offsets are committed."""

import datetime
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from acai_jax.errors import StreamError
from acai_jax.extras import require
from acai_jax.stream.intake import Intake
from acai_jax.stream.kafka import (
    Connection,
    Offsets,
    Place,
    code,
    existing_topics,
    in_time,
    partitions,
)
from acai_jax.stream.settings import StreamSettings, later_topics, night_topics
from acai_jax.surveys.base import Survey

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

log: Final = logging.getLogger("acai_jax.stream")

_MESSAGES_AT_ONCE: Final = 32
_TICK_SECONDS: Final = 0.1
_CLOSE_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 10.0


class Hooks(NamedTuple):
    """What is called in `Reader.take`, `Reader.commit` and `Reader.close`.

    Attributes:
        committed: a commit that was not waited for was answered: an error, or None.
        assigned: the intake has got its partitions.
        revoked: it is about to give them back, once this returns.
        lost: it has lost them, to another worker.
    """

    committed: Callable[[Any], None]
    assigned: Callable[[], None]
    revoked: Callable[[], None]
    lost: Callable[[], None]


class Reader:
    """Fills an intake from the topics of a stream.

    Args:
        settings: of the stream.
        survey: whose topics are read where the settings name none.
        connection: to the brokers.
        intake: takes messages, and is told of partitions.
        hooks: are called when the brokers have news.

    Raises:
        StreamError: as for `Connection.consumer`.
    """

    def __init__(
        self,
        settings: StreamSettings,
        survey: Survey,
        connection: Connection,
        intake: "Intake[Message]",
        hooks: Hooks,
    ) -> None:
        self._settings, self._survey = settings, survey
        self._connection = connection
        self._intake = intake
        self._hooks = hooks
        self._topics: tuple[str, ...] = ()
        self._missing: set[str] = set()
        self._there: set[str] = set()
        self._gone: set[Place] = set()
        self._join_again = False
        self._consumer: Consumer = connection.consumer(
            settings, lambda error, _: hooks.committed(error)
        )

    # --- topics --------------------------------------------------------------------------------

    def find_topics(self) -> None:
        """Chooses the topics of the settings, if they are there; or those of the nights.

        Raises:
            StreamError: one is missing, and will not come by itself.
        """
        there = self._there = existing_topics(self._consumer)
        settings = self._settings
        wanted = settings.topics or night_topics(self._survey, _today(), settings.programid)
        missing = [topic for topic in wanted if topic not in there]
        if settings.topics and missing:
            raise StreamError(f"no topic {missing[0]} on {settings.bootstrap_servers}")
        if settings.until_end:
            wanted = tuple(topic for topic in wanted if topic in there)
            if not wanted:
                raise StreamError(f"no topic {missing[0]}, nor of the night after: nothing to read")
        self._topics = tuple(wanted)

    def subscribe(self) -> None:
        """Begins to read the topics."""
        log.info("reading %s", ", ".join(self._topics))
        self._consumer.subscribe(
            list(self._topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def watch_midnight(self) -> None:
        """Goes on to the topic of the next night, once it has begun."""
        if self._settings.topics or self._settings.until_end:
            return
        topics = later_topics(self._topics, self._survey, _today(), self._settings.programid)
        if topics != self._topics:
            self._topics = topics
            self.subscribe()

    # --- messages ------------------------------------------------------------------------------

    def take(self) -> None:
        """Takes some messages, or waits a little; the hooks are called in here.

        Raises:
            StreamError: the brokers refuse us.
        """
        seconds = max(self._intake.patience(_TICK_SECONDS), 0.001)
        wanted = min(self._intake.room, _MESSAGES_AT_ONCE)
        for message in self._consumer.consume(wanted, seconds):
            if (error := message.error()) is not None:
                self._take_error(message, error)
            else:
                offset = int(message.offset() or 0)
                self._intake.take(message, _place(message), offset, len(message))
        if self._join_again:
            self._join_again = False
            self._consumer.unsubscribe()
            self.subscribe()

    def _take_error(self, message: "Message", error: Any) -> None:
        if error.code() == code("_PARTITION_EOF"):
            self._intake.end(_place(message), int(message.offset() or 0))
        elif error.code() == code("_AUTO_OFFSET_RESET"):
            self._take_reset(_place(message), message.offset())
        elif error.code() in (code("UNKNOWN_TOPIC_OR_PART"), code("_UNKNOWN_TOPIC")):
            if message.topic() not in self._missing:
                self._missing.add(str(message.topic()))
                log.warning("waiting for topic %s, which is not there", message.topic())
        elif self._connection.refuses(error):
            raise StreamError(f"cannot read: {self._connection.explain(Exception(error))}")
        else:
            self._connection.say_once(self._connection.explain(Exception(error)))

    def _take_reset(self, place: Place, offset: int | None) -> None:
        """Has a partition begin again, of which the brokers do not have what is to come next."""
        if offset is not None:  # else some transaction was open when the partition came
            told = "%s[%d]: the brokers no longer have offset %d: going on at the oldest they have"
            log.warning(told, *place, offset)
            self._gone.add(place)
        self._join_again = True  # the client lets nobody seek where it has given up

    def hold(self) -> None:
        """Lets nothing more come; `take` still tells the brokers that we are alive."""
        log.warning("the work is slow: no more messages for now")
        self._pause(self._intake.hold())

    def release(self) -> None:
        """Lets messages come again."""
        self._consumer.resume(partitions(dict.fromkeys(self._intake.release(), 0)))
        log.info("ready for more messages")

    def _pause(self, places: Iterable[Place]) -> None:
        self._consumer.pause(partitions(dict.fromkeys(places, 0)))

    def lag(self) -> int:
        """Messages that are there and not yet taken, as far as the client knows."""

        def newest(place: Place) -> int | None:
            (partition,) = partitions({place: 0})
            found = self._consumer.get_watermark_offsets(partition, cached=True)
            return found[1] if found else None

        return self._intake.lag(newest)

    # --- offsets and partitions ----------------------------------------------------------------

    def commit(self, offsets: Offsets) -> None:
        """Has offsets committed; the hook is told of it."""
        self._consumer.commit(offsets=partitions(offsets), asynchronous=True)

    def commit_and_wait(self, offsets: Offsets) -> None:
        """Commits offsets; says so if that is not to be."""
        try:
            self._consumer.commit(offsets=partitions(offsets), asynchronous=False)
        except require("confluent_kafka", "kafka").KafkaException as error:
            why = self._connection.explain(error)
            log.warning("offsets are not committed; these alerts will come again: %s", why)

    def group(self) -> Any:
        """The group as a producer has to name it; only for the thread that calls `take`."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leaves the group; brokers that are away are not waited for."""
        try:
            in_time(self._consumer.close, _CLOSE_SECONDS)
        except TimeoutError:
            log.warning("the brokers did not hear that this worker left")

    def _on_assign(self, consumer: "Consumer", given: list[Any]) -> None:
        self._intake.assign((p.topic, p.partition) for p in given)
        self._hooks.assigned()
        self._begin(consumer, given)
        consumer.assign(given)
        if self._intake.holding:
            self._pause(self._intake.hold())
        names = ", ".join(f"{p.topic}[{p.partition}]" for p in given)
        log.info("partitions: %s", names or "none")

    def _begin(self, consumer: "Consumer", given: list[Any]) -> None:
        """Says where to begin in partitions of which the group has read nothing."""
        kafka = require("confluent_kafka", "kafka")
        try:
            known = consumer.committed(given, timeout=_ANSWER_SECONDS) if given else []
        except kafka.KafkaException:
            return  # the client itself goes on asking
        for partition, found in zip(given, known, strict=True):
            place = partition.topic, partition.partition
            if place in self._gone:
                partition.offset = kafka.OFFSET_BEGINNING
            elif found.error is None and found.offset < 0:
                # of a topic that has come since then, all is news
                latest = self._settings.start == "latest" and partition.topic in self._there
                partition.offset = kafka.OFFSET_END if latest else kafka.OFFSET_BEGINNING
        self._gone.clear()

    def _on_revoke(self, _: "Consumer", given: list[Any]) -> None:
        self._hooks.revoked()
        self._intake.withdraw()

    def _on_lost(self, _: "Consumer", given: list[Any]) -> None:
        log.warning("partitions were lost: this worker was silent for too long")
        self._intake.hand_over()  # to nobody: it comes again
        self._hooks.lost()
        self._intake.withdraw()


def _place(message: "Message") -> Place:
    return str(message.topic()), int(message.partition() or 0)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
