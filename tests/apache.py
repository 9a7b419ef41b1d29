"""Apache Kafka on loopback, in processes of its own, where `java` and `mvn` are there.

Maven fetches it once, by pom.xml; what a broker starts from is kept in .cache.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from broker import Broker, Relay, free_port
from confluent_kafka import admin as kafka_admin

POM = Path(__file__).with_name("pom.xml")
CACHE = POM.parents[1] / ".cache" / "apache-kafka"
CLUSTER = "acai_jax-on-loopback-A"
USER, PASSWORD = "astronomer", "correct-horse-battery"
START_SECONDS = 300.0

JAVA = ("java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
LISTENERS = {
    "PLAIN": "PLAINTEXT",
    "CUTTABLE": "PLAINTEXT",  # whose address is that of a relay
    "SECURED": "SASL_SSL",
    "CONTROLLER": "PLAINTEXT",
}


class UnavailableError(Exception):
    """There is no Apache Kafka here; the message says why."""


@functools.cache
def prepare() -> Path:
    """A folder with what brokers start from, fetched and made by the first who asks.

    Raises:
        UnavailableError: there is no Java or Maven, or Maven gets nothing.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise UnavailableError(f"no {program}")
    folder = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir() or not all(map(os.path.exists, _classpath(folder).split(":"))):
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as name:
                _make(Path(name))
                Path(name).rename(folder)
                Path(name).mkdir()  # for the context to remove
    return folder


def _make(folder: Path) -> None:
    """Fetches Kafka; makes the features of a new cluster, and a key for TLS."""
    command = ["mvn", "-q", "-B", "-f", POM, "dependency:build-classpath"]
    _call(*command, f"-Dmdep.outputFile={folder / 'classpath'}", "-Dmdep.includeScope=runtime")
    properties = folder / "properties"
    first = f"1@127.0.0.1:{free_port()}"
    settings = {"process.roles": "broker,controller", "node.id": 1, "log.dirs": folder / "log"}
    settings |= {"controller.quorum.voters": first, "controller.listener.names": "CONTROLLER"}
    settings |= {"listeners": f"PLAINTEXT://127.0.0.1:0,CONTROLLER://{first[2:]}"}
    _write_properties(properties, settings)
    tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", properties]
    _call(*JAVA, "-cp", _classpath(folder), *tool)
    key = ["-alias", "broker", "-keystore", folder / "key.p12", "-storepass", PASSWORD]
    named = ["-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", "-ext", "bc:c"]
    _call("keytool", "-genkeypair", *key, *named, "-keyalg", "RSA", "-validity", 36500)
    _call("keytool", "-exportcert", "-rfc", *key, "-file", folder / "certificate.pem")


def _call(*command: object) -> None:
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=START_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"no answer of {command[0]} in {START_SECONDS:.0f} s") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["nothing said"]
        raise UnavailableError(f"{command[0]} failed: {said[0]}")


def _classpath(folder: Path) -> str:
    return (folder / "classpath").read_text().strip()


