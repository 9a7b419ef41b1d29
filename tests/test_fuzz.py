"""Damaged packets: each ends as a reject with a reason, or as sound arrays.

Hundreds in a usual run; more than ten thousand, `make fuzz`, where ACAI_JAX_FUZZ is set.
"""

import copy
import dataclasses
import gzip
import io
import json
import math
import os
import random
import resource
import sys
import tarfile

import fastavro
import numpy as np
import pytest

from acai_jax.alerts import avro
from acai_jax.alerts.packet import AlertPacket, packet_or_reject
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.sources import Encoded, decode, read_alerts
from acai_jax.errors import AvroError
from acai_jax.surveys.ztf import FEATURE_NAMES, ZTF
from tests.alerts.test_avro import block, head
from tests.alerts.test_sources import extended

ONE_IN = 1 if os.environ.get("ACAI_JAX_FUZZ") else 25
RSS_GROWTH = 400 * 2**20


@dataclasses.dataclass
class Original:
    raw: bytes
    record: dict
    packet: AlertPacket
    features: tuple
    prepared: dict
    regions: dict


@pytest.fixture(scope="module")
def originals(real_data):
    paths = sorted((real_data / "alerts").glob("*.avro"))
    assert len(paths) == 46
    return [original(path.read_bytes()) for path in paths]


def original(raw):
    (packet,) = decode(Encoded("original", raw))
    (record,) = avro.read_container(raw)
    body = avro.read_header(raw).size
    schema = raw.index(b"{")
    stamps = raw.index(packet.cutouts[0])
    regions = {
        "head": (0, schema + 40),
        "schema": (schema, body - 16),
        "framing": (body - 16, body + 60),
        "candidate": (body, body + 700),
        "histories": (body + 500, stamps),
        "cutouts": (stamps, len(raw)),
        "anywhere": (body, len(raw)),
    }
    prepared = {preset: prepare_alerts([packet], preset) for preset in ZTF.recipes}
    return Original(raw, record, packet, features_of(packet), prepared, regions)


def features_of(packet):
    return tuple(repr(packet.candidate.get(name)) for name in (*FEATURE_NAMES, "rb"))


