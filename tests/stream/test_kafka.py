"""What Apache Kafka does to a stream, and no broker in memory: nothing is lost or comes twice."""

import contextlib
import datetime
import fcntl
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from apache import PASSWORD, USER, running_kafkas
from broker import Broker
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from streams import (
    CLIENT,
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

from acai_jax.errors import StreamError
from acai_jax.score.scorer import Scorer
from acai_jax.stream import kafka as module
from acai_jax.stream import loop, reader
from acai_jax.stream.kafka import Connection
from acai_jax.stream.settings import ClientSettings

FUZZ = os.environ.get("ACAI_JAX_FUZZ") == "1"
KILLS = 20

fuzz = pytest.mark.skipif(not FUZZ, reason="takes minutes: make fuzz")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO, "acai_jax.stream")


def messages(count: int, first: int = 0) -> list[bytes]:
    return [alert(first + number) for number in range(count)]


def keys(broker: Broker, topic: str) -> list[int]:
    """The alerts whose scores a reader of committed messages finds."""
    return sorted(int(message.key() or b"") for message in broker.messages(topic))


def committed(broker: Broker, group: str) -> int:
    return sum(broker.committed(group).values())


def test_tls_and_the_right_password(kafka: Broker, scorer, tmp_path):
    topic, scores = kafka.create_topic(), kafka.create_topic()
    kafka.produce(topic, messages(10))
    with kafka.secured() as secured:
        right = login(secured, USER, PASSWORD)
        run(scorer, settings(secured, tmp_path, topic, to_topic=scores), **right)
    assert_scored(tmp_path, scorer, messages(10))
    assert keys(kafka, scores) == list(range(10))


def test_tls_with_a_certificate_that_nobody_vouches_for(kafka, scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 5.0)
    with kafka.secured() as secured:
        unsure = login(secured, USER, PASSWORD)
        del unsure["ACAI_JAX_KAFKA_SSL_CA_LOCATION"]
        with pytest.raises(StreamError, match=r"refuses us: .*certificate") as caught:
            run(scorer, settings(secured, tmp_path, "night"), **unsure)
    assert PASSWORD not in str(caught.value)


def test_a_topic_is_deleted_under_a_stream_and_made_again(kafka: Broker, scorer, tmp_path, caplog):
    topic = kafka.create_topic()
    kafka.produce(topic, messages(20))
    with Worker(scorer, settings(kafka, tmp_path, topic, until_end=False)):
        wait_for(lambda: committed(kafka, tmp_path.name) == 20)
        kafka.delete_topic(topic)
        wait_for(lambda: f"waiting for topic {topic}" in caplog.text)
        kafka.create_topic(name=topic)
        kafka.produce(topic, messages(40, first=20))
        wait_for(lambda: len(written(tmp_path)) == 60)
    assert_scored(tmp_path, scorer, messages(60))


def test_messages_that_are_no_longer_kept(kafka: Broker, scorer, tmp_path, caplog):
    """What is left is read, also by who would begin a new topic at its end."""
    topic = kafka.create_topic()
    kafka.produce(topic, messages(10))
    run(scorer, settings(kafka, tmp_path, topic))
    kafka.produce(topic, messages(20, first=10))
    kafka.forget(topic, before=15)
    run(scorer, settings(kafka, tmp_path, topic, start="latest"))
    assert_scored(tmp_path, scorer, [*messages(10), *messages(15, first=15)])
    gone = [text for text in caplog.messages if "no longer have offset 10" in text]
    assert len(gone) == 1
    assert committed(kafka, tmp_path.name) == 30


def test_the_latest_messages_of_a_topic_and_all_of_one_that_comes_later(
    kafka: Broker, scorer, tmp_path, monkeypatch
):
    monkeypatch.setattr(reader, "_today", lambda: datetime.date(2032, 5, 2))
    yesterday, today = (f"ztf_2032050{day}_programid1" for day in (1, 2))
    kafka.produce(yesterday, [alert(1)])
    quick = {"ACAI_JAX_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS": "500"}
    given = settings(kafka, tmp_path, until_end=False, start="latest")
    with Worker(scorer, given, **quick):
        wait_for(lambda: kafka.produce(yesterday, [alert(2)]) or written(tmp_path))
        kafka.produce(today, [alert(3)])
        wait_for(lambda: 3 in written(tmp_path))
    assert sorted(written(tmp_path)) == [2, 3]


def test_ends_of_transactions_are_no_messages(kafka: Broker, scorer, tmp_path, monkeypatch):
    """They have offsets; so have messages of a transaction that was undone, which are none."""
    monkeypatch.setattr(loop, "_LOOK_SECONDS", 0.0)
    topic = kafka.create_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(60)
    for first, end in (
        (0, producer.commit_transaction),
        (10, producer.abort_transaction),
        (20, producer.commit_transaction),
    ):
        producer.begin_transaction()
        for raw in messages(10, first):
            producer.produce(topic, raw)
        producer.flush(60)
        end(60)
    expected = [*messages(10), *messages(10, first=20)]
    metrics = run(scorer, settings(kafka, tmp_path, topic))
    assert_scored(tmp_path, scorer, expected)
    assert committed(kafka, tmp_path.name) == 32  # 0-9, an end, 11-20 undone, an end, 22-31, an end
    assert metrics.value("lag") == 0
    assert run(scorer, settings(kafka, tmp_path, topic)).value("consumed_total") == 0


