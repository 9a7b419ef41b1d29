import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import confluent_kafka
import pytest
from broker import Broker, running_broker
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import read_packet
from acai_jax.commands import subcommands
from acai_jax.errors import SourceError, StreamError
from acai_jax.stream import kafka
from acai_jax.stream import replay as module
from acai_jax.stream.messages import avro_message
from acai_jax.stream.replay import Replayed, ReplaySettings, replay
from acai_jax.stream.settings import ClientSettings


def settings(broker: Broker, topic: str, **changes) -> ReplaySettings:
    return ReplaySettings(bootstrap_servers=broker.bootstrap, topic=topic, **changes)


def client(**environment: object) -> ClientSettings:
    return ClientSettings(None, {f"ACAI_JAX_KAFKA_{k}": str(v) for k, v in environment.items()})


def values(broker: Broker, topic: str) -> list[bytes]:
    return [message.value() for message in broker.messages(topic)]


@pytest.fixture
def night(tmp_path):
    """40 alerts in a folder of their own, a file each."""
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03d}.avro").write_bytes(avro_bytes(packet_record(number)))
    return folder


@pytest.fixture
def files(night):
    return [path.read_bytes() for path in sorted(night.iterdir())]


def test_files_arrive_unchanged_and_in_order(broker: Broker, night, files):
    topic = broker.create_topic()
    told = []
    found = replay(night, settings(broker, topic), report=lambda *facts: told.append(facts))
    assert values(broker, topic) == files
    assert (found.delivered, found.failed, found.rejected, found.interrupted) == (40, 0, 0, False)
    total = sum(map(len, files))
    assert told[-1] == ("sending", total, total, 40)


def test_a_topic_is_made_and_its_partitions_take_turns(broker: Broker, night, files):
    topic = broker.create_topic() + "_made"
    assert replay(night, settings(broker, topic, partitions=3)).delivered == 40
    assert broker.topics()[topic] == 3
    by_partition = {p: files[p::3] for p in range(3)}
    found = broker.messages(topic)
    assert {p: [m.value() for m in found if m.partition() == p] for p in range(3)} == by_partition
    with pytest.raises(StreamError, match=r"exists with 3 partition\(s\), not 2"):
        replay(night, settings(broker, topic, partitions=2))


def test_what_a_partition_refuses_at_first_is_not_lost(kafka, night, files):
    """Later requests wait: accepted before it, they would make it look as if it were written."""
    refused = []

    def refuse_first(request: bytes) -> bytes:
        if refused or request[4:6] != b"\0\0" or topic not in request:  # PRODUCE
            return request
        refused.append(request)
        time.sleep(0.5)  # all that may follow it does
        return request.replace(topic, b"x" * len(topic))

    with kafka.cuttable() as broker:
        topic = broker.create_topic().encode()
        broker.relay.change = refuse_first
        small = client(BATCH_NUM_MESSAGES=5)
        assert replay(night, settings(broker, topic.decode()), client=small).delivered == 40
        assert values(broker, topic.decode()) == files
        assert refused