def mutated(rng, raw, start, end):
    """One to four kinds of damage between `start` and `end`."""
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(start, min(end, len(raw))) if start < min(end, len(raw)) else 0
        length = min(rng.choice([1, 2, 4, 8, 20, 100, 1000]), max(end - at, 1))
        kind = rng.randrange(9)
        if kind == 0:
            del raw[at:]
        elif kind in (1, 2) and raw:
            for _ in range(rng.choice([1, 1, 3, 30])):
                at = rng.randrange(start, max(min(end, len(raw)), start + 1))
                if at < len(raw):
                    raw[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            raw[at : at + length] = bytes([rng.choice([0, 1, 2, 127, 128, 254, 255])]) * length
        elif kind == 4:
            raw[at : at + length] = rng.randbytes(length)
        elif kind == 5:
            raw[at:at] = rng.randbytes(length)
        elif kind == 6:
            del raw[at : at + length]
        elif kind == 7:
            raw[at:at] = raw[at : at + length]
        else:
            other = rng.randrange(max(len(raw) - length, 1))
            piece = raw[at : at + length]
            raw[at : at + length] = raw[other : other + length]
            raw[other : other + length] = piece
    return bytes(raw)


def check(source, alerts, preset):
    """Every alert has a reason or sound arrays; what is not damaged is as it was."""
    prepared = prepare_alerts(alerts, preset)
    columns = prepared.columns
    accepted = set(prepared.accepted.tolist())
    assert prepared.features.shape == (len(accepted), len(FEATURE_NAMES))
    assert prepared.triplets.shape == (len(accepted), 63, 63, 3)
    assert np.isfinite(prepared.triplets).all()
    assert np.isfinite(prepared.features[:, 1:]).all()
    for row, reason in enumerate(columns["reason"]):
        assert (reason is None) == (row in accepted)
        assert reason is None or (reason.strip() and "\n" not in reason)
    for row, drb in zip(prepared.accepted, prepared.features[:, 0], strict=True):
        assert math.isnan(drb) == (columns["drb_source"][row] == "braai")
    for name, column in columns.items():
        for value in column:
            if isinstance(value, str):
                value.encode()
            elif name in ZTF.integer_fields or name == "candid":
                assert value is None or (type(value) is int and -(2**63) <= value < 2**63)
            else:
                assert value is None or type(value) is float, name
    if len(alerts) == 1 and isinstance(alerts[0], AlertPacket) and source is not None:
        same = alerts[0].cutouts == source.packet.cutouts
        if same and features_of(alerts[0]) == source.features:
            expected = source.prepared[preset]
            np.testing.assert_array_equal(prepared.features, expected.features)
            np.testing.assert_array_equal(prepared.triplets, expected.triplets)
            assert columns["reason"] == expected.columns["reason"]
    return len(accepted), len(alerts) - len(accepted)


def peak_rss():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def fuzz(originals, count, seed, attempt):
    """Runs `attempt(rng, original) -> alerts` often, and guards its memory.

    Returns:
        The shares of alerts that were accepted, and that were rejected.
    """
    rng = random.Random(seed)
    outcomes = np.zeros(2, int)
    before = peak_rss()
    for _ in range(max(count // ONE_IN, 12)):
        source = rng.choice(originals)
        alerts = attempt(rng, source)
        outcomes += check(source, alerts, rng.choice([*ZTF.recipes]))
    assert peak_rss() - before < RSS_GROWTH
    return outcomes / outcomes.sum()


@pytest.mark.parametrize(
    ("region", "count"),
    [
        ("head", 500),
        ("schema", 700),
        ("framing", 1_000),
        ("candidate", 2_000),
        ("histories", 1_200),
        ("cutouts", 1_500),
        ("anywhere", 1_200),
    ],
)
def test_damaged_containers(originals, region, count):
    def attempt(rng, source):
        raw = mutated(rng, source.raw, *source.regions[region])
        alerts = list(decode(Encoded("damaged", raw), histories=rng.random() < 0.2))
        assert alerts or raw[source.regions["framing"][0] + 16 :] == b""
        return alerts

    accepted, rejected = fuzz(originals, count, f"containers {region}", attempt)
    assert rejected > 0.05
    assert accepted > (0 if region in ("schema", "candidate", "histories") else -1)


NESTED = ["array", "map", "record", "nullable"]
FLAT = {
    "long": lambda rng: rng.choice([0, -1, 63, 64, 2**63 - 1, -(2**63)]),
    "double": lambda rng: rng.choice([0.0, math.nan, -math.inf, 1e300]),
    "string": lambda rng: rng.choice(["", "é" * 70, "a" * 500]),
    "bytes": lambda rng: rng.randbytes(rng.choice([0, 1, 70, 500])),
    "boolean": lambda rng: rng.random() < 0.5,
    "null": lambda rng: None,
}


def invented(rng, name, depth=0):
    """(schema, value) of a field that no alert has."""
    kind = rng.choice([*FLAT, *NESTED] if depth < 3 else [*FLAT])
    if kind in FLAT:
        return kind, FLAT[kind](rng)
    if kind == "record":
        inner = [invented(rng, f"{name}_{i}", depth + 1) for i in range(rng.choice([1, 2, 7]))]
        fields = [{"name": f"x{i}", "type": schema} for i, (schema, _) in enumerate(inner)]
        schema = {"type": "record", "name": name, "fields": fields}
        return schema, {f"x{i}": value for i, (_, value) in enumerate(inner)}
    if kind == "nullable":
        flat = rng.choice(["long", "double", "string", "bytes"])
        return ["null", flat], rng.choice([None, FLAT[flat](rng)])
    schema, value = invented(rng, name, depth + 1)
    count = 0 if schema == "null" else rng.choice([0, 1, 3, 3 if depth else 300])
    if kind == "array":
        return {"type": "array", "items": schema}, [value] * count
    return {"type": "map", "values": schema}, {f"k{i}": value for i in range(count)}


def records_in(schema):
    """All definitions of records in a schema."""
    if isinstance(schema, list):
        return [found for branch in schema for found in records_in(branch)]
    if not isinstance(schema, dict):
        return []
    if schema["type"] != "record":
        return records_in(schema.get("items", schema["type"]))
    return [schema, *(found for field in schema["fields"] for found in records_in(field["type"]))]


def retyped(rng, schema):
    """Changes one type, of which the data knows nothing."""
    field = rng.choice(rng.choice(records_in(schema))["fields"])
    field.pop("default", None)
    field["type"] = rng.choice([*TYPES, "null", invented(rng, "changed")[0]])


def changed_together(rng, source):
    """Containers of one schema, which is changed with their data or without; additions are skipped.

    A new schema takes longer to compile than many records of it to read.
    """
    schema = json.loads(avro.read_header(source.raw).schema)
    science = dict(source.record["candidate"])
    record = dict(source.record, candidate=science)
    candidate = next(f["type"] for f in schema["fields"] if f["name"] == "candidate")
    if rng.random() < 0.4:  # a field that is not found under its name
        kind, values = rng.choice([(schema, record), (candidate, science)])
        field = rng.choice(kind["fields"])
        old, field["name"] = field["name"], rng.choice(["unknown", field["name"].upper()])
        values[field["name"]] = values.pop(old, None)
    for number in range(rng.choice([1, 1, 3])):
        kind, values = rng.choice([(schema, record), (candidate, science)])
        added, value = invented(rng, f"added{number}")
        field = {"name": f"added{number}", "type": added}
        kind["fields"].insert(rng.randrange(len(kind["fields"]) + 1), field)
        values[field["name"]] = value
    mark = rng.randbytes(9)
    schema["fields"].insert(rng.randrange(4), {"name": "mark", "type": "bytes"})
    record["mark"] = mark
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, copy.deepcopy(schema), record)
    body = buffer.getvalue()
    start = body.index(mark) - 1  # from the mark, itself skipped, to what stands next
    damaged = [
        mutated(rng, body, start, start + rng.choice([10, 40, 400, len(body)])) for _ in range(24)
    ]
    if rng.random() < 0.4:
        retyped(rng, schema)
    if rng.random() < 0.1:
        schema = [schema]
    return [head(schema) + block(1, data) for data in (body, *damaged)]


def test_schema_and_data_changed_together(originals):
    def attempt(rng, source):
        alerts = []
        for raw in changed_together(rng, source):
            for items in (avro.read_container(raw), avro.one_record_containers(raw)):
                assert all(isinstance(item, dict | tuple | AvroError) for item in items)
            found = list(decode(Encoded("changed", raw)))
            assert 1 <= len(found) <= 2
            alerts += found
        return alerts

    accepted, rejected = fuzz(originals, 400, "together", attempt)
    assert accepted > 0.05
    assert rejected > 0.05


def test_damaged_images(originals):
    """Damage inside a sound gzip stream: the FITS header, its pixels, or both."""

    def attempt(rng, source):
        cutouts = list(source.packet.cutouts)
        for channel in rng.sample(range(3), rng.choice([1, 1, 3])):
            raw = gzip.decompress(cutouts[channel])
            end = rng.choice([400, 400, 2880, len(raw)])
            raw = mutated(rng, raw, 0, end)
            cutouts[channel] = gzip.compress(raw, 1) if rng.random() < 0.8 else raw
        return [dataclasses.replace(source.packet, cutouts=tuple(cutouts))]

    accepted, rejected = fuzz(originals, 1_000, "images", attempt)
    assert accepted > 0.02
    assert rejected > 0.2


ODD_VALUES = [
    *(None, True, False, 0, -1, 2**31, 2**63, -(2**63), 10**30, 10**400),
    *(0.5, math.nan, math.inf, -math.inf, 1e39, 1e300, -999.0, 5e-324),
    *("", "t", "1", "-999", "\ud800", "\0", "long " * 1000, b"", b"\x1f\x8b", b"x" * 99),
    *([], [1], [[]], {}, {"stampData": b""}, {"stampData": None}, {"stampData": 5}, ()),
]


def with_odd_values(rng, record):
    record = dict(record, candidate=dict(record["candidate"]))
    for _ in range(rng.choice([1, 1, 2, 5])):
        target = record if rng.random() < 0.4 else record["candidate"]
        if not isinstance(target, dict) or not target:
            continue
        name = rng.choice(list(target))
        if rng.random() < 0.15:
            del target[name]
        else:
            target[name] = rng.choice(ODD_VALUES)
        if not isinstance(record.get("candidate"), dict):
            break
    return record


def test_odd_values_in_records(originals):
    def attempt(rng, source):
        return [packet_or_reject(with_odd_values(rng, source.record), "odd")]

    accepted, rejected = fuzz(originals, 1_500, "values", attempt)
    assert accepted > 0.02
    assert rejected > 0.2


TYPES = [
    *("string", "bytes", "boolean", "int", "long", "float", "double"),
    *(["null", "double"], ["string", "null"], {"type": "array", "items": "float"}),
]
VALUES = {"string": "-999", "bytes": b"-999", "boolean": True}


def test_wrong_types_in_the_schema(originals):
    """Sound containers of another schema: fields have other types, or are not there."""

    def attempt(rng, source):
        schema = json.loads(avro.read_header(source.raw).schema)
        record = {k: v for k, v in source.record.items() if k not in ("prv_candidates", "fp_hists")}
        record["candidate"] = dict(record["candidate"])
        schema["fields"] = [f for f in schema["fields"] if f["name"] in record]
        candidate = next(f for f in schema["fields"] if f["name"] == "candidate")
        fields = candidate["type"]["fields"]
        for field in rng.sample(fields, rng.choice([1, 3])):
            kind = copy.deepcopy(rng.choice(TYPES))
            field.pop("default", None)
            field["type"] = kind
            if isinstance(kind, dict):
                value = [1.0]
            else:
                name = kind if isinstance(kind, str) else rng.choice(kind)
                value = None if name == "null" else VALUES.get(name, 7)
            record["candidate"][field["name"]] = value
        buffer = io.BytesIO()
        fastavro.writer(buffer, schema, [record], codec=rng.choice(["null", "deflate", "snappy"]))
        alerts = list(decode(Encoded("retyped", buffer.getvalue())))
        assert len(alerts) == 1
        return alerts

    accepted, rejected = fuzz(originals[::6], 150, "types", attempt)
    assert accepted
    assert rejected


def test_damaged_json(originals, tmp_path):
    """Swapped types and damaged text, one document or several in a file."""
    path = tmp_path / "a.json"
    sample = originals[::6]
    texts = {id(source): extended(source.record) for source in sample}
    tokens = [b"null", b"[]", b"{}", b"NaN", b"-Infinity", b"1e999", b'"x"', b"true", b"9" * 30]

    def attempt(rng, source):
        text = texts[id(source)]
        for _ in range(rng.choice([1, 2])):
            if rng.random() < 0.5:  # replace one value
                at = text.find(b": ", rng.randrange(len(text)))
                end = min(
                    (i for i in (text.find(c, at) for c in (b",", b"}")) if i > 0), default=at
                )
                text = text[: at + 2] + rng.choice(tokens) + text[end:] if at >= 0 else text
            else:
                text = mutated(rng, text, 0, len(text))
        path.write_bytes(b"{" + text[1:] + b"\n" + texts[id(source)])
        return list(read_alerts(path))

    accepted, rejected = fuzz(sample, 400, "json", attempt)
    assert accepted > 0.2  # the second line is sound
    assert rejected


def test_damaged_archives(originals, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, source in enumerate(originals[:3]):
            member = tarfile.TarInfo(f"{'é' * number}{number}.avro")
            member.size = len(source.raw)
            archive.addfile(member, io.BytesIO(source.raw))
    sound = buffer.getvalue()
    zipped = gzip.compress(sound, 1)
    path = tmp_path / "a.tar"

    def attempt(rng, _):
        if rng.random() < 0.3:
            raw = mutated(rng, zipped, 20, len(zipped))
        else:  # the headers, mostly; with a sum that is right
            at = rng.choice([sound.index(b"ustar", i * 60_000) - 257 for i in range(3)])
            raw = bytearray(mutated(rng, sound, at, at + 512))
            if rng.random() < 0.7 and len(raw) >= at + 512:
                raw[at + 148 : at + 156] = b" " * 8
                raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])
        path.write_bytes(b"\x1f\x8b" + raw[2:] if raw[:2] == zipped[:2] else raw)
        return [*read_alerts([path, path])]

    accepted, rejected = fuzz(originals[:1], 200, "archives", attempt)
    assert accepted
    assert rejected


def test_damaged_parquet(originals, real_data, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table = parquet.read_table(real_data / "fink_alerts.parquet").slice(0, 2)
    parquet.write_table(table, path, compression="none")
    sound = path.read_bytes()

    def attempt(rng, _):
        raw = mutated(rng, sound, 4, len(sound) - 8)
        path.write_bytes(raw if rng.random() < 0.5 else raw[:-8] + sound[-8:])
        return [*read_alerts([path, path])]

    accepted, rejected = fuzz(originals[:1], 60, "parquet", attempt)
    assert accepted
    assert rejected
