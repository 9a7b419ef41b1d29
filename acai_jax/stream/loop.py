"""The loop of a stream: messages in, scores out, and offsets only after them.

Three stages work side by side, with few batches between them: this thread takes messages, some
threads make scores of them, and one thread writes to the sinks, in order. What they have written is
committed by this thread. After a failure nothing more is written or committed.
"""

import collections
import datetime
import functools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

from acai_jax.errors import StreamError
from acai_jax.stream.extra import require
from acai_jax.stream.kafka import (
    Connection,
    Offsets,
    Place,
    code,
    existing_topics,
    in_time,
    partitions,
)
from acai_jax.stream.metrics import Health, Metrics
from acai_jax.stream.registry import StoppedError
from acai_jax.stream.sender import TransactionalSender
from acai_jax.stream.settings import StreamSettings, later_topics, night_topics
from acai_jax.stream.sinks import Messages, Sinks
from acai_jax.stream.work import Outcome, Work

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

log: Final = logging.getLogger("acai_jax.stream")

_MESSAGES_AT_ONCE: Final = 32
_BATCH_BYTES: Final = 64 * 2**20
_BATCHES_UNDER_WAY: Final = 4
_TICK_SECONDS: Final = 0.1
_HOLD_SECONDS: Final = 5.0  # for so long slow work is waited for without telling the brokers
_LOOK_SECONDS: Final = 0.5  # between looks at how far behind we are
_SUMMARY_SECONDS: Final = 60.0
_GIVE_UP_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 10.0


