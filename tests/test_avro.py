import functools
import io
import json
import mmap
import time
import zlib

import fastavro
import pytest
from alerts import SCHEMA, avro_bytes, packet_record
from hypothesis import given, settings
from hypothesis import strategies as st

from acai_jax import avro, avro_schema
from acai_jax.errors import AvroError
from acai_jax.schema import HISTORIES

SYNC = b"0123456789abcdef"
wild = settings(derandomize=True, deadline=None, database=None)


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


def one(schema, data, skip=frozenset()):
    """The single record of a hand-made container."""
    (result,) = avro.read_container(head(schema) + block(1, data), skip)
    return result


def problems(raw):
    return [r for r in avro.read_container(raw) if isinstance(r, AvroError)]


# --- the same as fastavro ----------------------------------------------------------------------


@pytest.mark.parametrize("skip", [frozenset(), frozenset(HISTORIES)])
def test_real_packets_read_as_fastavro_reads_them(real_data, skip):
    paths = sorted((real_data / "alerts").glob("*.avro"))
    assert paths
    for path in paths:
        raw = path.read_bytes()
        expected = [
            {name: value for name, value in r.items() if name not in skip}
            for r in fastavro.reader(io.BytesIO(raw))
        ]
        assert repr(list(avro.read_container(raw, skip))) == repr(expected), path


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
@pytest.mark.parametrize("interval", [1, 150_000, 10**8])
def test_codecs_and_block_sizes(codec, interval):
    records = [packet_record(i) for i in range(5)]
    raw = avro_bytes(*records, codec=codec, interval=interval)
    assert list(avro.read_container(raw)) == list(fastavro.reader(io.BytesIO(raw)))


PRIMITIVES = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=70),
    "bytes": st.binary(max_size=70),
}


@st.composite
def schemas(draw, known, depth=0, in_union=False):
    """(schema, strategy of its values); `known` collects named types, some are named again."""
    kinds = [*PRIMITIVES, "fixed", "enum"]
    kinds += ["record", "floats", "array", "map", "again"] if depth < 3 else []
    kinds += ["nullable", "union"] if depth < 3 and not in_union else []
    kind = draw(st.sampled_from(kinds))
    below = functools.partial(schemas, known, depth + 1)
    if kind in PRIMITIVES:
        return draw(st.sampled_from([kind, {"type": kind}])), PRIMITIVES[kind]
    if kind == "again":
        named = [entry for entry in known.values() if entry]
        return draw(st.sampled_from(named)) if named and not in_union else ("long", st.just(7))
    if kind == "nullable":
        inner, values = draw(below(in_union=True))
        return draw(st.permutations(["null", inner])), st.none() | values
    if kind == "union":
        branches = draw(st.permutations(["null", "long", "string", "bytes"]))
        return branches, st.one_of(st.none(), *[PRIMITIVES[b] for b in branches if b != "null"])
    if kind == "array":
        item, values = draw(below())
        return {"type": "array", "items": item}, st.lists(values, max_size=6)
    if kind == "map":
        item, values = draw(below())
        return {"type": "map", "values": item}, st.dictionaries(st.text(max_size=5), values)

    name, space = f"t{len(known)}", draw(st.sampled_from([None, "a", "b.c"]))
    known[name] = None
    schema = {"type": kind, "name": name} | ({"namespace": space} if space else {})
    if kind == "fixed":
        size = schema["size"] = draw(st.integers(1, 9))
        values = st.binary(min_size=size, max_size=size)
    elif kind == "enum":
        schema["symbols"] = [f"s{i}" for i in range(draw(st.integers(1, 70)))]
        values = st.sampled_from(schema["symbols"])
    else:
        if kind == "record":
            fields = draw(st.lists(below(), min_size=1, max_size=4))
        else:  # a run of nullable numbers, as in a history
            nullable = draw(st.sampled_from([["float", "null"], ["null", "double"]]))
            value = st.none() | PRIMITIVES["float"]
            fields = [(nullable, value)] * draw(st.integers(1, 9))
        schema["type"] = "record"
        schema["fields"] = [{"name": f"f{i}", "type": t} for i, (t, _) in enumerate(fields)]
        values = st.fixed_dictionaries({f"f{i}": v for i, (_, v) in enumerate(fields)})
    if space:  # a name without a namespace means another type in another place
        known[name] = (f"{space}.{name}", values)
    return schema, values


