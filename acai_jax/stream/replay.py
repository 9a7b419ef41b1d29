"""Replay: alerts of a past night to a Kafka topic, as ZTF sends them."""

import array
import contextlib
import dataclasses
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import numpy as np

from acai_jax.alerts.sources import Paths, source_files
from acai_jax.errors import Reject, StreamError
from acai_jax.extras import require
from acai_jax.stream.kafka import Connection, code
from acai_jax.stream.messages import Message, alert_messages
from acai_jax.stream.settings import ClientSettings, ReplaySettings
from acai_jax.surveys import SURVEYS

if TYPE_CHECKING:
    from confluent_kafka import Producer

Phase = Literal["sorting", "sending"]
Report = Callable[[Phase, int, int, int], object]
"""Told (phase, bytes done, bytes in all, alerts done)."""

_DAY_SECONDS: Final = 86_400.0
_METADATA_SECONDS: Final = 30.0
_TICK_SECONDS: Final = 0.2  # how long a stop may wait to be heard
_KEPT_REJECTS: Final = 20
_PRODUCER: Final = {
    "enable.idempotence": True,  # nothing doubled by a retry
    "delivery.timeout.ms": 60_000,
    "queue.buffering.max.kbytes": 65_536,  # about 800 alerts
    "message.max.bytes": 2**26,  # the broker has its own limit, and says so
    "linger.ms": 5,
}


@dataclasses.dataclass(slots=True)
class Replayed:
    """What became of the alerts.

    Attributes:
        delivered: messages that the broker has confirmed.
        failed: messages that it has not.
        failure: why, for the first of them.
        rejected: alerts of the source that are no readable Avro, and were not sent.
        rejects: the first of them.
        interrupted: whether it was told to stop before the end.
        seconds: from the first message to the last confirmation.
    """

    delivered: int = 0
    failed: int = 0
    failure: str | None = None
    rejected: int = 0
    rejects: list[Reject] = dataclasses.field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0


def replay(
    paths: Paths,
    settings: ReplaySettings,
    *,
    client: ClientSettings | None = None,
    stop: threading.Event | None = None,
    report: Report = lambda phase, done, total, alerts: None,
) -> Replayed:
    """Sends alerts to a topic, each as an Avro container with its schema inside.

    Alerts go out in the order of the source, in turns to the topic's partitions. With their own
    timing they are sorted by `jd` first, through a temporary file as large as the unpacked source.

    Args:
        paths: as for `read_alerts`.
        settings: where to, and how fast.
        client: further settings of the Kafka client; by default those of the settings' file and of
            the environment.
        stop: once set, no more is sent; what was sent is waited for.
        report: told how far it is.

    Returns:
        What became of the alerts; every message is confirmed, or counted as failed.

    Raises:
        SourceError: a path does not exist, or the only file is of no known kind.
        StreamError: the brokers cannot be reached or refuse us, or the topic cannot be used.

    Example:
        >>> settings = ReplaySettings(bootstrap_servers="localhost:9092", topic="night", rate=35.0)
        >>> replay("night.tar.gz", settings).delivered  # doctest: +SKIP
        235104
    """
    files = source_files(paths)
    stop = stop or threading.Event()
    connection = Connection(
        settings.bootstrap_servers, client or ClientSettings(settings.kafka_config)
    )
    producer = connection.plain_producer(_PRODUCER)
    partitions = _make_topic(connection, producer, settings)
    result = Replayed()
    sender = _Sender(connection, producer, settings.topic, partitions, result)
    total = sum(file.stat().st_size for file in files)
    messages = alert_messages(files)
    with contextlib.ExitStack() as stack:
        if settings.own_timing:
            spool = stack.enter_context(tempfile.TemporaryFile())
            messages, total = _in_time(messages, spool, total, stop, report)

        def sending(done: int) -> None:
            report("sending", done, total, result.delivered)

        _send(messages, sender, _Clock(settings), result, stop, sending)
    result.interrupted = stop.is_set()
    return result


def _send(
    messages: Iterator[tuple[Message | Reject, int]],
    sender: "_Sender",
    clock: "_Clock",
    result: Replayed,
    stop: threading.Event,
    report: Callable[[int], object],
) -> None:
    done, started = 0, time.monotonic()
    for message, size in messages:
        done += size
        if isinstance(message, Reject):
            result.rejected += 1
            result.rejects += [message] if len(result.rejects) < _KEPT_REJECTS else []
        elif not (sender.wait(clock.wait(message), stop) and sender.send(message, stop)):
            break
        report(done)
    sender.flush(lambda: report(done))
    result.seconds = time.monotonic() - started


class _Clock:
    """When each message is due."""

    def __init__(self, settings: ReplaySettings) -> None:
        self._rate = settings.rate
        self._speed = settings.speed if settings.own_timing else None
        self._number = itertools.count()
        self._start: float | None = None
        self._first_jd = 0.0

    def wait(self, message: Message) -> float:
        """Seconds until the next message, which is this one, is due."""
        now, number = time.monotonic(), next(self._number)
        if self._start is None:
            self._start, self._first_jd = now, message.jd or 0.0
        if self._rate is not None:
            return self._start + number / self._rate - now
        if self._speed is not None and message.jd is not None:
            return self._start + (message.jd - self._first_jd) * _DAY_SECONDS / self._speed - now
        return 0.0


