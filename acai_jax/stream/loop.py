"""The loop of a stream: messages in, scores out, and offsets only after them.

Three stages work side by side, with few batches between them: this thread takes messages, some
threads make scores of them, and one thread writes to the sinks, in order. What they have written is
committed by this thread. After a failure nothing more is written or committed.
"""

import collections
import functools
import logging
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

from acai_jax.stream.intake import Intake
from acai_jax.stream.kafka import Connection
from acai_jax.stream.ledger import Entry, Ledger
from acai_jax.stream.metrics import Health, Metrics
from acai_jax.stream.reader import Hooks, Reader
from acai_jax.stream.sender import TransactionalSender
from acai_jax.stream.settings import StreamSettings
from acai_jax.stream.sinks import Messages, Sinks
from acai_jax.stream.work import Outcome, Work

if TYPE_CHECKING:
    from confluent_kafka import Message

log: Final = logging.getLogger("acai_jax.stream")

_BATCHES_UNDER_WAY: Final = 4
_TICK_SECONDS: Final = 0.1
_HOLD_SECONDS: Final = 5.0  # for so long slow work is waited for without telling the brokers
_LOOK_SECONDS: Final = 0.5  # between looks at how far behind we are
_SUMMARY_SECONDS: Final = 60.0
_GIVE_UP_SECONDS: Final = 30.0


class Stream:
    """One run, from what is in hand over what is under way to what is written and committed.

    See `run.run_stream`.
    """

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
        self._ledger = Ledger()
        self._intake: Intake[Message] = Intake(settings.batch_size, settings.batch_seconds)
        hooks = Hooks(self._on_commit, self._ledger.renew, self._on_revoke, self._on_lost)
        self._reader = Reader(settings, work.survey, connection, self._intake, hooks)
        self._sender: TransactionalSender | None = None
        self._working = ThreadPoolExecutor(2)
        self._writing = ThreadPoolExecutor(1)
        self._under_way: collections.deque[Future[Entry | None]] = collections.deque()
        self._next_look = 0.0
        self._next_summary = time.monotonic() + _SUMMARY_SECONDS

    def run(self) -> None:
        """Runs to the end; see `run.run_stream`."""
        try:
            self._reader.find_topics()
            if topics := self._sinks.topics():
                name = f"{self._settings.group}-{secrets.token_hex(8)}"
                self._sender = TransactionalSender(
                    self._connection, self._settings.group, name, topics
                )
            self._work.warm_up()
            self._reader.subscribe()
            while not (self._stop.is_set() or (self._settings.until_end and self._intake.at_end())):
                self._reader.watch_midnight()
                self._wait_for_room()
                self._reader.take()
                if self._intake.due():
                    self._submit()
                self._settle()
                self._look()
            log.info("finishing")
            self._finish()
        except BaseException:
            self._ledger.failed = True
            raise
        finally:
            self._writing.shutdown()
            self._working.shutdown()
            self._reader.close()
        self._sinks.close()
        self._summary("done")

    # --- batches -------------------------------------------------------------------------------

    def _wait_for_room(self) -> None:
        """Waits while enough batches are under way: memory stays bounded if a sink is slow."""
        started = time.monotonic()
        while len(self._under_way) >= _BATCHES_UNDER_WAY:
            wait([self._under_way[0]], timeout=_TICK_SECONDS)
            self._settle()
            self._look()
            if time.monotonic() - started > _HOLD_SECONDS and not self._intake.holding:
                self._reader.hold()
            if self._intake.holding:
                self._reader.take()  # nothing comes; but who never asks is put out of the group
        if self._intake.holding:
            self._reader.release()

    def _submit(self) -> None:
        """Sends what is in hand on its way."""
        messages, offsets = self._intake.hand_over()
        outcome = self._working.submit(self._work.do, messages)
        # asked for in another thread, the group would wait for ever during a rebalance
        group = None if self._sender is None else self._reader.group()
        entry = self._ledger.begin(offsets)
        flush = functools.partial(self._flush, messages, outcome, entry, group)
        self._under_way.append(self._writing.submit(self._ledger.write, entry, flush))

    def _flush(
        self, messages: "list[Message]", outcome: "Future[Outcome]", entry: Entry, group: Any
    ) -> None:
        """In the writing thread: all outputs."""
        send = None if self._sender is None else functools.partial(self._send, entry, group)
        self._sinks.flush(messages, outcome.result(), send)

    def _send(self, entry: Entry, group: Any, messages: Messages) -> None:
        """In the writing thread: messages, and the offsets of their batch with them."""
        assert self._sender is not None
        trying = functools.partial(self._keep_trying, entry)
        if not self._sender.send(messages, entry.offsets, group, trying):
            self._ledger.leave(entry)

    def _keep_trying(self, entry: Entry) -> bool:
        if self._stop.is_set() and self._stopped_at is None:
            self._stopped_at = time.monotonic()
        late = self._stopped_at is not None and (
            time.monotonic() - self._stopped_at > _GIVE_UP_SECONDS
        )
        return self._ledger.wants(entry) and not late

    def _settle(self) -> None:
        """Takes note of what is written, and has it committed.

        Raises:
            AcaiError: an output failed.
        """
        if not self._under_way:
            self._health.beat()
        while self._under_way and self._under_way[0].done():
            self._enter_next()
        # beside transactions, a commit that is late would undo what a later one has committed
        if self._sender is None and (offsets := self._ledger.to_commit()):
            self._reader.commit(offsets)

    def _finish(self) -> None:
        """Finishes all that is in hand and under way, and commits it."""
        self._drain()
        if self._sender is None and (offsets := self._ledger.to_commit_at_last()):
            self._reader.commit_and_wait(offsets)

    def _drain(self) -> None:
        if self._intake.in_hand:
            self._submit()
        while self._under_way:
            self._enter_next()

    def _enter_next(self) -> None:
        self._ledger.enter(self._under_way.popleft().result())
        self._health.beat()

    # --- what the brokers have to say ----------------------------------------------------------

    def _on_commit(self, error: Any) -> None:
        again = self._ledger.answered(committed=error is None)
        if error is None:
            self._connection.recovered()
        elif again:
            why = self._connection.explain(Exception(error))
            self._connection.say_once(f"offsets are not committed yet: {why}")

    def _on_revoke(self) -> None:
        if not self._ledger.failed:
            self._finish()

    def _on_lost(self) -> None:
        self._ledger.renew()
        if not self._ledger.failed:
            self._drain()

    # --- reports -------------------------------------------------------------------------------

    def _look(self) -> None:
        """Tells how far behind we are, now and then."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._metrics.lag.set(self._reader.lag())
        if now >= self._next_summary:
            self._next_summary = now + _SUMMARY_SECONDS
            self._summary("so far")

    def _summary(self, what: str) -> None:
        metrics = self._metrics
        facts = {
            name: int(metrics.total(f"{name}_total"))
            for name in ("consumed", "scored", "rejected", "duplicates", "upgraded")
        }
        log.info("%s", what, extra={"facts": {**facts, "lag": int(metrics.value("lag"))}})