@st.composite
def schemas_and_records(draw):
    known = {}
    fields = [draw(schemas(known)) for _ in range(draw(st.integers(1, 4)))]
    fields.append(("int", PRIMITIVES["int"]))
    schema = record(*[t for t, _ in fields])
    rows = st.fixed_dictionaries({f"f{i}": v for i, (_, v) in enumerate(fields)})
    return schema, draw(st.lists(rows, min_size=1, max_size=3)), len(fields)


@settings(wild, max_examples=300)
@given(schemas_and_records(), st.sampled_from(["null", "deflate", "snappy"]), st.data())
def test_random_schemas_read_as_fastavro_reads_them(case, codec, data):
    schema, records, width = case
    # fastavro remembers named types in the schema that it is given
    raw = container(json.loads(json.dumps(schema)), *records, codec=codec)
    expected = list(fastavro.reader(io.BytesIO(raw)))
    assert repr(list(avro.read_container(raw))) == repr(expected)

    skip = data.draw(st.sets(st.sampled_from([f"f{i}" for i in range(width)])))
    expected = [{k: v for k, v in row.items() if k not in skip} for row in expected]
    assert repr(list(avro.read_container(raw, frozenset(skip)))) == repr(expected)


@settings(wild, max_examples=200)
@given(schemas_and_records(), st.data())
def test_damaged_random_containers_end_quickly(case, data):
    schema, records, _ = case
    raw = bytearray(container(json.loads(json.dumps(schema)), *records))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    start = time.process_time()
    for result in avro.read_container(bytes(raw[: data.draw(st.integers(0, len(raw)))])):
        assert isinstance(result, dict | AvroError)
    assert time.process_time() - start < 2


# --- encodings that fastavro does not write ----------------------------------------------------

ARRAY = record({"type": "array", "items": "long"}, "long")
MAP = record({"type": "map", "values": "double"}, "long")


@pytest.mark.parametrize(
    "array",
    [
        varint(3) + varint(1) + varint(2) + varint(3) + b"\x00",
        varint(-3) + varint(3) + varint(1) + varint(2) + varint(3) + b"\x00",
        varint(2) + varint(1) + varint(2) + varint(-1) + varint(1) + varint(3) + b"\x00",
    ],
)
def test_array_blocks_with_and_without_sizes(array):
    assert one(ARRAY, array + varint(-5)) == {"f0": [1, 2, 3], "f1": -5}
    assert one(ARRAY, array + varint(-5), frozenset({"f0"})) == {"f1": -5}


def test_map_blocks_with_sizes():
    pairs = text(b"a") + bytes(8) + text(b"b") + bytes(8)
    data = varint(-2) + varint(len(pairs)) + pairs + b"\x00" + varint(9)
    assert one(MAP, data) == {"f0": {"a": 0.0, "b": 0.0}, "f1": 9}
    assert one(MAP, data, frozenset({"f0"})) == {"f1": 9}


def test_longest_numbers():
    for value in (2**63 - 1, -(2**63), 0, -1, 63, -64, 64, -65):
        assert one(record("long"), varint(value)) == {"f0": value}


def test_names_are_looked_up_in_their_namespace():
    inner = {"type": "fixed", "name": "t", "size": 1}
    schema = record(inner | {"namespace": "a"}, inner | {"namespace": "b", "size": 2}, "a.t", "b.t")
    got = one(schema, b"1" + b"22" + b"3" + b"44")
    assert got == {"f0": b"1", "f1": b"22", "f2": b"3", "f3": b"44"}
    nested = record(record(inner, "t", name="n", namespace="a"), "a.t")
    assert one(nested, b"123") == {"f0": {"f0": b"1", "f1": b"2"}, "f1": b"3"}


def test_union_of_sixty_four_branches():
    branches = [{"type": "fixed", "name": f"x{i}", "size": 1} for i in range(64)]
    assert one(record(branches), varint(63) + b"z") == {"f0": b"z"}


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
    assert list(avro.read_container(head(ARRAY))) == []
    assert list(avro.split_container(head(ARRAY), 10)) == [(head(ARRAY), 0)]


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


