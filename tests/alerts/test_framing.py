"""Messages in Confluent's framing, kept as files."""

import json
import tarfile
from pathlib import Path

import pytest
from synthetic import SCHEMA, bare_avro, packet_record

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import read_alerts
from acai_jax.errors import Reject, SourceError
from acai_jax.stream.messages import Message, alert_messages


@pytest.fixture
def messages(tmp_path) -> Path:
    """Three framed messages, each of another schema, the last of which is not there."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "framed").mkdir()
    for number in (17, 18, 19):
        schema = json.dumps({**SCHEMA, "doc": str(number)})
        if number < 19:
            (tmp_path / "schemas" / f"{number}.json").write_text(schema)
        raw = b"\0" + number.to_bytes(4, "big") + bare_avro(packet_record(number))
        (tmp_path / "framed" / f"{number}.bin").write_bytes(raw)
    return tmp_path


def test_framed_messages_are_read_by_the_schemas_beside_them(messages):
    first, second, reject = read_alerts(messages)
    assert [packet_record(n)["candid"] for n in (17, 18)] == [first.alert_id, second.alert_id]
    assert isinstance(reject, Reject)
    assert reject.reason.endswith(f"no schema: 19.json is not in {messages / 'schemas'})")
    with pytest.raises(SourceError, match=r"schema id 19.*19\.json is not in"):
        list(read_alerts(messages / "framed" / "19.bin"))
    (messages / "framed" / "schemas").mkdir()  # beside them, it goes before the other
    assert all(isinstance(alert, Reject) for alert in read_alerts(messages))


def test_framed_messages_in_archives_and_damaged_ones(messages):
    whole = (messages / "framed" / "17.bin").read_bytes()
    (messages / "framed" / "17.bin").write_bytes(whole[:-5])
    (messages / "framed" / "18.bin").write_bytes(b"\0\0\0\0\0text")
    with tarfile.open(messages / "night.tar", "w") as tar:
        tar.add(messages / "framed", "framed")
    rejects = list(read_alerts(messages / "night.tar"))
    assert all(isinstance(each, Reject) for each in rejects)
    assert "truncated Avro" in rejects[0].reason
    assert "18.bin (its magic bytes are missing)" in rejects[1].reason
    assert "19.json is not in" in rejects[2].reason
    (messages / "framed" / "17.bin").write_bytes(whole)
    with tarfile.open(messages / "schemas" / "night.tar", "w") as tar:
        tar.add(messages / "framed" / "17.bin", "17.bin")
    (packet,) = read_alerts(messages / "schemas" / "night.tar")
    assert isinstance(packet, AlertPacket)
    assert packet.origin == f"{messages}/schemas/night.tar:17.bin"


def test_a_replay_sends_them_as_they_are(messages):
    *found, reject = (message for message, _ in alert_messages(messages))
    assert isinstance(reject, Reject)
    for number, message in zip((17, 18), found, strict=True):
        assert isinstance(message, Message)
        assert message.content == (messages / "framed" / f"{number}.bin").read_bytes()
        assert message.jd == packet_record(number)["candidate"]["jd"]
    whole = (messages / "framed" / "17.bin").read_bytes()
    (messages / "framed" / "17.bin").write_bytes(whole[:40])
    damaged, *_ = alert_messages(messages)
    assert isinstance(damaged[0], Reject)