class Times:
    """Time that passes only while a producer waits, and when each message was handed on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[float] = []
        self.longest_wait = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def times(monkeypatch) -> Times:
    times = Times()

    class Producer(confluent_kafka.Producer):
        def poll(self, timeout: float) -> int:
            times.now += timeout
            times.longest_wait = max(times.longest_wait, timeout)
            return super().poll(0)

        def produce(self, *given: Any, **named: Any) -> None:
            times.sent.append(times.now - 1000.0)
            super().produce(*given, **named)

    monkeypatch.setattr(confluent_kafka, "Producer", Producer)
    monkeypatch.setattr(module, "time", times)
    return times


def test_the_rate_is_kept(broker: Broker, night, files, times):
    topic = broker.create_topic()
    found = replay(night, settings(broker, topic, rate=2.0))
    assert times.sent == pytest.approx([n / 2 for n in range(40)])
    assert found.seconds == pytest.approx(39 / 2)
    assert times.longest_wait <= 0.2  # or a stop would not be heard
    assert values(broker, topic) == files


def test_own_timing_sorts_alerts_and_keeps_their_distances(broker: Broker, tmp_path, times):
    days = {3: 2.0, 0: 0.0, 2: 1.0, 1: 0.5}
    for number, day in days.items():
        record = packet_record(number, jd=2460000.5 + day)
        (tmp_path / f"{9 - number}.avro").write_bytes(avro_bytes(record))
    (tmp_path / "timeless.avro").write_bytes(avro_message({"diaSourceId": 7}))
    topic = broker.create_topic()
    phases = []
    found = replay(
        tmp_path,
        settings(broker, topic, own_timing=True, speed=43200.0),
        report=lambda phase, done, total, _: phases.append((phase, done == total)),
    )
    candids = [read_packet(value).candid % 1000 for value in values(broker, topic)]
    assert candids == [0, 1, 2, 3]
    assert times.sent == pytest.approx([2 * day for day in (0.0, 0.5, 1.0, 2.0)])
    assert [reject.kind for reject in found.rejects] == ["missing field"]
    assert found.rejects[0].origin.endswith("timeless.avro")
    assert phases[-1] == ("sending", True)
    assert phases[0][0] == "sorting"


def test_broken_files_are_counted_and_the_rest_is_sent(broker: Broker, night, files):
    for number in range(0, 40, 2):
        (night / f"{number:03d}.avro").write_bytes(files[number][: 1000 * number])
    topic = broker.create_topic()
    found = replay(night, settings(broker, topic))
    assert values(broker, topic) == files[1::2]
    assert (found.delivered, found.rejected) == (20, 20)
    assert found.rejects[0].origin.endswith("000.avro")


def test_a_message_of_five_megabytes(broker: Broker, tmp_path):
    raw = avro_bytes(packet_record(publisher="x" * 5_000_000))
    (tmp_path / "large.avro").write_bytes(raw)
    topic = broker.create_topic()
    assert replay(tmp_path, settings(broker, topic)).delivered == 1
    assert values(broker, topic) == [raw]


def test_a_message_that_is_too_large_is_a_failure_and_the_rest_is_sent(broker, night, files):
    (night / "020.avro").write_bytes(avro_bytes(packet_record(publisher="x" * 500_000)))
    topic = broker.create_topic()
    found = replay(night, settings(broker, topic), client=client(MESSAGE_MAX_BYTES=300_000))
    assert values(broker, topic) == files[:20] + files[21:]
    assert (found.delivered, found.failed) == (39, 1)
    assert "too large" in found.failure


def test_a_broker_that_goes_away_is_waited_for(cuttable: Broker, night, files):
    topic = cuttable.create_topic()
    told: list[int] = []
    found: list[Replayed] = []

    def run() -> None:
        quickly = client(RECONNECT_BACKOFF_MAX_MS=200)
        asked = settings(cuttable, topic, rate=40.0)
        found.append(replay(night, asked, client=quickly, report=lambda *f: told.append(f[3])))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: told and told[-1] >= 5)
    cuttable.cut()
    wait_for(lambda: len(told) >= 30)
    cuttable.mend()
    thread.join(60)
    assert found[0].delivered == 40
    assert values(cuttable, topic) == files


def test_a_broker_that_stays_away_fails_what_was_not_confirmed(night):
    with running_broker() as broker:
        topic = broker.create_topic()
        told: list[int] = []

        def report(phase: str, done: int, total: int, alerts: int) -> None:
            told.append(alerts)
            if alerts >= 10:
                broker.kill()

        found = replay(
            night,
            settings(broker, topic, rate=100.0),
            client=client(DELIVERY_TIMEOUT_MS=1500, REQUEST_TIMEOUT_MS=1000),
            report=report,
        )
        assert found.delivered >= 10
        assert found.delivered + found.failed <= 40
        assert found.failed > 0
        assert "timed out" in found.failure


def test_no_broker_is_a_clear_error(night, monkeypatch):
    monkeypatch.setattr(kafka, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(kafka, "_ANSWER_SECONDS", 0.3)
    nobody = ReplaySettings(bootstrap_servers="127.0.0.1:1", topic="night")
    with pytest.raises(StreamError, match=r"cannot reach 127\.0\.0\.1:1"):
        replay(night, nobody)


def test_wrong_credentials_are_a_clear_error_without_them(broker: Broker, night):
    secret = "open-sesame-4711"
    with broker.secured() as secured:
        credentials = client(**secured.login("somebody", secret))
        with pytest.raises(StreamError, match=r"refuses us: .*[Aa]uthentication") as error:
            replay(night, settings(secured, "night"), client=credentials)
    assert secret not in str(error.value)


def test_sources_are_looked_at_before_the_broker():
    nobody = ReplaySettings(bootstrap_servers="127.0.0.1:1", topic="night")
    with pytest.raises(SourceError, match="no such file"):
        replay("no_such_night", nobody)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"topic": "a/b"}, "no name of a topic"),
        ({"topic": ".."}, "no name of a topic"),
        ({"rate": 0.0}, "--rate"),
        ({"own_timing": True, "speed": float("nan")}, "--speed"),
        ({"speed": 2.0}, "--speed goes with --own-timing"),
        ({"rate": 1.0, "own_timing": True}, "not both"),
        ({"partitions": 0}, "--partitions"),
    ],
)
def test_settings_are_checked(changes, problem):
    with pytest.raises(StreamError, match=problem):
        ReplaySettings(**{"bootstrap_servers": "h:1", "topic": "night", **changes})


def test_a_full_disk_while_sorting_is_a_clear_error(broker: Broker, night, monkeypatch):
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(StreamError, match=r"cannot sort alerts in .*: No space left on device"):
        replay(night, settings(broker, broker.create_topic(), own_timing=True))


def flags(broker: Broker, *arguments: object) -> list[str]:
    return ["replay", "--bootstrap-servers", broker.bootstrap, *map(str, arguments)]


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: its exit status, and what it says."""

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["acai-jax", *map(str, arguments)])
        try:
            subcommands.run()
            status = 0
        except SystemExit as error:
            status = error.code
        return status, " ".join(capsys.readouterr().err.split())

    return run


