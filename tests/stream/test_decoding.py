"""Messages -> alerts: the schema inside, beside the message, or in a registry; walls around all."""

import json
from typing import Any

import pytest
from confluent_kafka import Message
from server import running_server
from synthetic import SCHEMA, avro_bytes, bare_avro, packet_record

from acai_jax.alerts.avro import read_header
from acai_jax.alerts.packet import AlertPacket
from acai_jax.errors import Reject
from acai_jax.simulate.schema402 import alert_schema
from acai_jax.stream import decoding
from acai_jax.stream.decoding import decode_message
from acai_jax.stream.registry import SchemaRegistry


def message(value: bytes | None, key: bytes | None = None, **more: Any) -> Message:
    return Message(topic="night", partition=0, offset=7, value=value, key=key, **more)


def reject(value: bytes | None, key: bytes | None = None, **more: Any) -> Reject:
    found = decode_message(message(value, key, **more))
    assert isinstance(found, Reject)
    assert found.origin == "night/0/7"
    return found


def alert(found: AlertPacket | Reject) -> AlertPacket:
    assert isinstance(found, AlertPacket), found
    return found


def test_the_schema_may_stand_in_the_key_or_in_a_header():
    raw, schema = bare_avro(packet_record(3)), json.dumps(SCHEMA).encode()
    inside = alert(decode_message(message(avro_bytes(packet_record(3)))))
    for beside in ({"key": schema}, {"headers": [("x", None), ("schema", schema)]}):
        found = alert(decode_message(message(raw, **beside)))
        assert (found.candid, found.objectId) == (inside.candid, inside.objectId)
        assert found.cutouts == inside.cutouts
        assert found.candidate == inside.candidate
    # a key of another kind is none of our business
    assert alert(decode_message(message(avro_bytes(packet_record(3)), b'{"id": 1}'))) is not None


def test_without_a_schema_the_reason_says_where_it_was_looked_for():
    framed = b"\0\0\0\0\x11" + bare_avro(packet_record(3))
    assert reject(framed).reason == (
        "no schema: neither in the message nor in its key or headers; in Confluent's framing, "
        "it is schema 17 of a registry: --schema-registry"
    )
    assert reject(None).reason == "empty message"


def test_a_key_that_is_a_damaged_schema_is_a_reject():
    raw = bare_avro(packet_record(3))
    for schema in (b'{"fields": [', b'{"type": "record", "fields": 7}', b'["fields"]'):
        assert reject(raw, schema).reason
    cut = reject(raw[:300], json.dumps(SCHEMA).encode())
    assert "truncated Avro" in cut.reason


def fink_schema() -> dict[str, Any]:
    """What Fink makes of ZTF's schema: everything may be null, every real number is a double."""

    def nullable(field: dict[str, Any]) -> dict[str, Any]:
        kind = field["type"] if isinstance(field["type"], str) else field["type"][0]
        kind = kind if kind != "null" else field["type"][1]
        return {"name": field["name"], "type": ["double" if kind == "float" else kind, "null"]}

    def record(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "record", "name": name, "fields": fields}

    (candidate,) = (f for f in alert_schema()["fields"] if f["name"] == "candidate")
    fields = [nullable(field) for field in candidate["type"]["fields"]]
    stamp = [
        nullable({"name": n, "type": t})
        for n, t in (("fileName", "string"), ("stampData", "bytes"))
    ]
    cutouts = [
        {"name": name, "type": [record(name, stamp), "null"]}
        for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    ]
    return record(
        "fink",
        [
            *(
                nullable({"name": n, "type": t})
                for n, t in (("objectId", "string"), ("candid", "long"))
            ),
            {"name": "candidate", "type": [record("candidate", fields), "null"]},
            *cutouts,
            nullable({"name": "cdsxmatch", "type": "string"}),
        ],
    )


def test_a_message_of_fink(cases):
    raw = (cases / "kafka" / "zeros_then_schemaless_fink.bin").read_bytes()
    found = alert(decode_message(message(raw, json.dumps(fink_schema()).encode())))
    assert (found.objectId, found.candid) == ("ZTF18aamyaaj", 1704217901015015001)
    assert found.candidate["ndethist"] == 1108
    assert all(stamp and stamp.startswith(b"\x1f\x8b") for stamp in found.cutouts)
    refused = reject(raw, b"1.0_0.7.0")
    assert refused.kind == "no schema"
    assert "LSST" not in refused.reason


def test_an_alert_behind_a_registry(cases, tmp_path, monkeypatch):
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path))
    raw = (cases / "kafka" / "ztf_behind_a_registry.bin").read_bytes()
    assert "schema 17 of a registry" in reject(raw).reason
    schema = read_header((cases / "packets" / "second_whole.avro").read_bytes()).schema
    with running_server() as server:
        server.files["/schemas/ids/17"] = json.dumps({"schema": schema.decode()}).encode()
        found = alert(decode_message(message(raw), SchemaRegistry(server.url)))
    assert (found.objectId, found.schemavsn) == ("ZTF18aawznqy", "3.3")


@pytest.mark.parametrize(
    "error",
    [OverflowError("n"), MemoryError(), RecursionError("deep"), KeyError("x"), AssertionError()],
)
def test_whatever_a_decoder_raises_is_a_reject(monkeypatch, error):
    def failing(*_: object, **__: object) -> None:
        raise error

    for name in ("decode", "_schema_beside"):
        with monkeypatch.context() as patch:
            patch.setattr(decoding, name, failing)
            raw = b"\0" if name == "_schema_beside" else avro_bytes(packet_record(1))
            assert reject(raw).reason.startswith(f"internal error: {type(error).__name__}")


def test_an_overflow_of_a_length_is_a_reject(cases):
    assert reject((cases / "packets" / "length_overflow.avro").read_bytes()).reason