class _Sender:
    """Sends messages, and counts what the broker says of them."""

    def __init__(
        self,
        connection: Connection,
        producer: "Producer",
        topic: str,
        partitions: int,
        result: Replayed,
    ) -> None:
        self._connection = connection
        self._producer = producer
        self._topic = topic
        self._partition = itertools.cycle(range(partitions))
        self._result = result
        self._kafka = require("confluent_kafka", "kafka")
        self._hopeless = False

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Waits, and hears the broker meanwhile; False if there is nothing to wait for."""
        deadline = time.monotonic() + seconds
        while not (stop.is_set() or self._hopeless):
            left = deadline - time.monotonic()
            self._producer.poll(max(0.0, min(left, _TICK_SECONDS)))
            if left <= 0:
                return True
        return False

    def send(self, message: Message, stop: threading.Event) -> bool:
        """Hands on one message; False if it is to be the last."""
        partition = next(self._partition)
        while not (stop.is_set() or self._hopeless):
            try:
                self._producer.produce(
                    self._topic, message.content, partition=partition, on_delivery=self._confirm
                )
                return True
            except BufferError:  # its queue is full: the broker sets the pace
                self._producer.poll(_TICK_SECONDS)
            except self._kafka.KafkaException as error:  # such as a message that is too large
                self._confirm(error.args[0], None)
                return not self._hopeless
        return False

    def flush(self, report: Callable[[], object]) -> None:
        """Waits until every message is confirmed or has failed."""
        while self._producer.flush(_TICK_SECONDS):
            if self._hopeless:
                self._producer.purge()
            report()
        report()

    def _confirm(self, error: Any, _: object) -> None:
        if error is None:
            self._result.delivered += 1
            return
        self._result.failed += 1
        if self._result.failure is None:
            self._result.failure = self._connection.explain(self._kafka.KafkaException(error))
        lost = error.code() == code("_MSG_TIMED_OUT")
        self._hopeless |= lost or self._connection.refuses(error)


def _make_topic(connection: Connection, producer: "Producer", settings: ReplaySettings) -> int:
    """Makes the topic if it is not there; returns the number of its partitions."""
    kafka = require("confluent_kafka", "kafka")
    topic, wanted = settings.topic, settings.partitions
    try:
        found = _partitions(producer, topic)
        if found == 0:
            found = wanted = wanted or 1
            new = require("confluent_kafka.admin", "kafka").NewTopic(topic, wanted)
            administrator = connection.administrator()
            for made in administrator.create_topics([new]).values():
                made.result(_METADATA_SECONDS)
            deadline = time.monotonic() + _METADATA_SECONDS
            while _partitions(producer, topic) < wanted and time.monotonic() < deadline:
                time.sleep(_TICK_SECONDS)
    except kafka.KafkaException as error:
        raise StreamError(f"cannot use topic {topic}: {connection.explain(error)}") from None
    if wanted not in (None, found):
        raise StreamError(f"topic {topic} exists with {found} partition(s), not {wanted}")
    return found


def _partitions(producer: "Producer", topic: str) -> int:
    # asked for by its name, some brokers would make it
    found = producer.list_topics(timeout=_METADATA_SECONDS).topics.get(topic)
    return 0 if found is None else len(found.partitions)


def _in_time(
    messages: Iterator[tuple[Message | Reject, int]],
    spool: IO[bytes],
    total: int,
    stop: threading.Event,
    report: Report,
) -> tuple[Iterator[tuple[Message | Reject, int]], int]:
    """The messages in the order of their times, rejects first; and the bytes of them all."""
    times, ends = array.array("d"), array.array("q", [0])
    rejects: list[tuple[Reject, int]] = []
    done = 0
    for message, size in messages:
        if stop.is_set():
            break
        done += size
        if isinstance(message, Reject):
            rejects.append((message, 0))
        elif message.jd is None:
            field = " or ".join(f"{each.record}.{each.time}" for each in SURVEYS.values())
            reason = f"missing field: {field}, which its own timing needs"
            rejects.append((Reject(reason, origin=message.origin), 0))
        else:
            try:
                spool.write(message.content)
            except OSError as error:
                where = tempfile.gettempdir()
                raise StreamError(f"cannot sort alerts in {where}: {error.strerror}") from None
            times.append(message.jd)
            ends.append(ends[-1] + len(message.content))
        report("sorting", done, total, len(times))

    def read() -> Iterator[tuple[Message | Reject, int]]:
        yield from rejects
        for index in np.argsort(np.asarray(times), kind="stable"):
            start, end = ends[index], ends[index + 1]
            spool.seek(start)
            yield Message(spool.read(end - start), "", times[index]), end - start

    return read(), ends[-1]
