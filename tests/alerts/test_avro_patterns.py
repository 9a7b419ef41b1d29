"""A record stepped over by an expression ends where fastavro's does, or is left to the long way."""

import io
import json
import re

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acai_jax.alerts import avro_schema
from acai_jax.alerts.avro_patterns import record_pattern
from acai_jax.alerts.avro_schema import compile_schema
from acai_jax.errors import AvroError

FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "visit", "type": "int"},
    *({"name": f"f{i}", "type": ["null", "float"]} for i in range(5)),
    {"name": "time", "type": "double"},
    {"name": "error", "type": "float"},
    {"name": "band", "type": ["null", "string"]},
    *({"name": f"flag{i}", "type": ["null", "boolean"]} for i in range(3)),
    {"name": "count", "type": ["null", "int", "long"]},
    {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["a", "b"]}},
]
ITEM = {"type": "record", "name": "item", "fields": FIELDS}
SCHEMA = {
    "type": "record",
    "name": "alert",
    "fields": [
        {"name": "rows", "type": ["null", {"type": "array", "items": ITEM}]},
        {"name": "more", "type": {"type": "array", "items": "item"}},
        {"name": "end", "type": "long"},
    ],
}
NUMBERS = st.floats(width=32, allow_nan=False)
LONGS = st.integers(-(2**63), 2**63 - 1)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "id": LONGS,
            "visit": st.integers(-(2**31), 2**31 - 1),
            **{f"f{i}": st.none() | NUMBERS for i in range(5)},
            "time": st.floats(allow_nan=False),
            "error": NUMBERS,
            "band": st.none() | st.text(max_size=30),
            **{f"flag{i}": st.none() | st.booleans() for i in range(3)},
            "count": st.none() | st.integers(0, 2**31 - 1),
            "kind": st.sampled_from(["a", "b"]),
        }
    ),
    max_size=4,
)
WANTED = frozenset({"rows.time", "rows.error", "end"})


def compiled():
    return compile_schema(json.dumps(SCHEMA).encode(), WANTED)


@given(ITEMS, ITEMS, LONGS)
def test_what_is_stepped_over_and_what_is_read(rows, more, end):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, {"rows": rows, "more": more, "end": end})
    raw = out.getvalue()
    found, position = compiled()(raw, 0)
    assert position == len(raw)
    expected = [{"time": row["time"], "error": row["error"]} for row in rows]
    assert found == {"rows": expected, "end": end}
    for cut in range(0, len(raw), 7):
        with pytest.raises(AvroError):
            compiled()(raw[:cut], 0)


@pytest.mark.parametrize("odd", [(), (0,), (31, 32, 33), (5, 99)])
def test_many_records_at_once_and_odd_ones_between(odd):
    plain = {f["name"]: None for f in FIELDS} | {"id": 1, "visit": 2, "error": 1.0, "kind": "a"}
    rows = [plain | {"time": float(i), "band": "long" * 9 * (i in odd)} for i in range(100)]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, {"rows": rows, "more": rows, "end": 5})
    raw, schema = out.getvalue(), json.dumps(SCHEMA).encode()
    times = [{"time": float(i)} for i in range(100)]
    for wanted, expected in (
        ({"rows.time", "more."}, {"rows": times, "more": [{}] * 100}),
        ({"rows.", "end"}, {"rows": [{}] * 100, "end": 5}),
        ({"more.time"}, {"more": times}),
    ):
        read = compile_schema(schema, frozenset(wanted))
        assert read(raw, 0) == (expected, len(raw))


def test_a_number_of_more_than_ten_bytes_is_left_to_what_refuses_it():
    fields = [{"name": f"n{number}", "type": "long"} for number in range(8)]
    schema = {"type": "record", "name": "r", "fields": fields}
    found = record_pattern(schema, "", (), avro_schema._Compiler(None).resolve)
    assert found is not None
    for length, matches in ((1, True), (10, True), (11, False)):
        number = b"\xff" * (length - 1) + b"\x01"
        assert bool(re.match(found[0], number + bytes(7), re.DOTALL)) == matches


def test_items_are_read_one_by_one_only_where_they_do_not_match(monkeypatch):
    row = {f["name"]: None for f in FIELDS} | {"id": 2**60, "visit": 1, "time": 2.5, "error": 1.0}
    out = io.BytesIO()
    record = {"rows": [row | {"kind": "a"}] * 3, "more": [row | {"kind": "b"}] * 3, "end": 5}
    fastavro.schemaless_writer(out, SCHEMA, record)
    monkeypatch.setattr(avro_schema._Compiler, "read_record", _refuse_items(avro_schema._Compiler))
    compile_schema.cache_clear()
    found, _ = compiled()(out.getvalue(), 0)
    compile_schema.cache_clear()
    assert found == {"rows": [{"time": 2.5, "error": 1.0}] * 3, "end": 5}


def _refuse_items(compiler):
    original = compiler.read_record

    def read_record(self, schema, space, depth, *, top=False):
        if not top:
            self.emit(depth, "raise KeyError")
        return original(self, schema, space, depth, top=top)

    return read_record


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:7],  # too few
        [*FIELDS, {"name": "file", "type": "string"}],  # more than one text
        [*FIELDS, {"name": "list", "type": {"type": "array", "items": "int"}}],
        [*FIELDS, {"name": "raw", "type": "bytes"}],
        [*FIELDS, {"name": "raw", "type": ["null", "bytes"]}],
        FIELDS * 20,
    ],
)
def test_other_records_have_no_pattern(fields):
    compiler = avro_schema._Compiler(None)
    schema = {"type": "record", "name": "r", "fields": fields}
    assert record_pattern(schema, "", (), compiler.resolve) is None
    assert record_pattern(ITEM, "", ("band",), compiler.resolve) is None
    assert record_pattern(ITEM, "", ("time",), compiler.resolve) is not None
