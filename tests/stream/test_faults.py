"""What goes wrong at night: nothing is lost, nothing comes twice, and each has a clear message."""

import contextlib
import fcntl
import json
import logging
import os
import resource
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import Broker, running_broker
from streams import (
    SECONDS,
    Worker,
    alert,
    assert_scored,
    flags,
    login,
    run,
    save_model,
    settings,
    small_scorer,
    start_process,
    wait_for,
    written,
)

from acai_jax.errors import OutputError, StreamError
from acai_jax.score.scorer import Scorer
from acai_jax.stream import loop, sender
from acai_jax.stream import run as stream_run
from acai_jax.stream.tables import scan_tables

SECRET = "incorrect-horse-battery"


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO, "acai_jax.stream")


def messages(count: int, first: int = 0) -> list[bytes]:
    return [alert(first + number) for number in range(count)]


def writers(out: Path) -> set[str]:
    return {path.name[:16] for path in out.glob("scores/*/*.parquet")}


def end(process, seconds: float = SECONDS) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert "Traceback" not in errors
    return process.returncode, errors


def sent_once(broker: Broker, topic: str, count: int) -> None:
    """A topic of scores has each of so many alerts, once where the broker can undo messages."""
    keys = [int(message.key()) for message in broker.messages(topic)]
    assert sorted(keys if broker.apache else set(keys)) == list(range(count))


def test_one_of_two_workers_is_killed_in_the_middle(broker: Broker, scorer, model, tmp_path):
    topic, scores = broker.create_topic(partitions=4), broker.create_topic()
    sent: list[bytes] = []

    def send(count: int) -> None:
        more = messages(count, first=len(sent))
        broker.produce(topic, more)
        sent.extend(more)

    def both_write() -> bool:
        if len(written(tmp_path)) == len(sent):  # more only then: they may take long to start
            send(4)
        return len(writers(tmp_path)) == 2

    given = [*flags(broker, tmp_path, model, topic), "--batch-size", 8, "--log-json"]
    given += ["--to-topic", scores]
    workers = [start_process(*given) for _ in range(2)]
    try:
        wait_for(both_write, "two workers")
        send(60)
        before = len(written(tmp_path))
        wait_for(lambda: len(written(tmp_path)) > before)
        workers[0].kill()
        workers[0].wait()
        send(60)
        wait_for(lambda: len(set(written(tmp_path))) == len(sent), "all alerts")
        workers[1].send_signal(signal.SIGTERM)
        code, errors = end(workers[1])
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert code == 0, errors
    assert_scored(tmp_path, scorer, sent)
    sent_once(broker, scores, len(sent))
    lines = [json.loads(line) for line in errors.splitlines()]
    assert lines[-1]["message"] == "done"
    assert sum(o for (t, _), o in broker.committed(tmp_path.name).items() if t == topic) == len(
        sent
    )


def test_a_second_worker_joins_and_leaves(broker: Broker, scorer, tmp_path):
    topic = broker.create_topic(partitions=4)
    scores = broker.create_topic()
    given = settings(broker, tmp_path, topic, until_end=False, batch_size=8, to_topic=scores)
    sent = messages(240)
    with Worker(scorer, given):
        broker.produce(topic, sent[:80])
        wait_for(lambda: written(tmp_path))
        with Worker(scorer, given):
            broker.produce(topic, sent[80:160])
            wait_for(lambda: len(written(tmp_path)) >= 160)
        broker.produce(topic, sent[160:])
        wait_for(lambda: len(written(tmp_path)) == 240)
    assert_scored(tmp_path, scorer, sent)
    keys = [message.key() for message in broker.messages(scores)]
    assert len(keys) == len(set(keys)) == 240