@pytest.mark.parametrize("codec", [b"bzip2", b"xz", b"zstandard", b"\xff"])
def test_unknown_codec_is_named(codec):
    (error,) = problems(head(record("long"), codec) + block(1, b"\x02"))
    assert "unknown Avro codec" in str(error)


def deflated(data):
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (b"deflate", b""),
        (b"deflate", b"not deflated"),
        (b"deflate", deflated(b"\x02" * 500)[:-2]),
        (b"deflate", deflated(bytes(avro.MAX_BLOCK_BYTES + 1))),
        (b"snappy", b""),
        (b"snappy", b"abc"),
        (b"snappy", b"not snappy at all"),
        (b"snappy", b"\xff\xff\xff\xff\x0f" + bytes(20)),  # claims 4 GiB
        (b"snappy", b"\x01\x00\x02" + b"crc!"),
    ],
)
def test_damaged_compression(codec, payload):
    assert problems(head(record("long"), codec) + block(1, payload))


# --- hostile bytes -----------------------------------------------------------------------------


def quickly(call, seconds=2.0):
    start = time.process_time()
    result = call()
    assert time.process_time() - start < seconds
    return result


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (record("long"), b"\x80" * 10 + b"\x01"),
        (record("long"), b"\xff" * 9 + b"\x7f"),
        (record("string"), varint(-1)),
        (record("string"), varint(2**62)),
        (record("bytes"), varint(5) + b"four"),
        (record("double"), bytes(7)),
        (record(["null", "long"]), varint(2)),
        (record(["null", "long"]), b"\x01"),
        (record({"type": "enum", "name": "e", "symbols": ["a"]}), varint(1)),
        (record({"type": "enum", "name": "e", "symbols": ["a"]}), varint(-1)),
        (record({"type": "fixed", "name": "x", "size": 9}), bytes(8)),
        (ARRAY, varint(2**62)),
        (ARRAY, varint(-(2**63))),
        (ARRAY, varint(-5) + varint(-5)),
        (ARRAY, varint(-5) + varint(2**40)),
        (MAP, varint(2) + text(b"\xff") + bytes(8)),
        (record({"type": "array", "items": "null"}), varint(2) + b"\x00"),
    ],
)
def test_hostile_values(schema, data):
    for skip in (frozenset(), frozenset({"f0"})):
        if skip and problems(head(schema) + block(1, data)):
            result = quickly(lambda: one(schema, data, frozenset({"f0"})))
            assert isinstance(result, AvroError | dict)
        else:
            assert isinstance(quickly(lambda: one(schema, data)), AvroError)


EMPTY_RECORD = {"type": "record", "name": "e", "fields": []}


@pytest.mark.parametrize(
    "item", ["null", EMPTY_RECORD, {"type": "fixed", "name": "x", "size": 0}, record("null")]
)
@pytest.mark.parametrize("skip", [frozenset(), frozenset({"f0"})])
def test_items_without_bytes_cannot_be_millions(item, skip):
    if isinstance(item, dict):
        item = item | {"name": "item"}
    blocks = varint(50_000) * 20_000 + b"\x00"  # a thousand million items in 60 kB
    schema = record({"type": "array", "items": item})
    assert isinstance(quickly(lambda: one(schema, blocks, skip)), AvroError)


def test_records_without_bytes_cannot_be_millions():
    for schema in (EMPTY_RECORD, record("null")):
        raw = head(schema) + block(2**40, b"") + block(2**40, b"x")
        assert len(quickly(lambda raw=raw: problems(raw))) == 2


@pytest.mark.parametrize("skip", [frozenset(), frozenset({"f0"})])
def test_deep_but_sound_arrays(skip):
    kind = "long"
    for _ in range(6):
        kind = {"type": "array", "items": kind}
    data = varint(1) * 6 + varint(7) + bytes(6)
    expected = {} if skip else {"f0": [[[[[[7]]]]]]}
    assert one(record(kind), data, skip) == expected


