"""The tests' broker does what the tests of the stream lean on."""

import time

import pytest
from broker import Broker, running_broker
from confluent_kafka import Consumer, KafkaException


def test_messages_arrive_in_the_order_of_their_partition(broker: Broker):
    topic = broker.create_topic(partitions=2)
    assert broker.topics()[topic] == 2
    broker.produce(topic, [b"a", b"b"], partition=1)
    broker.produce(topic, [b"c"], partition=0, timestamp=1_500_000_000_000)
    found = [(m.partition(), m.offset(), m.value()) for m in broker.messages(topic)]
    assert found == [(0, 0, b"c"), (1, 0, b"a"), (1, 1, b"b")]
    assert broker.messages(topic)[0].timestamp()[1] == 1_500_000_000_000


def test_a_group_s_offsets_are_kept_while_connections_are_cut(cuttable: Broker):
    topic = cuttable.create_topic()
    cuttable.produce(topic, [b"a", b"b"])
    consumer = Consumer(
        {
            "bootstrap.servers": cuttable.bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 2000,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    assert poll(consumer) == b"a"
    consumer.commit(asynchronous=False)
    cuttable.cut()
    with pytest.raises(KafkaException):
        consumer.list_topics(timeout=0.3)
    cuttable.mend()
    cuttable.produce(topic, [b"c"])
    assert [poll(consumer), poll(consumer)] == [b"b", b"c"]
    assert cuttable.committed(topic) == {(topic, 0): 1}
    consumer.close()


def test_a_killed_broker_forgets_its_topics():
    with running_broker() as broker:
        broker.create_topic(name="night")
        broker.kill()
        broker.start()
        assert "night" not in broker.topics()


def poll(consumer: Consumer) -> bytes | None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            return message.value()
    raise AssertionError("no message came")