@pytest.mark.parametrize("to_topic", [False, True])
def test_brokers_that_go_away_and_come_back(
    cuttable: Broker, scorer, tmp_path, caplog, monkeypatch, to_topic
):
    monkeypatch.setattr(sender, "_ATTEMPT_SECONDS", 3.0)
    topic, scores = cuttable.create_topic(partitions=2), cuttable.create_topic()
    given = {"until_end": False, "batch_size": 8, "to_topic": scores if to_topic else None}
    sent = messages(120)
    cuttable.produce(topic, sent[:60])
    with Worker(scorer, settings(cuttable, tmp_path, topic, **given)):
        wait_for(lambda: written(tmp_path))
        cuttable.cut()
        wait_for(lambda: any("waiting for the brokers" in text for text in caplog.messages))
        time.sleep(0.3)  # the outage; nothing is waited for
        cuttable.mend()
        cuttable.produce(topic, sent[60:])
        wait_for(lambda: len(written(tmp_path)) == 120)
    assert_scored(tmp_path, scorer, sent)
    if to_topic:
        sent_once(cuttable, scores, 120)
    said = [text for text in caplog.messages if "waiting for the brokers" in text]
    assert to_topic or len(said) == 1


def test_a_broker_that_restarts_with_an_empty_log(scorer, tmp_path):
    with running_broker() as broker:
        broker.create_topic(partitions=2, name="night")
        broker.produce("night", messages(30))
        with Worker(scorer, settings(broker, tmp_path, "night", until_end=False)):
            wait_for(lambda: len(written(tmp_path)) == 30)
            broker.kill()
            broker.start()
            broker.create_topic(partitions=2, name="night")
            broker.produce("night", messages(50, first=10))  # the same places, other alerts
            wait_for(lambda: len(written(tmp_path)) == 60)
    assert_scored(tmp_path, scorer, messages(60))


def test_stopping_while_the_brokers_are_away(cuttable: Broker, scorer, tmp_path, caplog):
    topic = cuttable.create_topic()
    cuttable.produce(topic, messages(10))
    with Worker(scorer, settings(cuttable, tmp_path, topic, until_end=False)):
        wait_for(lambda: len(written(tmp_path)) == 10)
        cuttable.cut()
        wait_for(lambda: any("waiting for the brokers" in text for text in caplog.messages))
    cuttable.mend()
    run(scorer, settings(cuttable, tmp_path, topic))
    assert_scored(tmp_path, scorer, messages(10))


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows past 20 kB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_stream_and_the_next_one_goes_on(broker, scorer, tmp_path):
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, messages(60))
    with full_disk(), pytest.raises(OutputError, match=r"cannot use .*: File too large"):
        run(scorer, settings(broker, tmp_path, topic))
    assert written(tmp_path) == []
    assert not broker.committed(tmp_path.name)
    run(scorer, settings(broker, tmp_path, topic))
    assert_scored(tmp_path, scorer, messages(60))
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("place", ["scores", "rejects", "filters/anomaly"])
def test_an_output_that_cannot_be_written(broker: Broker, scorer, tmp_path, place):
    """Whichever output fails: nothing is committed, and the next run completes all of them."""
    topic, scores = broker.create_topic(), broker.create_topic()
    poison = [b"poison", b"more poison"]
    broker.produce(topic, [*messages(30), *poison])
    mine = tmp_path / "mine.toml"
    mine.write_text("[anomaly]\nwhere = 'acai_h >= 0'")
    given = settings(
        broker, tmp_path, topic, filters=("anomaly",), filters_file=mine, to_topic=scores
    )
    obstacle = tmp_path / place / topic
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=f"cannot use .*{topic}"):
        run(scorer, given)
    assert not broker.committed(tmp_path.name)
    assert broker.messages(scores) == []
    obstacle.unlink()
    run(scorer, given)
    assert_scored(tmp_path, scorer, messages(30))
    assert len(scan_tables(tmp_path / "filters" / "anomaly").collect()) == 30
    assert sorted(scan_tables(tmp_path / "rejects").collect()["raw"]) == sorted(poison)
    assert len(broker.messages(scores)) == 30


