import io
import json
import lzma
import mmap
import subprocess
import sys
import zlib
from pathlib import Path

import fastavro
import pytest
import zstandard
from synthetic import avro_bytes, packet_record

from acai_jax.alerts import avro
from acai_jax.alerts.packet import wanted_fields
from acai_jax.errors import AvroError

SYNC = b"0123456789abcdef"


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def text(value):
    return varint(len(value)) + value


def head(schema, codec=b"null"):
    schema = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    meta = varint(2) + text(b"avro.schema") + text(schema) + text(b"avro.codec") + text(codec)
    return avro.MAGIC + meta + b"\x00" + SYNC


def block(count, data):
    return varint(count) + varint(len(data)) + data + SYNC


def record(*types, **more):
    fields = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(types)]
    return {"type": "record", "name": "r", "fields": fields, **more}


def container(schema, *records, **options):
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, records, **options)
    return buffer.getvalue()


def deflated(data):
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def one(schema, data, wanted=None):
    """The single record of a hand-made container."""
    (result,) = avro.read_container(head(schema) + block(1, data), wanted)
    return result


def problems(raw):
    return [r for r in avro.read_container(raw) if isinstance(r, AvroError)]


def limited(call, most=1_000_000, *, of="avro"):
    """Calls it, and fails once files of such a name, or code they compile, run too many lines."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if of not in Path(frame.f_code.co_filename).name:
            return None
        lines += event == "line"
        if lines > most:
            pytest.fail(f"more than {most} lines")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)


# --- the same as fastavro ----------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [None, wanted_fields(False), wanted_fields(True)])
def test_real_packets_read_as_fastavro_reads_them(real_data, wanted):
    paths = sorted((real_data / "alerts").glob("*.avro"))
    assert paths
    for path in paths:
        raw = path.read_bytes()
        expected = [
            {name: value for name, value in r.items() if wanted is None or name in wanted}
            for r in fastavro.reader(io.BytesIO(raw))
        ]
        assert repr(list(avro.read_container(raw, wanted))) == repr(expected), path


CODECS = ["null", "deflate", "snappy", "bzip2", "xz"]  # fastavro's zstandard needs a package


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("interval", [1, 150_000, 10**8])
def test_codecs_and_block_sizes(codec, interval):
    records = [packet_record(i) for i in range(5)]
    raw = avro_bytes(*records, codec=codec, interval=interval)
    assert list(avro.read_container(raw)) == list(fastavro.reader(io.BytesIO(raw)))


# --- containers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("piece_bytes", [1, 100_000, 10**9])
def test_split_pieces_hold_the_same_records(codec, piece_bytes):
    raw = avro_bytes(*[packet_record(i) for i in range(7)], codec=codec, interval=1)
    pieces = list(avro.split_container(raw, piece_bytes))
    assert (len(pieces) == 1) == (piece_bytes == 10**9)
    again = [r for piece, _ in pieces for r in avro.read_container(piece)]
    assert again == list(avro.read_container(raw))
    assert [count for _, count in pieces] == [
        len(list(avro.read_container(piece))) for piece, _ in pieces
    ]


def test_split_of_a_mapped_file(tmp_path):
    raw = avro_bytes(*[packet_record(i) for i in range(3)], interval=1)
    path = tmp_path / "a.avro"
    path.write_bytes(raw)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert list(avro.split_container(mapped, 1)) == list(avro.split_container(raw, 1))
        assert list(avro.read_container(mapped)) == list(avro.read_container(raw))


def test_container_without_records():
    empty = head(record("long"))
    assert list(avro.read_container(empty)) == []
    assert list(avro.split_container(empty, 10)) == [(empty, 0)]


def test_only_the_damaged_block_is_lost():
    schema = record("long")
    good = [block(1, varint(i)) for i in range(5)]
    for damaged in (
        good[2][:-1] + b"!",  # its sync marker
        varint(1) + varint(5000) + good[2][2:],  # its size
        varint(-1) + good[2][1:],  # its count
        b"\xff" * 11 + good[2],
        block(3, varint(2)),
        block(1, varint(2) + b"more"),
        block(10**9, varint(2)),
    ):
        raw = head(schema) + b"".join([*good[:2], damaged, *good[3:]])
        results = list(avro.read_container(raw))
        values = [r["f0"] for r in results if isinstance(r, dict)]
        assert [v for v in values if v != 2 and v != 3] == [0, 1, 4]
        assert any(isinstance(r, AvroError) for r in results)
        pieces = [piece for piece, _ in avro.split_container(raw, 1)]
        in_pieces = [r for piece in pieces for r in avro.read_container(piece)]
        kept = [r["f0"] for r in in_pieces if isinstance(r, dict)]
        assert [v for v in kept if v != 2 and v != 3] == [0, 1, 4]
        assert any(isinstance(r, AvroError) for r in in_pieces)


def test_lost_records_are_counted():
    (error,) = problems(head(record("string")) + block(3, text(b"\xff") * 3))
    assert str(error) == "damaged Avro: a string is not UTF-8 (2 more records lost with it)"


def test_every_truncation_is_an_error():
    raw = avro_bytes(packet_record(1))
    size = avro.read_header(raw).size
    for end in [*range(0, size, 37), *range(size + 1, len(raw), 501), len(raw) - 1]:
        results = list(avro.read_container(raw[:end]))
        assert results, end
        assert all(isinstance(r, AvroError) for r in results), end


# --- schemas that are unions -------------------------------------------------------------------

INNER = record("long", name="inner", namespace="ztf")
ALERT = record({"type": "array", "items": "ztf.inner"}, "string", name="alert", namespace="ztf")


@pytest.mark.parametrize("schema", [[INNER, ALERT], {"type": [INNER, ALERT]}])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_a_schema_may_be_a_union(schema, codec):
    rows = [{"f0": [{"f0": 5}], "f1": "a"}, {"f0": [], "f1": "b"}]
    raw = container([INNER, ALERT], {"f0": 9}, *rows, codec=codec)
    header = avro.read_header(raw)
    raw = raw.replace(text(header.schema), text(json.dumps(schema).encode()), 1)
    assert list(avro.read_container(raw)) == [{"f0": 9}, *rows]
    wanted = list(avro.read_container(raw, frozenset({"f1"})))
    assert wanted == [{}, {"f1": "a"}, {"f1": "b"}]

    cut = [piece for piece, _ in avro.one_record_containers(raw)]
    assert [list(avro.read_container(piece)) for piece in cut] == [
        [{"f0": 9}],
        *[[r] for r in rows],
    ]
    assert all(json.loads(avro.read_header(piece).schema) == schema for piece in cut)


def test_an_alert_schema_in_another_is_one():
    assert one({"type": {"type": record("long")}}, varint(3)) == {"f0": 3}


@pytest.mark.parametrize("branch", [varint(2), varint(-1), b"\x80\x01", b""])
def test_a_branch_that_the_union_has_not(branch):
    assert isinstance(one([INNER, ALERT], branch + varint(1)), AvroError)


@pytest.mark.parametrize("schema", [[], ["null", INNER], [INNER, "long"], [[INNER]]])
def test_unions_of_anything_but_records(schema):
    assert isinstance(one(schema, varint(0) + varint(1)), AvroError)


def test_alerts_whose_schema_is_split(cases):
    raw = (cases / "packets" / "schema_is_a_union.avro").read_bytes()
    records = list(avro.read_container(raw, wanted_fields(False)))
    assert [set(wanted_fields(False)) >= set(r) for r in records] == [True] * 4
    assert len({r["candid"] for r in records}) == 4
    assert all(r["candidate"]["jd"] > 2e6 for r in records)


def test_an_alert_in_zstandard(cases):
    plain = avro_bytes(packet_record(1))
    header = avro.read_header(plain)
    ((_, body),) = avro._blocks(plain, header)
    raw = head(header.schema, b"zstandard") + block(1, zstandard.compress(body)) * 2
    assert list(avro.read_container(raw)) == [*avro.read_container(plain)] * 2
    raw = (cases / "packets" / "codec_zstandard.avro").read_bytes()
    assert avro.read_header(raw).codec == "zstandard"
    assert all(len(r["cutoutScience"]["stampData"]) > 1000 for r in avro.read_container(raw))


# --- names and single records ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (record(name="ztf.alert"), "ztf.alert"),
        (record(name="alert", namespace="lsst.v11_0"), "lsst.v11_0.alert"),
        (record(name="a.alert", namespace="b"), "a.alert"),
        (record(name="alert"), "alert"),
        (record(name="alert", namespace=None), "alert"),
        ({"type": record(name="alert", namespace="ztf")}, "ztf.alert"),
        ([INNER, ALERT], "ztf.alert"),
        ({"type": [INNER, ALERT]}, "ztf.alert"),
        (record(name=5), None),
        ({"type": "enum", "name": "e", "symbols": []}, None),
        ([], None),
        (["long"], None),
        ("long", None),
        ({}, None),
        (b"no JSON", None),
        (b"[" * 100_000, None),
    ],
    ids=str,
)
def test_name_of_a_schemas_record(schema, name):
    assert (
        avro.record_name(schema if isinstance(schema, bytes) else json.dumps(schema).encode())
        == name
    )


def test_records_without_a_container():
    alert = packet_record(3)
    raw = avro_bytes(alert)
    header = avro.read_header(raw)
    ((_, body),) = avro._blocks(raw, header)
    assert avro.read_datum(header.schema, body) == next(fastavro.reader(io.BytesIO(raw)))
    wanted = wanted_fields(False)
    assert set(avro.read_datum(header.schema, body, wanted)) == set(alert) & wanted
    with pytest.raises(AvroError, match="2 bytes after the last record"):
        avro.read_datum(header.schema, body + b"ab")
    for end in range(0, len(body), 997):
        with pytest.raises(AvroError, match="truncated"):
            avro.read_datum(header.schema, body[:end])
    with pytest.raises(AvroError, match="not JSON"):
        avro.read_datum(b"no schema", body)


# --- whatever is raised ------------------------------------------------------------------------


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


RAISED = [
    ZeroDivisionError("by zero"),
    MemoryError(),
    RecursionError("deep"),
    SilentError(),
    KeyError(1),
]


def raising(error):
    def fail(*_):
        raise error

    return fail


def is_told(result, error):
    return isinstance(result, AvroError) and type(error).__name__ in str(result)


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("step", ["_header", "compile_schema", "read_long"])
def test_whatever_reading_the_head_raises_is_an_error_of_the_container(monkeypatch, error, step):
    raw = head(record("long")) + block(1, varint(1))
    monkeypatch.setattr(avro, step, raising(error))
    (result,) = avro.read_container(raw)
    assert is_told(result, error)
    (result,) = avro.one_record_containers(raw)
    assert is_told(result, error)
    if step == "compile_schema":
        with pytest.raises(AvroError, match=type(error).__name__):
            avro.read_datum(json.dumps(record("long")).encode(), varint(1))
    else:
        with pytest.raises(AvroError, match=type(error).__name__):
            list(avro.split_container(raw, 10))


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("step", ["decompress", "_framing", "read_record"])
def test_whatever_reading_a_block_raises_costs_that_block(monkeypatch, error, step):
    raw = head(record("long")) + b"".join(block(2, varint(i) * 2) for i in range(4))
    sound = avro.compile_schema(json.dumps(record("long")).encode())
    target = {"read_record": sound}.get(step) or getattr(avro, step)
    calls = 0

    def fails_once(*arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return target(*arguments)

    if step == "read_record":
        monkeypatch.setattr(avro, "compile_schema", lambda *_: fails_once)
    else:
        monkeypatch.setattr(avro, step, fails_once)
    results = list(avro.read_container(raw))
    lost = 1 if step == "read_record" else 2
    assert [r["f0"] for r in results if isinstance(r, dict)] == [
        value for value in [0, 0, 1, 1, 2, 2, 3, 3] if value != lost
    ]
    (problem,) = [r for r in results if not isinstance(r, dict)]
    assert is_told(problem, error)


# --- hostile bytes -----------------------------------------------------------------------------


def test_a_skipped_string_as_long_as_all_memory(cases):
    fields = {"type": "record", "name": "r", "fields": [{"name": "s", "type": "string"}]}
    fields["fields"].append({"name": "f", "type": "float"})
    for length in (2**63 - 1, 2**62, 2**40):
        assert "truncated" in str(one(fields, varint(length) + bytes(4), frozenset({"f"})))
    raw = (cases / "packets" / "length_overflow.avro").read_bytes()
    (error,) = avro.read_container(raw, wanted_fields(False))
    assert "truncated" in str(error)


def test_a_container_is_read_up_to_a_number_of_records(monkeypatch, cases):
    raw = (cases / "packets" / "many_records_claimed.avro").read_bytes()
    for read in (avro.read_container, avro.one_record_containers):
        results = list(read(raw))
        assert len(results) == avro.MAX_CONTAINER_ITEMS + 1
        assert str(results[-1]).startswith("too many records")
    monkeypatch.setattr(avro, "MAX_CONTAINER_ITEMS", 4)
    start = head(record("long"))
    for good in (3, 4):
        assert len(list(avro.read_container(start + block(good, bytes(good))))) == good
    damaged = start + block(2, bytes(1)) * 50
    assert len(list(avro.read_container(damaged))) == 5


def test_a_container_is_read_up_to_a_number_of_bytes(monkeypatch):
    monkeypatch.setattr(avro, "_MAX_CONTAINER_BYTES", 10_000)
    raw = container(record("bytes"), *[{"f0": bytes(999)}] * 90, codec="deflate", sync_interval=1)
    *records, error = avro.read_container(raw)
    assert len(records) == 10
    assert str(error).startswith("too large")


def test_records_without_bytes_cannot_be_millions():
    for schema in ({"type": "record", "name": "e", "fields": []}, record("null")):
        raw = head(schema) + block(2**40, b"") + block(2**40, b"x")
        assert len(limited(lambda raw=raw: problems(raw))) == 2


def test_a_schema_larger_than_any_alerts_is_refused():
    schema = json.dumps(record("long", doc="x" * 2**21)).encode()
    assert problems(head(schema) + block(1, b"\x02"))


def test_hostile_heads():
    for tail in (b"", varint(2**62), varint(-(2**62)) + varint(2**62), b"\xff" * 30, b"\x00"):
        assert limited(lambda tail=tail: problems(avro.MAGIC + tail))
    flood = avro.MAGIC + varint(-(2**62)) + b"\x00" * 2**20
    assert limited(lambda: problems(flood))


class Searched(bytes):
    """Bytes that count how many of them are searched for a marker."""

    count = 0

    def find(self, marker, start, end):
        Searched.count += end - start
        return super().find(marker, start, end)


def test_split_of_a_file_without_markers_is_not_quadratic():
    raw = Searched(head(record("long")) + b"\xff" * (2 * avro.MAX_BLOCK_BYTES + 5))
    assert len(list(avro.split_container(raw, 2**20))) == 3
    assert Searched.count <= len(raw)


def test_split_refuses_a_head_that_cannot_be_read():
    with pytest.raises(AvroError, match="magic"):
        list(avro.split_container(b"no container", 10))


BOMBS = """
import resource, sys
from pathlib import Path
import cramjam, zstandard
from acai_jax.stream.messages import alert_messages
from acai_jax.alerts.sources import read_alerts

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