class Stream:
    """One run: what is in hand, under way, written, and committed. See `run.run_stream`."""

    def __init__(
        self,
        settings: StreamSettings,
        work: Work,
        sinks: Sinks,
        connection: Connection,
        metrics: Metrics,
        health: Health,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._work = work
        self._sinks = sinks
        self._connection = connection
        self._metrics = metrics
        self._health = health
        self._stop = stop
        self._stopped_at: float | None = None
        self._working = ThreadPoolExecutor(2)
        self._writing = ThreadPoolExecutor(1)
        self._failed = False
        self._generation = 0
        """Counts assignments of partitions."""
        self._dropped = -1
        """The last one of whose messages some had to be left to another worker, or run."""
        self._consumer: Consumer = connection.consumer(settings, self._on_commit)
        self._sender: TransactionalSender | None = None
        self._topics: tuple[str, ...] = ()
        self._missing: set[str] = set()
        self._assigned: set[Place] | None = None
        self._ended: set[Place] = set()
        self._taken: Offsets = {}
        self._holding = False
        self._held: set[Place] = set()
        self._in_hand: list[Message] = []
        self._bytes = 0
        self._first_came = 0.0
        self._under_way: collections.deque[Future[Offsets]] = collections.deque()
        self._written: Offsets = {}
        self._committing: Offsets = {}
        self._next_look = 0.0
        self._next_summary = time.monotonic() + _SUMMARY_SECONDS

    def run(self) -> None:
        """Runs to the end; see `run.run_stream`."""
        try:
            self._topics = self._topics_to_read()
            if topics := self._sinks.topics():
                name = f"{self._settings.group}-{secrets.token_hex(8)}"
                self._sender = TransactionalSender(
                    self._connection, self._settings.group, name, topics
                )
            self._work.warm_up()
            self._subscribe()
            while not self._stop.is_set() and not self._at_end():
                self._watch_midnight()
                self._wait_for_room()
                self._take()
                if self._due():
                    self._submit()
                self._settle()
            log.info("finishing")
            self._drain()
            self._commit_now()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._writing.shutdown()
            self._working.shutdown()
            self._close()
        self._sinks.close()
        self._summary("done")

    def _close(self) -> None:
        """Leaves the group; brokers that are away are not waited for."""
        try:
            in_time(self._consumer.close, _CLOSE_SECONDS)
        except TimeoutError:
            log.warning("the brokers did not hear that this worker left")

    # --- messages ------------------------------------------------------------------------------

    def _topics_to_read(self) -> tuple[str, ...]:
        """The topics of the settings, if they are there; or those of the nights.

        Raises:
            StreamError: one is missing, and will not come by itself.
        """
        there = existing_topics(self._consumer)
        wanted = self._settings.topics or night_topics(_today(), self._settings.programid)
        missing = [topic for topic in wanted if topic not in there]
        if self._settings.topics and missing:
            raise StreamError(f"no topic {missing[0]} on {self._settings.bootstrap_servers}")
        if self._settings.until_end:
            wanted = tuple(topic for topic in wanted if topic in there)
            if not wanted:
                raise StreamError(f"no topic {missing[0]}, nor of the night after: nothing to read")
        return tuple(wanted)

    def _subscribe(self) -> None:
        log.info("reading %s", ", ".join(self._topics))
        self._consumer.subscribe(
            list(self._topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _watch_midnight(self) -> None:
        if self._settings.topics or self._settings.until_end:
            return
        topics = later_topics(self._topics, _today(), self._settings.programid)
        if topics != self._topics:
            self._topics = topics
            self._subscribe()

    def _take(self) -> None:
        """Takes some messages; rebalances happen in here."""
        room = self._settings.batch_size - len(self._in_hand)
        tick = _TICK_SECONDS
        if self._in_hand:
            tick = min(tick, self._first_came + self._settings.batch_seconds - time.monotonic())
        for message in self._consumer.consume(min(room, _MESSAGES_AT_ONCE), max(tick, 0.001)):
            if (error := message.error()) is not None:
                self._take_error(message, error)
                continue
            if not self._in_hand:
                self._first_came = time.monotonic()
            place = _place(message)
            self._ended.discard(place)
            self._taken[place] = int(message.offset() or 0) + 1
            self._in_hand.append(message)
            self._bytes += len(message)

    def _take_error(self, message: "Message", error: Any) -> None:
        if error.code() == code("_PARTITION_EOF"):
            self._ended.add(_place(message))
        elif error.code() in (code("UNKNOWN_TOPIC_OR_PART"), code("_UNKNOWN_TOPIC")):
            if message.topic() not in self._missing:
                self._missing.add(str(message.topic()))
                log.warning("waiting for topic %s, which is not there", message.topic())
        elif self._connection.refuses(error):
            raise StreamError(f"cannot read: {self._connection.explain(Exception(error))}")
        else:
            self._connection.say_once(self._connection.explain(Exception(error)))

    def _at_end(self) -> bool:
        return (
            self._settings.until_end
            and self._assigned is not None
            and self._assigned <= self._ended
        )

    def _due(self) -> bool:
        """Whether the batch in hand is to be worked on."""
        if not self._in_hand:
            return False
        return (
            len(self._in_hand) >= self._settings.batch_size
            or self._bytes >= _BATCH_BYTES
            or time.monotonic() - self._first_came >= self._settings.batch_seconds
        )

    # --- batches -------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Sends what is in hand on its way."""
        messages, self._in_hand, self._bytes = self._in_hand, [], 0
        offsets = {_place(message): int(message.offset() or 0) + 1 for message in messages}
        outcome = self._working.submit(self._work.do, messages)
        send, generation = None, self._generation
        if self._sender is not None:
            # asked in another thread, this would wait for ever during a rebalance
            group = self._consumer.consumer_group_metadata()
            send = functools.partial(self._send, self._sender, group, generation, offsets)
        writing = self._writing.submit(self._write, messages, outcome, offsets, send, generation)
        self._under_way.append(writing)

    def _write(
        self,
        messages: "list[Message]",
        outcome: "Future[Outcome]",
        offsets: Offsets,
        send: Callable[[Messages], None] | None,
        generation: int,
    ) -> Offsets:
        """In the writing thread: all outputs; returns the offsets that may now be committed."""
        if self._failed or generation == self._dropped:
            return {}
        try:
            self._sinks.flush(messages, outcome.result(), send)
        except StoppedError as error:
            log.warning("%s; alerts that need it will come again", error)
            self._dropped = generation  # or a later batch would commit what is not written
        except BaseException:
            self._failed = True  # for the same reason
            raise
        # a transaction has committed them already, if there was anything to send
        return {} if generation == self._dropped else offsets

    def _send(
        self,
        sender: TransactionalSender,
        group: Any,
        generation: int,
        offsets: Offsets,
        messages: Messages,
    ) -> None:
        def keep_trying() -> bool:
            if self._stop.is_set() and self._stopped_at is None:
                self._stopped_at = time.monotonic()
            late = self._stopped_at is not None and (
                time.monotonic() - self._stopped_at > _GIVE_UP_SECONDS
            )
            return generation == self._generation and not late and not self._failed

        # some brokers forget the offsets of a transaction that has no messages
        if messages and not sender.send(messages, offsets, group, keep_trying):
            self._dropped = generation  # or a later batch would commit what this one has not sent

    def _wait_for_room(self) -> None:
        """Waits while enough batches are under way: memory stays bounded if a sink is slow."""
        started = time.monotonic()
        while len(self._under_way) >= _BATCHES_UNDER_WAY:
            wait([self._under_way[0]], timeout=_TICK_SECONDS)
            self._settle()
            if time.monotonic() - started > _HOLD_SECONDS and not self._holding:
                log.warning("the work is slow: no more messages for now")
                self._holding = True
                self._hold(self._assigned or ())
            if self._holding:
                self._take()  # nothing comes; but who never asks is put out of the group
        if self._holding:
            self._holding = False
            # a partition that was lost in the meantime stays on hold otherwise, if it comes back
            self._consumer.resume(partitions(dict.fromkeys(self._held, 0)))
            self._held.clear()
            log.info("ready for more messages")

    def _hold(self, places: Iterable[Place]) -> None:
        self._held.update(places)
        self._consumer.pause(partitions(dict.fromkeys(places, 0)))

    def _settle(self) -> None:
        """Takes note of what is written, and has it committed.

        Raises:
            AcaiError: an output failed.
        """
        if not self._under_way:
            self._health.beat()
        while self._under_way and self._under_way[0].done():
            self._written |= self._under_way.popleft().result()
            self._health.beat()
        if self._written and not self._committing:
            self._committing, self._written = self._written, {}
            self._consumer.commit(offsets=partitions(self._committing), asynchronous=True)
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._metrics.lag.set(self._lag())
        if now >= self._next_summary:
            self._next_summary = now + _SUMMARY_SECONDS
            self._summary("so far")

    def _drain(self) -> None:
        """Finishes all that is in hand and under way."""
        if self._in_hand:
            self._submit()
        while self._under_way:
            self._written |= self._under_way.popleft().result()
            self._health.beat()

    # --- offsets and rebalances ----------------------------------------------------------------

    def _on_commit(self, error: Any, _: list[Any]) -> None:
        committing, self._committing = self._committing, {}
        if error is None:
            self._connection.recovered()
        elif self._assigned:
            mine = {
                place: offset for place, offset in committing.items() if place in self._assigned
            }
            self._written = mine | self._written  # tried again with the next ones
            why = self._connection.explain(Exception(error))
            self._connection.say_once(f"offsets are not committed yet: {why}")

    def _commit_now(self) -> None:
        """Commits what is written, and waits for it."""
        offsets = self._committing | self._written
        self._written = {}
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=partitions(offsets), asynchronous=False)
        except require("confluent_kafka").KafkaException as error:
            why = self._connection.explain(error)
            log.warning("offsets are not committed; these alerts will come again: %s", why)

    def _on_assign(self, consumer: "Consumer", given: list[Any]) -> None:
        self._generation += 1
        self._assigned = {(p.topic, p.partition) for p in given}
        self._ended.clear()
        if self._holding:
            consumer.assign(given)
            self._hold(self._assigned)
        names = ", ".join(f"{p.topic}[{p.partition}]" for p in given)
        log.info("partitions: %s", names or "none")

    def _on_revoke(self, _: "Consumer", given: list[Any]) -> None:
        if not self._failed:
            self._drain()
            self._commit_now()
        self._assigned = None
        self._ended.clear()

    def _on_lost(self, _: "Consumer", given: list[Any]) -> None:
        log.warning("partitions were lost: this worker was silent for too long")
        self._generation += 1
        self._in_hand, self._bytes = [], 0
        if not self._failed:
            self._drain()
        self._written, self._assigned = {}, None
        self._ended.clear()

    # --- reports -------------------------------------------------------------------------------

    def _lag(self) -> int:
        """Messages that are there and not yet taken, as far as the client knows."""
        lag = 0
        for place in (self._assigned or set()) & self._taken.keys():
            (partition,) = partitions({place: 0})
            newest = self._consumer.get_watermark_offsets(partition, cached=True)
            lag += max(0, newest[1] - self._taken[place]) if newest else 0
        return lag

    def _summary(self, what: str) -> None:
        metrics = self._metrics
        facts = {
            name: int(metrics.total(f"{name}_total"))
            for name in ("consumed", "scored", "rejected", "duplicates", "upgraded")
        }
        log.info("%s", what, extra={"facts": {**facts, "lag": int(metrics.value("lag"))}})


def _place(message: "Message") -> Place:
    return str(message.topic()), int(message.partition() or 0)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
