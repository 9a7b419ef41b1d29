"""Alerts through a real broker: every one scored, once, and everything that is asked beside it."""

import io
import json
import urllib.error
import urllib.request
from pathlib import Path

import fastavro
import polars as pl
import pytest
from broker import Broker
from server import running_server
from streams import (
    Worker,
    alert,
    assert_scored,
    few_sizes,
    overflowing,
    rejects,
    run,
    settings,
    small_alerts,
    small_bank,
    small_scorer,
    wait_for,
    written,
)
from synthetic import SCHEMA, avro_bytes, bare_avro, packet_record

from acai_jax.commands.filter import Filter
from acai_jax.errors import FilterError, StreamError
from acai_jax.filters.expressions import apply_filter
from acai_jax.score.scorer import Scorer
from acai_jax.simulate import simulate_packets
from acai_jax.simulate.schema402 import alert_schema
from acai_jax.stream import reader, registry
from acai_jax.stream.metrics import Metrics
from acai_jax.stream.tables import PLACE, scan_tables

COUNT = 1_000


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


def test_simulated_alerts_get_the_scores_of_the_scorer(broker: Broker, scorer, tmp_path):
    schema = fastavro.parse_schema(alert_schema())
    messages = []
    for _, _, record in simulate_packets(60, seed=5):
        buffer = io.BytesIO()
        fastavro.writer(buffer, schema, [record])
        messages.append(buffer.getvalue())
    topic = broker.create_topic(partitions=3)
    broker.produce(topic, messages)
    metrics = run(scorer, settings(broker, tmp_path, topic))
    table = assert_scored(tmp_path, scorer, messages)
    places = [(m.partition(), m.offset(), m.timestamp()[1]) for m in broker.messages(topic)]
    found = table.sort("partition", "offset")
    assert found.select("partition", "offset").rows() == [place[:2] for place in places]
    assert found["timestamp"].to_physical().to_list() == [place[2] for place in places]
    assert dict(table.schema)["timestamp"] == PLACE["timestamp"]
    assert found["origin"][0] == f"{topic}/{places[0][0]}/0"
    assert metrics.value("scored_total") == 60
    Filter(table=tmp_path, where="acai_h >= 0 AND jd > 0", out=tmp_path / "passed.csv").run()
    assert len(pl.read_csv(tmp_path / "passed.csv")) == 60
    assert sum(broker.committed(tmp_path.name).values()) == 60


def test_real_alerts_get_the_scores_of_the_command(broker: Broker, real_data, tmp_path):
    scorer = few_sizes(Scorer.load("published", weights_dir=real_data / "acai_h5"))
    paths = sorted((real_data / "alerts").glob("*.avro"))
    messages = [path.read_bytes() for path in paths]
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, messages)
    run(scorer, settings(broker, tmp_path, topic, preset="kowalski"))
    table = scan_tables(tmp_path).collect().sort("candid")
    expected = scorer.score(paths, "kowalski").unique("candid").sort("candid")
    assert table["candid"].equals(expected["candid"])
    assert table["reason"].equals(expected["reason"])
    for name in "honvb":
        assert (table[f"acai_{name}"] - expected[f"acai_{name}"]).abs().max() < 1e-6


def test_poison_duplicates_and_huge_messages(broker: Broker, scorer, tmp_path):
    """5 % poison, 10 % duplicates, one alert of 5 MB, one message of 5 MB that is none."""
    good = [alert(number) for number in range(120)]
    stamps = [{"fileName": "huge", "stampData": b"x" * 5_000_000}]
    big = avro_bytes(packet_record(1, candid=900, cutoutScience=stamps[0]))
    poison = [b"", b"Obj\x01", good[0][:5000], b"\x00\x00\x00\x00\x07LSST", b"{}", b"z" * 5_000_000]
    poison += [avro_bytes(), avro_bytes(packet_record(1), packet_record(2))]
    unscorable = [avro_bytes(packet_record(3, candid=901, scorr=None)), big]
    messages = [*good[:60], *poison, *good[:12], *unscorable, *good[60:]]
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, messages)
    first = run(scorer, settings(broker, tmp_path, topic, group="first"))
    assert counted(first) == {"consumed": 142, "scored": 120, "rejected": 10, "duplicates": 12}
    second = run(scorer, settings(broker, tmp_path, topic, group="second"))  # adds nothing
    assert counted(second) == {"consumed": 142, "scored": 0, "rejected": 0, "duplicates": 142}
    table = assert_scored(tmp_path, scorer, [*good, *unscorable])
    assert table.filter(pl.col("reason").is_not_null())["candid"].to_list() == [900, 901]
    dead = rejects(tmp_path)
    assert sorted(dead["raw"]) == sorted([*poison, *unscorable])
    assert dead["reason"].null_count() == 0
    assert sorted(dead["candid"].drop_nulls()) == [900, 901]
    sent = {(m.partition(), m.offset()): m.value() for m in broker.messages(topic)}
    for row in dead.iter_rows(named=True):
        assert sent[row["partition"], row["offset"]] == row["raw"]