files = sorted(Path(sys.argv[1]).iterdir())
before = peak()
for path in files:
    results = [*read_alerts(path), *read_alerts(path, histories=True), *alert_messages(path)]
    print(path.name, len(results), (peak() - before) // 1024, file=sys.stderr)
print((peak() - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_peak_memory_of_bombs(tmp_path):
    """In a process of its own, so that what decompressors take counts, too."""

    def save(name, schema, count, data, codec=b"deflate"):
        payload = {b"deflate": deflated, b"xz": lzma.compress, b"zstandard": zstandard.compress}
        raw = head(schema, codec) + block(count, payload[codec](data))
        (tmp_path / f"{name}.avro").write_bytes(raw)

    history = {"type": "array", "items": record("boolean", *["null"] * 99, name="h")}
    fields = [{"name": "prv_candidates", "type": history}, {"name": "objectId", "type": "string"}]
    alert = {"type": "record", "name": "r", "fields": fields}
    most = 64 * 2**20
    for codec in (b"deflate", b"xz", b"zstandard"):
        save(f"records_{codec.decode()}", record("boolean"), most, bytes(most), codec)
        save(f"more_{codec.decode()}", record("boolean"), most, bytes(most + 1), codec)
    save("array", alert, 1, varint(2**22) + bytes(2**22 + 1))
    wide = varint(19_000) + b"\x01" * 19_000 + b"\0" + text(b"x")
    save("allowed", alert, 9, wide * 9)
    texts = {"type": "array", "items": "string"}
    texts = {"type": "record", "name": "r", "fields": [{"name": "candidate", "type": texts}]}
    save("texts", texts, 1, varint(600_000) + text("é\U0001f600".encode()) * 600_000 + b"\0")
    long = {"type": "record", "name": "r", "fields": fields[1:]}
    save("long_text", long, 1, text(b"a" * (7 * 2**20) + "\U0001f600".encode()))
    command = [sys.executable, "-c", BOMBS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300 * 2**20, done.stderr