def test_offsets_of_an_open_transaction_are_not_taken_for_committed(kafka: Broker, monkeypatch):
    topic = kafka.create_topic()
    kafka.produce(topic, [b"alert"])
    client = ClientSettings(None, CLIENT)
    connection = Connection(kafka.bootstrap, client)
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "log_level": 0}
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    assert consumer.poll(60) is not None
    producer = connection.producer(topic)
    producer.begin_transaction()
    offsets = [TopicPartition(topic, 0, 1)]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 60)
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 2.0)
    with pytest.raises(KafkaException):
        connection.committed(topic, [(topic, 0)])
    producer.commit_transaction(60)
    found: dict = {}

    def stands() -> bool:
        try:
            found.update(connection.committed(topic, [(topic, 0)]))
        except KafkaException:
            return False
        return True

    wait_for(stands)
    assert found == {(topic, 0): 1}
    consumer.close()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody writes to the table in this folder."""
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def test_a_worker_that_is_silent_for_too_long_is_put_out(kafka: Broker, scorer, tmp_path):
    """Its output hangs while the group wants its partitions back; later it comes in again."""
    topic, scores = kafka.create_topic(partitions=2), kafka.create_topic()
    asked = {"until_end": False, "batch_size": 8, "to_topic": scores, "group": topic}
    soon = {"ACAI_JAX_KAFKA_MAX_POLL_INTERVAL_MS": "6000"}
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "scores").mkdir(parents=True)
    kafka.produce(topic, messages(40))
    with Worker(scorer, settings(kafka, one, topic, **asked), **soon):
        wait_for(lambda: committed(kafka, topic) == 40)
        with locked(one / "scores"):
            for partition in (0, 1):
                kafka.produce(topic, [b"no alert"], partition=partition)
            kafka.produce(topic, messages(40, first=40))
            # the first batch holds a reject, and rejects are written first: it is at the lock
            wait_for(lambda: any((one / "rejects").glob("*/*.parquet")))
            with Worker(scorer, settings(kafka, other, topic, **asked), **soon):
                wait_for(lambda: committed(kafka, topic) == 82)
        kafka.produce(topic, messages(10, first=80))
        wait_for(lambda: committed(kafka, topic) == 92)
    assert sorted(written(other)) == list(range(40, 80))
    assert {*range(40), *range(80, 90)} < {*written(one)}
    assert keys(kafka, scores) == list(range(90))


def test_a_broker_is_killed_and_finds_its_log_again(kafka: Broker, scorer, tmp_path):
    """Alerts, groups and an open transaction are on its disk."""
    with running_kafkas(tmp_path / "brokers") as (broker,):
        topic, scores = broker.create_topic(partitions=2), broker.create_topic()
        sent = messages(120)
        broker.produce(topic, sent[:60])
        out = tmp_path / "out"
        given = settings(broker, out, topic, until_end=False, batch_size=4, to_topic=scores)
        with Worker(scorer, given):
            wait_for(lambda: written(out))
            broker.kill()
            broker.start()
            broker.wait()
            broker.produce(topic, sent[60:])
            wait_for(lambda: committed(broker, "out") == 120)
        assert_scored(out, scorer, sent)
        assert keys(broker, scores) == list(range(120))


@fuzz
def test_one_of_three_brokers_is_taken_away_and_then_another(kafka: Broker, scorer, tmp_path):
    with running_kafkas(tmp_path / "brokers", 3) as brokers:
        first, second, third = brokers
        topic, scores = third.create_topic(partitions=6), third.create_topic(partitions=3)
        anyone = SimpleNamespace(bootstrap=",".join(broker.bootstrap for broker in brokers))
        out, sent = tmp_path / "out", messages(180)
        third.produce(topic, sent[:60])
        given = settings(anyone, out, topic, until_end=False, batch_size=4, to_topic=scores)
        with Worker(scorer, given):
            wait_for(lambda: written(out))
            first.kill()
            third.produce(topic, sent[60:120])
            wait_for(lambda: committed(third, "out") == 120)
            first.start(tuple(broker.voter for broker in brokers))
            first.wait()
            wait_for(lambda: third.in_step(topic, 3))
            second.kill()
            third.produce(topic, sent[120:])
            wait_for(lambda: committed(third, "out") == 180)
        assert_scored(out, scorer, sent)
        assert keys(third, scores) == list(range(180))


@fuzz
def test_kills_at_any_moment(kafka: Broker, scorer, tmp_path):
    """Readers of committed messages find the scores of each alert once."""
    model, out = save_model(tmp_path / "model"), tmp_path / "out"
    topic, scores = kafka.create_topic(partitions=2), kafka.create_topic()
    draw, sent = random.Random(17), 0
    given = [*flags(kafka, out, model, topic), "--batch-size", 4, "--to-topic", scores]
    for _ in range(KILLS):
        kafka.produce(topic, messages(40, first=sent))
        sent += 40
        worker = start_process(*given)
        try:
            more = len(written(out)) + draw.randrange(1, 40)
            wait_for(lambda more=more, worker=worker: len(written(out)) >= more or worker.poll())
            assert worker.poll() is None
        finally:
            worker.kill()
            worker.communicate()
    run(scorer, settings(kafka, out, topic, to_topic=scores))
    assert_scored(out, scorer, messages(sent))
    assert keys(kafka, scores) == list(range(sent))