def counted(metrics: Metrics) -> dict[str, int]:
    names = ("consumed", "scored", "rejected", "duplicates")
    return {name: int(metrics.total(f"{name}_total")) for name in names}


def test_one_poison_among_thousands_of_good_alerts(broker: Broker, scorer, tmp_path):
    sent = list(small_alerts(COUNT))
    topic = broker.create_topic(partitions=2)
    broker.produce(topic, [*sent[: COUNT // 2], overflowing(), *sent[COUNT // 2 :]])
    with Worker(scorer, settings(broker, tmp_path, topic, until_end=False)) as worker:
        wait_for(lambda: len(written(tmp_path)) == COUNT)
        broker.produce(topic, [alert(1)])  # and it goes on
        wait_for(lambda: len(written(tmp_path)) == COUNT + 1)
    table = scan_tables(tmp_path).collect()
    assert sorted(table["candid"]) == [1, *range(2**60, 2**60 + COUNT)]
    assert table["reason"].null_count() == COUNT + 1
    assert rejects(tmp_path)["raw"].to_list() == [overflowing()]
    assert sum(broker.committed(tmp_path.name).values()) == COUNT + 2
    assert worker.metrics is not None
    expected = {"consumed": COUNT + 2, "scored": COUNT + 1, "rejected": 1, "duplicates": 0}
    assert counted(worker.metrics) == expected


def test_messages_that_once_stopped_the_stream_or_got_false_reasons(
    broker: Broker, scorer, cases, tmp_path
):
    names = ("packets/length_overflow.avro", "kafka/babamul_light.bin")
    names += ("kafka/zeros_then_schemaless_fink.bin", "kafka/ztf_behind_a_registry.bin")
    bad = [(cases / name).read_bytes() for name in names]
    good = [alert(number) for number in range(10)]
    topic = broker.create_topic()
    broker.produce(topic, [*good[:5], *bad, *good[5:]])
    run(scorer, settings(broker, tmp_path, topic))
    table = scan_tables(tmp_path).collect()
    assert table.filter(pl.col("reason").is_null())["candid"].to_list() == list(range(10))
    dead = rejects(tmp_path)
    assert dead["raw"].to_list() == bad
    assert not dead["reason"].str.contains("LSST").any()
    light = dead.row(1, named=True)
    assert light["candid"] is not None
    assert "cutoutScience" in light["reason"]
    assert broker.committed(tmp_path.name) == {(topic, 0): 14}


def test_a_reject_is_never_there_already(broker: Broker, scorer, tmp_path):
    """In table, filters and topics, an alert with its scores stands at the end."""

    def light(number: int) -> bytes:
        return avro_bytes(packet_record(number, candid=number, cutoutScience=None))

    topic, scores = broker.create_topic(), broker.create_topic()
    every = tmp_path / "filters.toml"
    every.write_text("[every]\nwhere = 'acai_h >= 0'")
    given = {"to_topic": scores, "filters": ("every",), "filters_file": every, "batch_size": 1}
    broker.produce(topic, [light(1), light(2), alert(1), light(1)])
    metrics = run(scorer, settings(broker, tmp_path, topic, **given))
    assert counted(metrics) == {"consumed": 4, "scored": 1, "rejected": 3, "duplicates": 0}
    assert metrics.value("upgraded_total") == 1
    found = scan_tables(tmp_path).sort("candid").collect()
    assert found["candid"].to_list() == [1, 2]
    assert found["reason"].is_null().to_list() == [True, False]
    assert scan_tables(tmp_path / "filters" / "every").collect()["candid"].to_list() == [1]
    sent = [decoded(message.value()) for message in broker.messages(scores)]
    assert [(m["candid"], m["reason"] is None) for m in sent] == [(1, False), (2, False), (1, True)]
    assert [decoded(m.value())["candid"] for m in broker.messages(f"{scores}_every")] == [1]
    Filter(table=tmp_path, where="jd > 0", include_unscored=True, out=tmp_path / "all.csv").run()
    assert sorted(pl.read_csv(tmp_path / "all.csv")["candid"]) == [1, 2]


def test_a_whole_copy_that_comes_later(broker: Broker, scorer, cases, tmp_path):
    names = ("first_without_science.avro", "second_whole.avro")
    first, second = ((cases / "packets" / name).read_bytes() for name in names)
    for batch_size in (1, 10):  # one after the other, and together
        topic, out = broker.create_topic(), tmp_path / str(batch_size)
        broker.produce(topic, [first, second])
        group = f"{tmp_path.name}{batch_size}"
        run(scorer, settings(broker, out, topic, batch_size=batch_size, group=group))
        assert_scored(out, scorer, [second])
        assert rejects(out)["raw"].to_list() == [first]


def test_weights_of_braai_that_come_later(broker: Broker, real_data, tmp_path):
    """The topic is read again: alerts without a drb now have scores, and are there once."""
    raw = avro_bytes(packet_record(1, candid=1, drb=None))
    topic = broker.create_topic()
    broker.produce(topic, [raw, alert(2)])
    without = few_sizes(Scorer(small_bank(), weights_dir=tmp_path / "nowhere"))
    run(without, settings(broker, tmp_path, topic))
    table = scan_tables(tmp_path).sort("candid").collect()
    assert table["reason"].is_null().to_list() == [False, True]
    with_braai = few_sizes(Scorer(small_bank(), weights_dir=real_data / "braai"))
    metrics = run(with_braai, settings(broker, tmp_path, topic, group=f"{tmp_path.name}_again"))
    assert counted(metrics) == {"consumed": 2, "scored": 1, "rejected": 0, "duplicates": 1}
    table = assert_scored(tmp_path, with_braai, [raw, alert(2)])
    assert table["drb_source"].to_list() == ["braai", "packet"]


def framed(number: int, schema: int) -> bytes:
    """As `alert`, in Confluent's framing."""
    record = packet_record(number % 50, candid=number)
    return b"\0" + schema.to_bytes(4, "big") + bare_avro(record)


def test_alerts_behind_a_registry(broker: Broker, scorer, tmp_path, monkeypatch, caplog):
    """Two schemas on one topic, a number that is none, and a registry that is away at first."""
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_RETRY_SECONDS", 0.01)
    topic = broker.create_topic()
    broker.produce(topic, [framed(number, 7 + number % 2) for number in range(20)])
    broker.produce(topic, [framed(99, 5)])
    with running_server() as server:
        server.missing = b'{"error_code": 40403}'
        for number in (7, 8):
            answer = {"schema": json.dumps({**SCHEMA, "doc": str(number)})}
            server.files[f"/schemas/ids/{number}"] = json.dumps(answer).encode()
        server.faults = ["503"] * 5
        run(
            scorer,
            settings(broker, tmp_path, topic),
            ACAI_JAX_KAFKA_SCHEMA_REGISTRY_URL=server.url,
            ACAI_JAX_KAFKA_BASIC_AUTH_USER_INFO="me:hunter2",
        )
        assert sorted(set(server.paths)) == [f"/schemas/ids/{number}" for number in (5, 7, 8)]
        assert len(server.paths) == 5 + 3
        assert all(headers["authorization"].startswith("Basic ") for headers in server.requests)
    assert_scored(tmp_path, scorer, [alert(number) for number in range(20)])
    assert rejects(tmp_path)["reason"].to_list() == ["no schema: 5 is not in the registry"]
    assert broker.committed(tmp_path.name) == {(topic, 0): 21}
    assert len([text for text in caplog.messages if "waiting for the schema" in text]) == 1
    assert "hunter2" not in caplog.text


def test_a_stop_while_the_registry_is_away_loses_nothing(
    broker: Broker, scorer, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path / "cache"))
    topic = broker.create_topic()
    broker.produce(topic, [alert(1)])
    broker.produce(topic, [framed(2, 7)])
    broker.produce(topic, [alert(3)])
    given = {"batch_size": 1, "schema_registry": "http://127.0.0.1:9"}
    with Worker(scorer, settings(broker, tmp_path, topic, until_end=False, **given)):
        wait_for(lambda: "waiting for the schema registry" in caplog.text)
        wait_for(lambda: written(tmp_path) == [1])
    assert written(tmp_path) == [1]
    assert broker.committed(tmp_path.name) == {(topic, 0): 1}
    with running_server() as server:
        server.files["/schemas/ids/7"] = json.dumps({"schema": json.dumps(SCHEMA)}).encode()
        run(scorer, settings(broker, tmp_path, topic, schema_registry=server.url))
    assert_scored(tmp_path, scorer, [alert(number) for number in (1, 2, 3)])


def test_a_message_without_content_is_a_reject(broker: Broker, scorer, tmp_path):
    from confluent_kafka import Producer

    topic = broker.create_topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, value=None, key=b"deleted")
    assert producer.flush(20) == 0
    run(scorer, settings(broker, tmp_path, topic))
    assert rejects(tmp_path)["reason"].to_list() == ["empty message"]


def test_scores_go_to_a_topic_once_also_after_a_stop(broker: Broker, scorer, tmp_path):
    topic, scores = broker.create_topic(partitions=2), broker.create_topic()
    bright = tmp_path / "filters.toml"
    bright.write_text("[bright]\nwhere = 'magpsf < 10'")
    messages = [alert(number) for number in range(80)]
    broker.produce(topic, [*messages, *messages[:8]])
    given = {"to_topic": scores, "filters": ("bright",), "filters_file": bright, "batch_size": 10}
    with Worker(scorer, settings(broker, tmp_path, topic, until_end=False, **given)):
        wait_for(lambda: written(tmp_path))
    run(scorer, settings(broker, tmp_path, topic, **given))
    table = assert_scored(tmp_path, scorer, messages)
    found = [(m.key(), decoded(m.value())) for m in broker.messages(scores)]
    assert [key for key, _ in found] == [str(record["candid"]).encode() for _, record in found]
    records = {record["candid"]: record for _, record in found}
    assert len(found) == len(records) == 80
    for row in table.iter_rows(named=True):
        record = records[row["candid"]]
        assert record["objectId"] == row["objectId"]
        assert record["classifications"]["acai_h"] == row["acai_h"]
        assert record["classifications"]["acai_h_version"] == "test_h"
    passed = apply_filter(table, "magpsf < 10")
    assert 0 < len(passed) < 80
    expected = sorted(passed["candid"])
    bright_ones = [decoded(m.value()) for m in broker.messages(f"{scores}_bright")]
    assert sorted(record["candid"] for record in bright_ones) == expected
    kept = scan_tables(tmp_path / "filters" / "bright").collect()
    assert sorted(kept["candid"]) == expected
    assert sum(broker.committed(tmp_path.name).values()) == 88


def test_offsets_are_committed_where_nothing_is_sent(broker: Broker, scorer, tmp_path):
    topic, scores = broker.create_topic(), broker.create_topic()
    messages = [alert(number) for number in range(20)]
    broker.produce(topic, [*messages, *messages[:10]])  # the last batch has duplicates only
    run(scorer, settings(broker, tmp_path, topic, to_topic=scores, batch_size=10))
    assert len(broker.messages(scores)) == 20
    assert broker.committed(tmp_path.name) == {(topic, 0): 30 if broker.apache else 20}


def decoded(raw: bytes | None) -> dict:
    assert raw is not None
    (record,) = fastavro.reader(io.BytesIO(raw))
    assert isinstance(record, dict)
    return record


def test_standard_output_gets_a_line_of_json_for_each_alert(broker, scorer, tmp_path, capsys):
    topic = broker.create_topic()
    broker.produce(topic, [alert(1), alert(1), avro_bytes(packet_record(2, scorr=None))])
    odd = packet_record(3, magpsf=float("nan"), drb=float("inf"), fid=2**30)
    broker.produce(topic, [avro_bytes(odd)], timestamp=2**62)  # no date that Python has
    scores = broker.create_topic()
    run(scorer, settings(broker, tmp_path, topic, to_stdout=True, to_topic=scores))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [decoded(message.value()) for message in broker.messages(scores)]
    candids = [1, packet_record(2)["candid"], odd["candid"]]
    assert [line["candid"] for line in lines] == candids
    assert (lines[2]["magpsf"], lines[2]["drb"], lines[2]["fid"]) == (None, None, 2**30)
    assert lines[0]["classifications"]["acai_b"] == pytest.approx(0.5, abs=0.5)
    assert lines[1]["classifications"]["acai_b"] is None
    assert lines[1]["reason"] == "null feature: scorr"


def test_a_topic_that_is_not_there_is_an_error_when_it_was_named(broker, scorer, tmp_path):
    there = broker.create_topic()
    with pytest.raises(StreamError, match=r"no topic ztf_nowhere on 127\.0\.0\.1"):
        run(scorer, settings(broker, tmp_path, there, "ztf_nowhere"))


def test_the_nights_topics_are_waited_for_and_midnight_is_survived(
    broker: Broker, scorer, tmp_path, monkeypatch, caplog
):
    import datetime

    today = datetime.date(2031, 5, 1)
    monkeypatch.setattr(reader, "_today", lambda: today)
    with pytest.raises(StreamError, match="no topic ztf_20310430_programid1"):
        run(scorer, settings(broker, tmp_path))
    broker.produce("ztf_20310501_programid1", [alert(1)])
    with Worker(scorer, settings(broker, tmp_path, until_end=False)):
        wait_for(lambda: written(tmp_path) == [1])
        today = datetime.date(2031, 5, 2)
        broker.produce("ztf_20310502_programid1", [alert(2)])
        wait_for(lambda: len(written(tmp_path)) == 2)
        broker.produce("ztf_20310501_programid1", [alert(3)])  # late, after midnight
        wait_for(lambda: len(written(tmp_path)) == 3)
    waited = [r for r in caplog.messages if "waiting for topic ztf_20310430" in r]
    assert len(waited) == 1


def test_metrics_and_health(broker: Broker, scorer, tmp_path, caplog):
    caplog.set_level("INFO", "acai_jax.stream")
    topic = broker.create_topic()
    future = 4_000_000_000_000  # a message's clock, in the year 2096
    broker.produce(topic, [alert(1), alert(1), b"poison"], timestamp=future)
    broker.produce(topic, [avro_bytes(packet_record(4, candid=4, jd=2480000.5))])
    given = {"until_end": False, "metrics_port": 0, "filters": ("anomaly",)}
    with Worker(scorer, settings(broker, tmp_path, topic, **given)):
        wait_for(lambda: len(written(tmp_path)) == 2)
        (line,) = (text for text in caplog.messages if text.startswith("metrics on"))
        url = line.removeprefix("metrics on ")
        assert url.startswith("http://127.0.0.1:")
        wait_for(lambda: "consumed_total 4.0" in get(url))
        figures = get(url)
        for expected in (
            "acai_jax_stream_scored_total 2.0",
            'acai_jax_stream_rejected_total{reason="not an Avro container"} 1.0',
            "acai_jax_stream_duplicates_total 1.0",
            'acai_jax_stream_clock_skew_total{clock="message"} 1.0',
            'acai_jax_stream_clock_skew_total{clock="jd"} 1.0',
            "acai_jax_stream_latency_from_jd_seconds_count 2.0",
            "acai_jax_stream_latency_from_message_seconds_count 2.0",
            'acai_jax_stream_passed_total{filter="anomaly"}',
            "acai_jax_stream_lag 0.0",
        ):
            assert expected in figures, expected
        health = url.replace("/metrics", "/healthz")
        assert get(health) == "ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(url.replace("/metrics", "/"))


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_a_port_that_is_taken_is_a_clear_error(broker: Broker, scorer, tmp_path):
    port = broker.port
    with pytest.raises(StreamError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
        run(scorer, settings(broker, tmp_path, broker.create_topic(), metrics_port=port))


def test_mistakes_are_found_before_the_first_message(broker: Broker, scorer, tmp_path):
    topic = broker.create_topic()
    broker.produce(topic, [alert(1)])
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[wrong]\nwhere = 'acai_q > 1'")
    given = settings(broker, tmp_path, topic, filters=("wrong",), filters_file=wrong)
    with pytest.raises(FilterError, match="no column acai_q"):
        run(scorer, given)
    with pytest.raises(FilterError, match="no filter 'none'"):
        run(scorer, settings(broker, tmp_path, topic, filters=("none",)))
    given = settings(broker, tmp_path, topic)
    with pytest.raises(StreamError, match=r'No such configuration property: "sasl\.pasword"'):
        run(scorer, given, ACAI_JAX_KAFKA_SASL_PASWORD="hunter2")
    with pytest.raises(StreamError) as caught:
        run(
            scorer, given, ACAI_JAX_KAFKA_SECURITY_PROTOCOL="x", ACAI_JAX_KAFKA_SSL_KEY_PASSWORD="x"
        )
    assert "***" in str(caught.value)
    assert broker.committed(tmp_path.name) == {}


def test_brokers_that_are_not_there(scorer, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from acai_jax.stream import kafka

    monkeypatch.setattr(kafka, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(kafka, "_ANSWER_SECONDS", 0.3)
    nowhere = SimpleNamespace(bootstrap="127.0.0.1:9")
    with pytest.raises(StreamError, match=r"cannot reach 127\.0\.0\.1:9"):
        run(scorer, settings(nowhere, Path(tmp_path), "night"))
