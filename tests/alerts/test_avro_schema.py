import functools
import io
import json

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import SCHEMA

from acai_jax.alerts import avro, avro_schema
from acai_jax.alerts.packet import wanted_fields
from acai_jax.errors import AvroError
from tests.alerts.test_avro import (
    CODECS,
    SilentError,
    block,
    container,
    head,
    limited,
    one,
    problems,
    record,
    text,
    varint,
)

# --- the same as fastavro ----------------------------------------------------------------------

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


@settings(max_examples=300)
@given(schemas_and_records(), st.sampled_from(CODECS), st.data())
def test_random_schemas_read_as_fastavro_reads_them(case, codec, data):
    schema, records, width = case
    # fastavro remembers named types in the schema that it is given
    raw = container(json.loads(json.dumps(schema)), *records, codec=codec)
    expected = list(fastavro.reader(io.BytesIO(raw)))
    assert repr(list(avro.read_container(raw))) == repr(expected)

    wanted = data.draw(st.frozensets(st.sampled_from([f"f{i}" for i in range(width)])))
    names = named_types(schema)
    kinds = {field["name"]: field["type"] for field in schema["fields"]}
    expected = [
        {name: flat(kinds[name], value, names) for name, value in row.items() if name in wanted}
        for row in expected
    ]
    assert repr(list(avro.read_container(raw, wanted))) == repr(expected)


def named_types(schema):
    """{full name: schema} of the types that have a namespace of their own."""
    if isinstance(schema, list):
        return functools.reduce(dict.__or__, map(named_types, schema), {})
    if not isinstance(schema, dict):
        return {}
    inner = [
        *(f["type"] for f in schema.get("fields", [])),
        schema.get("items", schema.get("values")),
    ]
    own = {f"{schema['namespace']}.{schema['name']}": schema} if "namespace" in schema else {}
    return own | named_types(inner)


def is_nested(schema, names):
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return any(is_nested(branch, names) for branch in schema)
    return isinstance(schema, dict) and schema["type"] in ("record", "array", "map")


def flat(schema, value, names):
    """The value, of whose records only the fields are left that hold no further ones."""
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        inner = [branch for branch in schema if is_nested(branch, names)]
        return flat(inner[0], value, names) if inner and value is not None else value
    if not is_nested(schema, names):
        return value
    if schema["type"] == "array":
        return [flat(schema["items"], item, names) for item in value]
    if schema["type"] == "map":
        return {key: flat(schema["values"], item, names) for key, item in value.items()}
    kept = (f["name"] for f in schema["fields"] if not is_nested(f["type"], names))
    return {name: value[name] for name in kept}


@settings(max_examples=200)
@given(schemas_and_records(), st.data())
def test_damaged_random_containers_end_soon(case, data):
    schema, records, _ = case
    raw = bytearray(container(json.loads(json.dumps(schema)), *records))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for result in avro.read_container(raw):
        assert isinstance(result, dict | AvroError)


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
    assert one(ARRAY, array + varint(-5), frozenset({"f1"})) == {"f1": -5}


def test_map_blocks_with_sizes():
    pairs = text(b"a") + bytes(8) + text(b"b") + bytes(8)
    data = varint(-2) + varint(len(pairs)) + pairs + b"\x00" + varint(9)
    assert one(MAP, data) == {"f0": {"a": 0.0, "b": 0.0}, "f1": 9}
    assert one(MAP, data, frozenset({"f1"})) == {"f1": 9}


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


# --- hostile bytes -----------------------------------------------------------------------------


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
    assert isinstance(limited(lambda: one(schema, data)), AvroError)
    skipped = limited(lambda: one(schema, data, frozenset()))
    assert isinstance(skipped, AvroError) or skipped == {}


EMPTY_RECORD = {"type": "record", "name": "e", "fields": []}


@pytest.mark.parametrize(
    "item", ["null", EMPTY_RECORD, {"type": "fixed", "name": "x", "size": 0}, record("null")]
)
@pytest.mark.parametrize("wanted", [None, frozenset()])
def test_items_without_bytes_cannot_be_millions(item, wanted):
    if isinstance(item, dict):
        item = item | {"name": "item"}
    blocks = varint(50_000) * 20_000 + b"\x00"  # a thousand million items in 60 kB
    schema = record({"type": "array", "items": item}, "long")
    assert isinstance(limited(lambda: one(schema, blocks, wanted)), AvroError)
    empty = one(schema, b"\x00" + varint(7), wanted)
    assert empty == ({"f0": [], "f1": 7} if wanted is None else {})


@pytest.fixture
def compiled_anew():
    avro_schema.compile_schema.cache_clear()
    yield
    avro_schema.compile_schema.cache_clear()


def bombs():
    """(type, its bytes): few bytes that make, or step over, more values than the budget has."""
    wide = record("boolean", *["null"] * 99, name="wide")
    array = {"type": "array", "items": wide}
    yield array, varint(300) + bytes(301)
    yield array, varint(-300) + varint(300) + bytes(301)
    yield array, (varint(10) + bytes(10)) * 30 + b"\0"
    pairs = text(b"") + b"\0"
    yield {"type": "map", "values": wide}, varint(300) + pairs * 300 + b"\0"
    rows = varint(30) + (varint(10) + bytes(11)) * 30 + b"\0"
    yield {"type": "array", "items": array}, rows
    yield record(array, name="inside"), varint(300) + bytes(301)
    yield ["null", array], varint(1) + varint(300) + bytes(301)


