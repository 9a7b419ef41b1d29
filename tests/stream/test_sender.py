"""Messages and offsets in one transaction, whatever becomes of the producer."""

import threading
import time

import pytest
from broker import Broker
from confluent_kafka import Consumer
from streams import CLIENT

from acai_jax.errors import StreamError
from acai_jax.stream import kafka, sender
from acai_jax.stream.kafka import Connection
from acai_jax.stream.sender import TransactionalSender
from acai_jax.stream.settings import ClientSettings


def connect(broker: Broker) -> Connection:
    return Connection(broker.bootstrap, ClientSettings(None, CLIENT))


def member(broker: Broker, group: str, topic: str) -> Consumer:
    """A consumer that has its partition."""
    config = ClientSettings(None, CLIENT).values | {"bootstrap.servers": broker.bootstrap}
    config |= {"group.id": group, "enable.auto.commit": "false", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    consumer.subscribe([topic])
    message = consumer.poll(20)
    assert message is not None
    assert message.error() is None
    return consumer


def never() -> bool:
    return False


def test_an_attempt_that_succeeded_unheard_is_not_made_again(broker: Broker, monkeypatch):
    topic, scores = broker.create_topic(), broker.create_topic()
    broker.produce(topic, [b"alert"])
    consumer = member(broker, topic, topic)
    sending = TransactionalSender(connect(broker), topic, "worker", [scores])
    attempt = sending._attempt

    def unheard(*given):
        monkeypatch.undo()  # the second attempt is heard
        attempt(*given)
        raise TimeoutError

    monkeypatch.setattr(sending, "_attempt", unheard)
    group = consumer.consumer_group_metadata()
    assert sending.send([(scores, b"7", b"x")], {(topic, 0): 1}, group, lambda: True)
    assert broker.committed(topic) == {(topic, 0): 1}
    assert [message.value() for message in broker.messages(scores)] == [b"x"]
    consumer.close()


def test_an_attempt_without_end_is_left_behind_and_cut_off(broker: Broker, monkeypatch):
    topic, scores = broker.create_topic(), broker.create_topic()
    broker.produce(topic, [b"alert"])
    consumer = member(broker, topic, topic)
    sending = TransactionalSender(connect(broker), topic, "worker2", [scores])
    attempt, go_on = sending._attempt, threading.Event()

    def hangs(*given):
        monkeypatch.setattr(sending, "_attempt", attempt)
        go_on.wait(60)
        return attempt(*given)

    monkeypatch.setattr(sending, "_attempt", hangs)
    monkeypatch.setattr(sender, "_ATTEMPT_SECONDS", 2.0)
    group = consumer.consumer_group_metadata()
    assert sending.send([(scores, b"7", b"x")], {(topic, 0): 1}, group, lambda: True)
    before = threading.active_count()
    go_on.set()  # the first attempt, of a producer that the second has cut off, now goes on
    deadline = time.monotonic() + 60
    while threading.active_count() >= before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [message.value() for message in broker.messages(scores)] == [b"x"]
    consumer.close()


def test_giving_up_sends_nothing(broker: Broker, monkeypatch, caplog):
    topic, scores = broker.create_topic(), broker.create_topic()
    sending = TransactionalSender(connect(broker), topic, "worker3", [scores])
    monkeypatch.setattr(sending, "_attempt", lambda *_: time.sleep(3))
    monkeypatch.setattr(sender, "_ATTEMPT_SECONDS", 0.1)
    assert not sending.send([(scores, b"7", b"x")], {(topic, 0): 1}, None, never)
    assert "will come again: no answer" in caplog.text
    assert broker.messages(scores) == []


def test_brokers_without_transactions_are_a_clear_error(monkeypatch):
    monkeypatch.setattr(kafka, "_CONNECT_SECONDS", 0.3)
    nowhere = Connection("127.0.0.1:9", ClientSettings(None, CLIENT))
    with pytest.raises(StreamError, match="cannot send scores"):
        TransactionalSender(nowhere, "group", "worker", ["scores"])