def test_a_slow_output_holds_the_stream_without_loss(
    broker: Broker, scorer, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(loop, "_HOLD_SECONDS", 0.2)
    monkeypatch.setattr(stream_run, "_STALL_SECONDS", 0.5)
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, messages(200))
    given = {"until_end": False, "batch_size": 8, "metrics_port": 0}
    (tmp_path / "scores").mkdir()
    with Worker(scorer, settings(broker, tmp_path, topic, **given)):
        wait_for(lambda: any("metrics on" in text for text in caplog.messages))
        (line,) = (text for text in caplog.messages if text.startswith("metrics on"))
        url = line.removeprefix("metrics on ")
        lock = os.open(tmp_path / "scores", os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another worker, or a slow disk, would
        try:
            before = len(written_now(tmp_path))
            wait_for(lambda: any("the work is slow" in text for text in caplog.messages))
            wait_for(lambda: health(url) == 503)
            wait_for(lambda: float(figure(url, "lag")) > 0)
            assert len(written_now(tmp_path)) == before
        finally:
            os.close(lock)
        wait_for(lambda: len(written(tmp_path)) == 200)
        wait_for(lambda: health(url) == 200)
    assert_scored(tmp_path, scorer, messages(200))


def written_now(out: Path) -> list[Path]:
    return list(out.glob("scores/*/*.parquet"))


def health(url: str) -> int:
    try:
        with urllib.request.urlopen(url.replace("/metrics", "/healthz"), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def figure(url: str, name: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = (line for line in lines if line.startswith(f"acai_jax_stream_{name} "))
    return line.split()[1]


def test_signals_and_secrets(broker: Broker, scorer, model, tmp_path):
    """The first signal waits for a sink, the second does not; nothing shows a secret."""
    config = tmp_path / "kafka.properties"
    config.write_text(f"# for tests\nssl.key.password = {SECRET}\ndebug=all\n")
    topic = broker.create_topic()
    broker.produce(topic, messages(20))
    out = tmp_path / "out"
    (out / "scores").mkdir(parents=True)
    lock = os.open(out / "scores", os.O_RDONLY)
    process = start_process(
        *flags(broker, out, model, topic),
        *("--kafka-config", config, "--metrics-port", 0, "--stdout"),
        environment={"ACAI_JAX_KAFKA_SASL_PASSWORD": SECRET[::-1]},
    )
    try:
        port = 0
        assert process.stderr is not None
        shown = ""
        for line in process.stderr:
            shown += line
            if "metrics on" in line:
                port = int(line.rpartition(":")[2].split("/")[0])
                fcntl.flock(lock, fcntl.LOCK_EX)
            if "partitions: topic" in line:
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            shown += answer.read().decode()
        if Path("/proc").is_dir():
            shown += Path(f"/proc/{process.pid}/cmdline").read_text()
            shown += Path(f"/proc/{process.pid}/comm").read_text()
        process.send_signal(signal.SIGTERM)
        for line in process.stderr:
            shown += line
            if "finishing" in line:
                break
        process.send_signal(signal.SIGTERM)
        output, rest = process.communicate(timeout=SECONDS)
    finally:
        os.close(lock)
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    shown += output + rest
    assert "debug" in shown or "BROKER" in shown  # librdkafka's own log was asked for
    assert SECRET not in shown
    assert SECRET[::-1] not in shown
    run(scorer, settings(broker, out, topic))
    assert_scored(out, scorer, messages(20))


def test_wrong_credentials(broker: Broker, scorer, tmp_path, caplog):
    with (
        broker.secured() as secured,
        pytest.raises(StreamError, match=f"{secured.bootstrap} refuses us: ") as caught,
    ):
        run(scorer, settings(secured, tmp_path, "night"), **login(secured, "astronomer", SECRET))
    assert SECRET not in str(caught.value) + caplog.text


def test_a_broker_that_wants_other_security(broker: Broker, scorer, tmp_path, monkeypatch):
    from acai_jax.stream import kafka

    monkeypatch.setattr(kafka, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(kafka, "_ANSWER_SECONDS", 0.3)
    with pytest.raises(StreamError, match=r"refuses us|cannot reach"):
        run(scorer, settings(broker, tmp_path, "night"), ACAI_JAX_KAFKA_SECURITY_PROTOCOL="SSL")


def test_a_folder_that_went_away_is_made_again(broker: Broker, scorer, tmp_path):
    topic = broker.create_topic()
    broker.produce(topic, messages(5))
    run(scorer, settings(broker, tmp_path, topic))
    shutil.rmtree(tmp_path / "scores")
    run(scorer, settings(broker, tmp_path, topic, group="another"))
    assert_scored(tmp_path, scorer, messages(5))