def laughs(levels):
    kind = {"type": "record", "name": "l0", "fields": [{"name": "a", "type": "long"}]}
    for level in range(1, levels):
        fields = [{"name": "a", "type": kind}]
        fields += [{"name": f"b{i}", "type": f"l{level - 1}"} for i in range(9)]
        kind = {"type": "record", "name": f"l{level}", "fields": fields}
    return kind


def nested(levels):
    return json.loads('{"type": "array", "items": ' * levels + '"long"' + "}" * levels)


HUGE = {"type": "enum", "name": "e", "symbols": ["abcdefgh"] * 50_000}
WIDE = record(*(["null", "int"], ["float", "null"]) * 10_000, name="w")
OFTEN = record(record(name="m"), *["m"] * 4_000)


@pytest.mark.parametrize("skip", [frozenset(), frozenset({"f0", "f1", "f2"})])
@pytest.mark.parametrize(
    "schema",
    [
        record({"type": "record", "name": "s", "fields": [{"name": "n", "type": ["null", "s"]}]}),
        record("r"),
        record(laughs(9)),
        record(nested(30)),
        record(nested(400)),
        record(HUGE, *["e"] * 3_000),
        record(WIDE, *["w"] * 3_000),
        record(["null"] * 100_000, *[["null", "e"]] * 10),
        record([HUGE, "null"], *[["e", "null"]] * 3_000),
        record({"type": "fixed", "name": "x", "size": 10**30}, "double"),
        record({"type": "fixed", "name": "x", "size": -4}),
        record({"type": "fixed", "name": "x", "size": "many"}),
        record({"type": "fixed", "name": "x", "size": float("inf")}),
        record({"type": "fixed", "name": "x", "size": float("nan")}),
        record({"type": "fixed", "name": "x", "size": None}),
        record([]),
        record({"type": {"type": "foo"}}),
        record(None),
        record(7),
        record({"type": "array"}),
        record({"type": "record", "name": 5, "fields": []}),
        {"type": "record", "name": "r"},
        {"type": "record", "name": "r", "fields": 5},
        {"type": "record", "name": "r", "fields": [5]},
        {"type": "record", "name": "r", "fields": [{"name": "a"}]},
        {"type": "record", "name": "r", "fields": [{"name": ["a"], "type": "long"}]},
        ["null", "long"],
        "long",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type": "record", "name": "r", "fields": [' + b"9" * 10_000,
    ],
    ids=lambda s: str(s)[:60] if not isinstance(s, frozenset) else f"skip{len(s)}",
)
def test_hostile_schemas(schema, skip):
    raw = head(schema) + block(1, b"\x00" * 50)
    (error,) = quickly(lambda: list(avro.read_container(raw, skip)))
    assert isinstance(error, AvroError)


def test_strange_names_stay_data():
    name = "'''\"\\\n) or exit(1) #\ud800\x00{v1}"
    schema = {"type": "record", "name": name, "fields": [{"name": name, "type": "long"}]}
    assert one(schema, varint(4)) == {name: 4}


def test_a_schema_larger_than_any_alerts_is_refused():
    schema = json.dumps(record("long", doc="x" * 2**21)).encode()
    assert problems(head(schema) + block(1, b"\x02"))


def test_hostile_heads():
    for tail in (b"", varint(2**62), varint(-(2**62)) + varint(2**62), b"\xff" * 30, b"\x00"):
        assert quickly(lambda tail=tail: problems(avro.MAGIC + tail))
    flood = avro.MAGIC + varint(-(2**62)) + b"\x00" * 2**20
    assert quickly(lambda: problems(flood))


def test_split_of_a_file_without_markers_is_not_quadratic():
    raw = head(record("long")) + b"\xff" * (2 * avro.MAX_BLOCK_BYTES + 5)
    pieces = quickly(lambda: list(avro.split_container(raw, 2**20)), 20)
    assert len(pieces) == 3


def test_split_refuses_a_head_that_cannot_be_read():
    with pytest.raises(AvroError, match="magic"):
        list(avro.split_container(b"no container", 10))


def test_schemas_are_compiled_once():
    schema = json.dumps(SCHEMA).encode()
    assert avro_schema.compile_schema(schema, frozenset()) is avro.compile_schema(
        schema, frozenset()
    )