def _write_properties(path: Path, settings: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _version() -> str | None:
    return xml.etree.ElementTree.parse(POM).findtext(".//{*}dependency/{*}version")


class Kafka(Broker):
    """One broker, which is a controller too. Its log is on disk: `start` after `kill` finds it.

    Args:
        folder: for its log; a broker that runs in it already can be asked, too.
        node: its number in its cluster.
    """

    name = f"Apache Kafka {_version()}"
    apache = True

    def __init__(self, folder: Path, node: int = 1) -> None:
        self._folder, self._node = folder, node
        self._about = folder / "broker.json"
        if self._about.exists():
            about = json.loads(self._about.read_text())
            self.pid, self._ports = about["pid"], about["ports"]
        else:
            self.pid, self._ports = 0, {name: free_port() for name in (*LISTENERS, "RELAY")}
        super().__init__(self._ports["PLAIN"])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def voter(self) -> str:
        return f"{self._node}@127.0.0.1:{self._ports['CONTROLLER']}"

    def start(self, voters: tuple[str, ...] = ()) -> None:
        """Starts the process, of a cluster of these voters, without waiting for it."""
        prepared, log = prepare(), self._folder / "log"
        voters = voters or (self.voter,)
        if not log.is_dir():
            log.mkdir(parents=True)
            shutil.copy(prepared / "log" / "bootstrap.checkpoint", log)
            directory = f"acai_jax-directory-{self._node:02d}A"
            identity = {"version": 1, "cluster.id": CLUSTER, "node.id": self._node}
            _write_properties(log / "meta.properties", identity | {"directory.id": directory})
        properties = self._folder / "properties"
        _write_properties(properties, self._settings(prepared, log, voters))
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = [*JAVA, quiet, "-cp", _classpath(prepared), "kafka.Kafka", str(properties)]
        with (self._folder / "said.txt").open("ab") as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=said)
        self.pid = self._process.pid
        self._about.write_text(json.dumps({"pid": self.pid, "ports": self._ports}))

    def wait(self) -> None:
        """Waits until the broker answers."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            said = (self._folder / "said.txt").read_text()[-2000:]
            assert self._process.poll() is None, f"the broker ended: {said}"
            assert time.monotonic() < deadline, f"the broker does not answer: {said}"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._ports["PLAIN"]), 1).close()
                return
            time.sleep(0.05)

    def kill(self) -> None:
        """Kills the process as `kill -9` does."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait()
            self._about.unlink()
            self.pid, self._process = 0, None

    close = kill

    def leave_running(self) -> None:
        """Lets another process end it."""
        if self._process is not None:
            self._process.returncode = 0  # else Python warns of a process that is not waited for

    @contextlib.contextmanager
    def cuttable(self) -> "Iterator[CuttableKafka]":
        with (self._folder / "relay.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # other workers of pytest wait for the relay
            view = CuttableKafka(self._folder)
            try:
                yield view
            finally:
                view.cut()

    @contextlib.contextmanager
    def secured(self) -> "Iterator[SecuredKafka]":
        scram: Any = kafka_admin  # which does not say that it exports them
        user = scram.ScramCredentialInfo(scram.ScramMechanism.SCRAM_SHA_512, 4096)
        change = scram.UserScramCredentialUpsertion(USER, user, PASSWORD.encode())
        admin = self._admin()  # lives until its answers are there
        for made in admin.alter_user_scram_credentials([change]).values():
            made.result(60)
        yield SecuredKafka(self._folder)

    def _settings(self, prepared: Path, log: Path, voters: tuple[str, ...]) -> dict[str, object]:
        ports = self._ports
        advertised = {name: ports[name] for name in LISTENERS} | {"CUTTABLE": ports["RELAY"]}
        del advertised["CONTROLLER"]
        copies = len(voters)
        return {
            "process.roles": "broker,controller",
            "node.id": self._node,
            "log.dirs": log,
            "controller.quorum.voters": ",".join(voters),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listener.security.protocol.map": _joined(":", LISTENERS),
            "listeners": _joined("://127.0.0.1:", {name: ports[name] for name in LISTENERS}),
            "advertised.listeners": _joined("://127.0.0.1:", advertised),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secured.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.secured.ssl.keystore.location": prepared / "key.p12",
            "listener.name.secured.ssl.keystore.password": PASSWORD,
            "default.replication.factor": copies,
            "min.insync.replicas": min(copies, 2),
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(copies, 2),
            "transaction.state.log.num.partitions": 4,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            "log.message.timestamp.after.max.ms": 2**63 - 1,
            "message.max.bytes": 20_000_000,
            "replica.fetch.max.bytes": 20_000_000,
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "num.network.threads": 1,
            "num.io.threads": 2,
            "num.partitions": 1,
        }


class CuttableKafka(Kafka):
    """A broker that runs, as seen through connections that can be cut."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.relay = Relay(self._ports["CUTTABLE"], self._ports["RELAY"])

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._ports['RELAY']}"

    def cut(self) -> None:
        self.relay.stop()

    def mend(self) -> None:
        self.relay.start()


class SecuredKafka(Kafka):
    """A broker that runs, as seen by clients that must prove who they are, and use TLS."""

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._ports['SECURED']}"

    def login(self, user: str, password: str) -> dict[str, str]:
        tls = {
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SSL_CA_LOCATION": str(prepare() / "certificate.pem"),
        }
        return super().login(user, password) | tls


def _joined(between: str, values: dict[str, object] | dict[str, str] | dict[str, int]) -> str:
    return ",".join(f"{name}{between}{value}" for name, value in values.items())


@contextlib.contextmanager
def running_kafkas(folder: Path, count: int = 1) -> Iterator[list[Kafka]]:
    """Brokers of one cluster; of three, each has a copy of all, and two copies must be written."""
    brokers = [Kafka(folder / str(node), node) for node in range(1, count + 1)]
    voters = tuple(broker.voter for broker in brokers)
    try:
        for broker in brokers:
            broker.start(voters)
        for broker in brokers:
            broker.wait()
        yield brokers
    finally:
        for broker in brokers:
            broker.kill()


@contextlib.contextmanager
def shared_kafka(folder: Path) -> Iterator[Kafka]:
    """One broker for all processes that name this folder: the first starts it, the last ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    starting, using = ((folder / name).open("w") for name in ("starting", "using"))
    with starting, using:
        fcntl.flock(starting, fcntl.LOCK_EX)
        broker = Kafka(folder)
        if not broker.pid:
            broker.start()
            broker.wait()
        fcntl.flock(using, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield broker
        finally:
            fcntl.flock(starting, fcntl.LOCK_EX)
            try:
                fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                broker.leave_running()
            else:
                broker.kill()