def test_the_command_reports(broker: Broker, night, command):
    topic = broker.create_topic()
    (night / "broken.avro").write_bytes(b"Obj")
    status, said = command(*flags(broker, night, "--topic", topic))
    assert status == 0, said
    assert f"{topic}: 40 alerts delivered" in said
    assert "no readable Avro: 1" in said
    assert "broken.avro: not an Avro container" in said


def test_too_many_rejects_exit_with_4_and_the_rest_is_sent(broker: Broker, night, files, command):
    for number in range(10):
        (night / f"{number:03d}.avro").write_bytes(b"Obj")
    for most, expected in (("0.25", 0), ("0.24", 4)):
        topic = broker.create_topic()
        status, said = command(*flags(broker, night, "--topic", topic, "--max-rejects", most))
        assert status == expected, said
        assert ("error: 10 of 40 alerts were rejected (25.00 %)" in said) == (expected == 4)
        assert values(broker, topic) == files[10:]
    topic = broker.create_topic()
    status, said = command(*flags(broker, night / "000.avro", "--topic", topic))
    assert status == 4
    assert "error: 1 of 1 alerts were rejected (100.00 %)" in said
    status, said = command(*flags(broker, night, "--topic", topic, "--max-rejects", 1.5))
    assert status == 2
    assert "error: --max-rejects takes a share, 0 to 1" in said


def test_an_interrupt_confirms_what_was_sent(broker: Broker, night):
    topic = broker.create_topic()
    slow = subprocess.Popen(
        [sys.executable, "-m", "acai_jax", *flags(broker, night, "--topic", topic, "--rate", 10)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
    )
    wait_for(lambda: len(broker.messages(topic)) >= 3)
    slow.send_signal(signal.SIGINT)
    _, said = slow.communicate(timeout=60)
    assert slow.returncode == 130
    sent = len(broker.messages(topic))
    assert 3 <= sent < 40
    assert f"{topic}: {sent} alerts delivered" in said


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