@pytest.mark.parametrize("wanted", [None, frozenset({"f0"}), frozenset({"f1"})])
@pytest.mark.parametrize(("kind", "data"), [*bombs()])
def test_values_of_a_record_have_a_budget(kind, data, wanted, monkeypatch, compiled_anew):
    monkeypatch.setattr(avro_schema, "_MAX_VALUES", 20_000)
    schema = record(kind, "long")
    result = limited(lambda: one(schema, data + varint(5), wanted))
    assert "more than 20000 values" in str(result)


def test_a_history_of_ten_thousand_rows_is_within_the_budget():
    row = record(*[["null", "float"]] * 30, "long", name="row")
    schema = record({"type": "array", "items": row}, "long")
    rows = varint(10_000) + (varint(0) * 30 + varint(3)) * 10_000 + b"\0"
    assert one(schema, rows + varint(5), frozenset({"f1"})) == {"f1": 5}
    assert len(one(schema, rows + varint(5))["f0"]) == 10_000


def test_an_array_that_unfolds(cases):
    raw = (cases / "packets" / "skipped_array_bomb.avro").read_bytes()
    for wanted in (None, wanted_fields(False)):
        (error,) = limited(lambda wanted=wanted: list(avro.read_container(raw, wanted)))
        assert "more than 2000000 values" in str(error)


def test_a_record_has_a_size(monkeypatch, compiled_anew):
    monkeypatch.setattr(avro_schema, "MAX_RECORD_BYTES", 1000)
    two = varint(900) + bytes(900) + varint(990) + bytes(990)
    raw = head(record("bytes")) + block(2, two)
    assert [len(r["f0"]) for r in avro.read_container(raw)] == [900, 990]
    for wanted in (None, frozenset()):
        long = head(record("bytes")) + block(2, varint(999) + bytes(999) + two)
        (error,) = avro.read_container(long, wanted)
        assert str(error).startswith("damaged Avro: a record of more than")


def test_of_wanted_records_only_what_is_flat_is_read():
    array = {"type": "array", "items": "long"}
    inner = record(
        *("long", array, ["null", record("long", name="x")], {"type": "map", "values": "long"}),
        *(["null", "string"], {"type": "fixed", "name": "y", "size": 1}, "x"),
        name="inner",
    )
    schema = record("long", inner, array, {"type": "array", "items": "inner"})
    value = varint(1) + varint(1) + varint(5) + b"\0" + varint(1) + varint(6) + b"\0"
    value += varint(1) + text(b"a") + b"z" + varint(9)
    data = varint(0) + value + varint(1) + varint(4) + b"\0" + varint(1) + value + b"\0"
    kept = {"f0": 1, "f4": "a", "f5": b"z"}
    wanted = frozenset({"f1", "f2", "f3"})
    assert one(schema, data, wanted) == {"f1": kept, "f2": [4], "f3": [kept]}


def test_a_field_may_be_of_a_type_that_a_field_before_it_names():
    inner = {"type": "record", "name": "t1", "namespace": "a", "fields": []}
    inner["fields"] = [{"name": "x", "type": "int"}]
    fields = [("f0", "boolean"), ("f1", {"type": "array", "items": inner}), ("f2", "a.t1")]
    outer = {"type": "record", "name": "t0"}
    outer["fields"] = [{"name": name, "type": kind} for name, kind in fields]
    raw = container(record(outer), {"f0": {"f0": True, "f1": [{"x": 1}], "f2": {"x": 2}}})
    assert list(avro.read_container(raw, frozenset({"f0"}))) == [{"f0": {"f0": True}}]


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
LONG_NAMES = {"type": "record", "name": "w", "fields": [{"name": "n" * 900_000, "type": "long"}]}
TYPES = [{"type": "fixed", "name": f"x{i}", "size": 1} for i in range(2_000)]
OFTEN = record(record(name="m"), *["m"] * 4_000)


@pytest.mark.parametrize("wanted", [None, frozenset(), frozenset({"f0"})])
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
        record(LONG_NAMES, *["long"] * 10, *["w"] * 400),
        record(*TYPES, namespace="n" * 900_000),
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
    ids=lambda s: str(s)[:60],
)
def test_hostile_schemas(schema, wanted):
    raw = head(schema) + block(1, b"\x00" * 50)
    (error,) = avro.read_container(raw, wanted)
    assert isinstance(error, AvroError)


def test_strange_names_stay_data():
    name = "'''\"\\\n) or exit(1) #\ud800\x00{v1}"
    schema = {"type": "record", "name": name, "fields": [{"name": name, "type": "long"}]}
    assert one(schema, varint(4)) == {name: 4}


def test_a_schema_larger_than_any_alerts_is_refused():
    schema = json.dumps(record("long", doc="x" * 2**21)).encode()
    assert problems(head(schema) + block(1, b"\x02"))


def test_schemas_are_compiled_once():
    schema = json.dumps(SCHEMA).encode()
    compiled = avro_schema.compile_schema(schema, frozenset())
    assert avro.compile_schema(json.dumps(SCHEMA).encode(), frozenset()) is compiled


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), MemoryError(), SilentError()])
def test_whatever_a_schema_or_a_record_raises(monkeypatch, error, compiled_anew):
    schema = json.dumps(record("bytes", name="raising")).encode()

    def fail(*_):
        raise error

    monkeypatch.setattr(avro_schema, "finish_varint", fail)
    read = avro_schema.compile_schema(schema)
    with pytest.raises(AvroError, match=type(error).__name__):
        read(b"\xff", 0)
    monkeypatch.setattr(avro_schema._Compiler, "long", fail)
    with pytest.raises(AvroError, match=type(error).__name__):
        avro_schema.compile_schema(schema, frozenset({"f0"}))
