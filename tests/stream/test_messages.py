import datetime
import io
import tarfile

import fastavro
import polars as pl
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import read_packet
from acai_jax.alerts.sources import read_alerts
from acai_jax.errors import PacketError, Reject
from acai_jax.stream.messages import Message, alert_messages, avro_message


def messages(path) -> list[Message | Reject]:
    return [message for message, _ in alert_messages(path)]


def contents(path) -> list[bytes]:
    return [message.content for message in messages(path) if isinstance(message, Message)]


def test_a_file_of_one_alert_comes_as_it_is(tmp_path):
    raw = avro_bytes(packet_record(3), codec="deflate")
    (tmp_path / "a.avro").write_bytes(raw)
    (message,) = messages(tmp_path)
    assert message.content == raw
    assert message.jd == packet_record(3)["candidate"]["jd"]


def test_members_of_an_archive_come_as_they_are_and_in_order(tmp_path):
    raws = [avro_bytes(packet_record(number)) for number in (2, 0, 1)]
    with tarfile.open(tmp_path / "night.tar.gz", "w:gz") as archive:
        for index, raw in enumerate(raws):
            member = tarfile.TarInfo(f"{index}.avro")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    assert contents(tmp_path / "night.tar.gz") == raws


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
@pytest.mark.parametrize("interval", [1, 10**6])
def test_a_container_of_several_alerts_is_cut_up(tmp_path, codec, interval):
    records = [packet_record(number) for number in range(5)]
    raw = avro_bytes(*records, codec=codec, interval=interval)
    (tmp_path / "night.avro").write_bytes(raw)
    cut = contents(tmp_path)
    whole = list(fastavro.reader(io.BytesIO(raw)))
    assert [next(iter(fastavro.reader(io.BytesIO(content)))) for content in cut] == whole
    # each record has the bytes that it had
    plain = avro_bytes(*records, interval=10**6)
    body = avro_bytes(records[2])
    start = body.index(records[2]["objectId"].encode())
    assert body[start:-16] in cut[2]
    assert body[start:-16] in plain


def test_a_container_larger_than_a_piece_is_cut_up_too(tmp_path):
    numbers = range(60)
    raw = avro_bytes(*(packet_record(number) for number in numbers), interval=1)
    assert len(raw) > 2 * 2**20
    (tmp_path / "night.avro").write_bytes(raw)
    read = [read_packet(content).candid for content in contents(tmp_path)]
    assert read == [packet_record(number)["candid"] for number in numbers]


def test_what_is_damaged_is_a_reject_and_the_rest_goes_on(tmp_path):
    raw = avro_bytes(*(packet_record(number) for number in range(3)), interval=1)
    sync = raw[-16:]
    starts = [raw.index(sync) + 16]
    starts.append(raw.index(sync, starts[0]) + 16)
    damaged = bytearray(raw)
    damaged[starts[1] - 20] ^= 0xFF
    damaged[starts[0] + 5 : starts[0] + 40] = bytes([0xFF]) * 35
    (tmp_path / "a.avro").write_bytes(damaged)
    (tmp_path / "b.avro").write_bytes(b"not Avro")
    (tmp_path / "c.avro").write_bytes(avro_bytes())
    (tmp_path / "d.avro").write_bytes(raw[: len(raw) // 2])
    found = messages(tmp_path)
    reasons = [(r.origin[-6:], r.kind) for r in found if isinstance(r, Reject)]
    assert reasons == [
        ("a.avro", "damaged Avro"),
        ("b.avro", "not an Avro container"),
        ("c.avro", "not one alert"),
        ("d.avro", "truncated Avro"),
    ]
    candids = [read_packet(m.content).candid % 1000 for m in found if isinstance(m, Message)]
    assert candids == [1, 2, 0]


def test_alerts_of_other_surveys_are_messages_too(tmp_path):
    (tmp_path / "a.avro").write_bytes(avro_message({"diaSourceId": 7}))
    (message,) = messages(tmp_path)
    assert isinstance(message, Message)
    assert message.jd is None


def test_parquet_and_json_become_avro_without_loss(tmp_path):
    records = [packet_record(number) for number in range(6)]
    pl.DataFrame(records).write_parquet(tmp_path / "night.parquet")
    found = [read_packet(content, histories=True) for content in contents(tmp_path)]
    expected = list(read_alerts(tmp_path, histories=True))
    assert [dict(p.candidate) for p in found] == [dict(p.candidate) for p in expected]
    assert [p.histories for p in found] == [p.histories for p in expected]
    assert [p.cutouts for p in found] == [p.cutouts for p in expected]
    assert [p.candid for p in found] == [record["candid"] for record in records]


def test_real_alerts_of_any_source_stay_what_they_are(real_data):
    assert contents(real_data / "alerts") == [
        path.read_bytes() for path in sorted((real_data / "alerts").glob("*.avro"))
    ]
    source = real_data / "fink_alerts.parquet"
    found = [read_packet(content, histories=True) for content in contents(source)]
    for ours, theirs in zip(found, read_alerts(source, histories=True), strict=True):
        # printed, because NaN is not equal to itself
        assert str(ours.candidate) == str(theirs.candidate)
        assert str(ours.histories) == str(theirs.histories)
        assert ours.cutouts == theirs.cutouts


def test_times_and_mixed_arrays_find_a_place():
    time = datetime.datetime(2020, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)
    record = {"t": time, "rows": [{"a": 1}, {"a": 2.5, "b": b"x"}, {}], "none": [], "flag": True}
    (back,) = fastavro.reader(io.BytesIO(avro_message(record)))
    assert back == {
        "t": 1_577_836_801_000_000,
        "rows": [{"a": 1, "b": None}, {"a": 2.5, "b": b"x"}, {"a": None, "b": None}],
        "none": [],
        "flag": True,
    }


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"candid": 2**63}, "alert_candid is no 64-bit integer"),
        ({"x": {"y": 1j}}, "alert_x_y is of type complex"),
        ({"a name": 1}, "a name"),
    ],
)
def test_what_avro_cannot_hold_is_refused(record, problem):
    with pytest.raises(PacketError, match=problem):
        avro_message(record)
