"""Avro schemas, compiled: each becomes one Python function of straight-line code.

An alert packet spends most of its bytes on a history that no score needs, and most of a general
reader's time goes into resolving schemas and building that history. The compiled function steps
over whatever is not wanted.

Every length and count in the bytes is checked against the bytes that are there, and what a schema
and a record may take has a budget, so that damaged or hostile input ends in an `AvroError`, never
in a long loop or a large allocation. The budgets are several times what the largest real alerts,
those of LSST, take.

Source: Apache Avro 1.11 specification, "Schema Declaration" and "Binary Encoding".
"""

import contextlib
import functools
import itertools
import json
import re
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any

from acai_jax.alerts.avro_patterns import record_pattern, stepper, taker
from acai_jax.alerts.avro_varint import finish_varint
from acai_jax.errors import AvroError, reason_of

MAX_SCHEMA_BYTES = 2**20
MAX_RECORD_BYTES = 8 * 2**20
_MAX_VALUES = 2_000_000  # in the arrays and maps of one record
_MAX_SCHEMA_NODES = 5_000
_MAX_SOURCE_BYTES = 2**18
_MAX_NAME_BYTES = 1_000
_SHORTEST_RUN = 4  # fields of one kind, before looking at all of them at once pays
_MAX_DEPTH = 12  # CPython allows 20 nested loops in one function
_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_CODES = {"float": "f", "double": "d"}  # of struct

RecordReader = Callable[[bytes, int], tuple[dict[str, Any], int]]
"""(block, position) -> (record, position after it)."""


@functools.lru_cache(maxsize=16)
def compile_schema(schema: bytes, wanted: frozenset[str] | None = None) -> RecordReader:
    """Compiles an Avro schema into a function that reads one record.

    Args:
        schema: the schema's JSON, as it stands in a container: a record, or a union of records.
        wanted: top-level fields to read, and of the records in them only the fields that hold no
            array, map or record; all else is stepped over. NAME.FIELD reads, of the records in
            NAME, that field only; "NAME." nothing but how many there are. None reads everything.

    Raises:
        AvroError: the schema is damaged, recursive, or larger than any alert's.

    Example:
        >>> read = compile_schema(b'{"type": "record", "name": "r", "fields": '
        ...                       b'[{"name": "candid", "type": "long"}]}')
        >>> read(bytes([6]), 0)
        ({'candid': 3}, 1)
    """
    if len(schema) > MAX_SCHEMA_BYTES:
        raise AvroError("damaged Avro: its schema is larger than any alert's")
    try:
        parsed = json.loads(schema)
    except Exception:
        raise AvroError("damaged Avro: its schema is not JSON") from None
    try:
        compiler = _Compiler(wanted)
        body = compiler.compile(parsed)
        scope: dict[str, Any] = {
            **compiler.constants,
            "AvroError": AvroError,
            "_more": finish_varint,
            "_overrun": _overrun,
            "_float": struct.Struct("<f").unpack_from,
            "_double": struct.Struct("<d").unpack_from,
        }
        # Names and symbols from the schema enter this code as literals only.
        exec(compile(body, "<avro schema>", "exec"), scope)
    except AvroError:
        raise
    except Exception as error:
        reason = f"damaged Avro: its schema is not valid ({reason_of(error)})"
        raise AvroError(reason) from None
    return _guard(scope["read"])


def _guard(read: Callable[[bytes, int, int], tuple[dict[str, Any], int]]) -> RecordReader:
    def read_record(block: bytes, position: int) -> tuple[dict[str, Any], int]:
        end = min(len(block), position + MAX_RECORD_BYTES)
        try:
            record, position = read(block, position, end)
        except (IndexError, struct.error, OverflowError):
            raise _overrun(block, len(block)) from None
        except KeyError:
            raise AvroError("damaged Avro: no such union branch") from None
        except UnicodeDecodeError:
            raise AvroError("damaged Avro: a string is not UTF-8") from None
        except AvroError:
            raise
        except Exception as error:
            raise AvroError(reason_of(error)) from None
        if position > end:
            raise _overrun(block, end)
        return record, position

    return read_record


def _overrun(block: bytes, end: int) -> AvroError:
    """What is wrong with a record that reaches beyond `end`."""
    if end < len(block):
        return AvroError(f"damaged Avro: a record of more than {MAX_RECORD_BYTES >> 20} MiB")
    return AvroError("truncated Avro: a record runs past the end of its block")


def _fixed_union_sizes(schema: Any) -> dict[int, int] | None:
    """{branch byte: bytes that it and its value take} of a union of fixed-size types."""
    if not isinstance(schema, list) or len(schema) > 64:
        return None
    if not all(isinstance(t, str) and t in _FIXED_BYTES for t in schema):
        return None
    return {2 * i: 1 + _FIXED_BYTES[t] for i, t in enumerate(schema)}


def _nullable_float(field: dict[str, Any]) -> tuple[str, int] | None:
    """(struct code, branch byte where there is a value) of a field that is a float or null."""
    for kind, code in _CODES.items():
        if field["type"] in (["null", kind], [kind, "null"]):
            return code, 2 * field["type"].index(kind)
    return None


def _fixed_size(schema: dict[str, Any]) -> int:
    size = int(schema["size"])
    if not 0 <= size <= MAX_RECORD_BYTES:
        raise AvroError("damaged Avro: its schema has an impossible size")
    return size


def full_name(schema: dict[str, Any], space: str = "") -> str:
    """NAMESPACE.NAME of a named type, which may inherit the namespace of what it stands in.

    Example:
        >>> full_name({"type": "record", "name": "alert", "namespace": "ztf"})
        'ztf.alert'
    """
    name = schema["name"]
    return name if "." in name else f"{schema.get('namespace', space) or ''}.{name}"


class _Compiler:
    """Writes the reader's source: `b` is the block, `p` the position, `e` the end."""

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self.wanted = wanted
        self.inner: dict[str, set[str]] = {}  # of top-level fields of which not all is wanted
        for name, dot, field in (each.partition(".") for each in wanted or ()):
            if dot and name not in (wanted or ()):
                self.inner.setdefault(name, set()).add(field)
        self.only: set[str] | None = None  # while one of them is read
        self.lines: list[str] = []
        self.names: dict[str, tuple[Any, str]] = {}
        self.open: list[str] = []  # records being written, to notice a recursive schema
        self.constants: dict[str, Any] = {}  # look-up tables and readers, by name
        self.nodes = 0
        self.source_bytes = 0
        self.variables = 0

    def compile(self, schema: Any) -> str:
        self.emit(0, "def read(b, p, e):")
        self.emit(1, f"left = {_MAX_VALUES}")
        kind, schema, space = self.resolve(schema, "", 1)
        if kind == "record":
            self.emit(1, f"r = {self.read_record(schema, space, 1, top=True)}")
        elif kind == "union":
            self.union(schema, 1, lambda branch, depth: self.read_branch(branch, space, depth))
        else:
            raise AvroError("damaged Avro: its schema is not a record")
        self.emit(1, "return r, p")
        return "\n".join(self.lines)

    def read_branch(self, schema: Any, space: str, depth: int) -> str:
        """Emits code that reads a datum of one branch of a union of alerts and what they hold."""
        if self.resolve(schema, space, depth)[0] != "record":
            raise AvroError("damaged Avro: its schema is not a record, nor a union of records")
        return f"r = {self.read_record(schema, space, depth, top=True)}"

    def emit(self, depth: int, *lines: str) -> None:
        self.source_bytes += sum(map(len, lines))
        if self.source_bytes > _MAX_SOURCE_BYTES:
            raise AvroError("damaged Avro: its schema is larger than any alert's")
        self.lines.extend(" " * depth + line for line in lines)

    def variable(self) -> str:
        self.variables += 1
        return f"v{self.variables}"

    def constant(self, value: Any) -> str:
        for name, known in self.constants.items():
            if known == value:
                return name
        name = f"constant{len(self.constants)}"
        self.constants[name] = value
        return name

    def spend(self, nodes: int) -> None:
        """Keeps the code small, also where a schema names a large type again and again."""
        self.nodes += nodes
        if self.nodes > _MAX_SCHEMA_NODES:
            raise AvroError("damaged Avro: its schema is larger than any alert's")

    def resolve(self, schema: Any, space: str, depth: int) -> tuple[str, Any, str]:
        """(type name, definition, namespace) of a schema node, following named types."""
        self.spend(1)
        if depth > 3 * _MAX_DEPTH:
            raise AvroError("damaged Avro: its schema is nested too deeply")
        if isinstance(schema, list):
            return "union", schema, space
        if isinstance(schema, str):
            if schema in (*_FIXED_BYTES, "int", "long", "string", "bytes"):
                return schema, schema, space
            full = schema if "." in schema or f"{space}.{schema}" not in self.names else ""
            definition, space = self.names[full or f"{space}.{schema}"]
            return definition["type"], definition, space
        kind = schema["type"]
        if isinstance(kind, (list, dict)):
            return self.resolve(kind, space, depth)
        if kind in ("record", "enum", "fixed"):
            space, _, short = full_name(schema, space).rpartition(".")
            if len(space) + len(short) > _MAX_NAME_BYTES:
                raise AvroError("damaged Avro: its schema has a name longer than any alert's")
            self.names[f"{space}.{short}"] = self.names[short] = (schema, space)
            return kind, schema, space
        if kind in ("array", "map"):
            return kind, schema, space
        return self.resolve(kind, space, depth)

    def read_record(self, schema: Any, space: str, depth: int, *, top: bool = False) -> str:
        """Emits code that reads a record; returns the expression that builds it."""
        _, schema, space = self.resolve(schema, space, depth)
        self.enter(schema, space)
        items = []
        for kind, fields in itertools.groupby(schema["fields"], _nullable_float):
            run = list(fields)
            wanted = (self.is_wanted(field, space, top) for field in run)
            if kind and len(run) >= _SHORTEST_RUN and all(wanted):
                values = self.read_run(*kind, run[0]["type"], len(run), depth)
                items += [(field["name"], v) for field, v in zip(run, values, strict=True)]
                continue
            for field in run:
                if self.is_wanted(field, space, top):  # it may be of a type that one before names
                    if top:
                        self.only = self.inner.get(field["name"])
                    items.append((field["name"], self.read(field["type"], space, depth)))
                else:
                    self.step_over(field["type"], space, depth)
        self.open.pop()
        return "{" + ", ".join(f"{name!r}: {value}" for name, value in items) + "}"

    def is_wanted(self, field: dict[str, Any], space: str, top: bool) -> bool:
        if not isinstance(field["name"], str):
            raise AvroError("damaged Avro: its schema has a field without a name")
        if self.wanted is None:
            return True
        if top:
            return field["name"] in self.wanted or field["name"] in self.inner
        if self.only is not None:
            return field["name"] in self.only
        return self.is_scalar(field["type"], space)

    def is_scalar(self, schema: Any, space: str) -> bool:
        kind, schema, space = self.resolve(schema, space, 0)
        if kind == "union":
            return all(self.is_scalar(branch, space) for branch in schema)
        return kind not in ("record", "array", "map")

    def takes_no_bytes(self, schema: Any, space: str) -> bool:
        kind, schema, space = self.resolve(schema, space, 0)
        if kind == "record":
            return all(self.takes_no_bytes(field["type"], space) for field in schema["fields"])
        return kind == "null" or (kind == "fixed" and schema["size"] == 0)

    def read_run(self, code: str, branch: int, schema: Any, count: int, depth: int) -> list[str]:
        """Emits code that reads `count` nullable floats, at once where none of them is null."""
        self.spend(count)
        variables = [self.variable() for _ in range(count)]
        size = struct.calcsize(f"<x{code}")
        unpack = self.constant(struct.Struct("<" + f"x{code}" * count).unpack_from)
        self.emit(
            depth,
            f"if b[p : p + {size * count} : {size}] == {bytes([branch] * count)!r}:",
            f" {', '.join(variables)} = {unpack}(b, p)",
            f" p += {size * count}",
            "else:",
        )
        for variable in variables:
            self.emit(depth + 1, f"{variable} = {self.read(schema, '', depth + 1)}")
        return variables

    def enter(self, schema: dict[str, Any], space: str) -> None:
        name = f"{space}.{schema['name']}"
        if name in self.open:
            raise AvroError("damaged Avro: its schema is recursive")
        self.open.append(name)

    def read(self, schema: Any, space: str, depth: int) -> str:
        """Emits code that reads one value; returns the variable that holds it."""
        kind, schema, space = self.resolve(schema, space, depth)
        v = self.variable()
        if kind == "null":
            self.emit(depth, f"{v} = None")
        elif kind in ("float", "double"):
            self.emit(depth, f"({v},) = _{kind}(b, p)", f"p += {_FIXED_BYTES[kind]}")
        elif kind == "boolean":
            self.emit(depth, f"{v} = b[p] != 0", "p += 1")
        elif kind in ("int", "long"):
            self.long(v, depth)
        elif kind in ("string", "bytes"):
            self.length(v, depth)
            decode = ".decode()" if kind == "string" else ""
            self.emit(depth, f"{v}, p = b[p : p + {v}]{decode}, p + {v}")
        elif kind == "fixed":
            size = _fixed_size(schema)
            self.emit(depth, f"{v} = b[p : p + {size}]", f"p += {size}")
        elif kind == "enum":
            self.long(v, depth)
            self.spend(len(schema["symbols"]))
            symbols = {i: str(name) for i, name in enumerate(schema["symbols"])}
            self.emit(depth, f"{v} = {self.constant(symbols)}[{v}]")
        elif kind == "record":
            self.emit(depth, f"{v} = {self.read_record(schema, space, depth)}")
        elif kind == "union":
            self.union(schema, depth, lambda t, d: f"{v} = {self.read(t, space, d)}")
        else:
            self.emit(depth, f"{v} = {'[]' if kind == 'array' else '{}'}")
            with self.repeat(kind, schema, space, depth) as (inner, n):
                if kind == "array":
                    if self.only is not None:
                        self.match_items(schema["items"], space, inner, n, self.only, v)
                    self.emit(inner, f"{v}.append({self.read(schema['items'], space, inner)})")
                else:
                    key = self.read("string", space, inner)
                    self.emit(inner, f"{v}[{key}] = {self.read(schema['values'], space, inner)}")
        return v

    def step_over(self, schema: Any, space: str, depth: int) -> None:
        """Emits code that steps over one value."""
        kind, schema, space = self.resolve(schema, space, depth)
        if kind in _FIXED_BYTES or kind == "fixed":
            self.advance(_FIXED_BYTES[kind] if kind != "fixed" else _fixed_size(schema), depth)
        elif kind in ("int", "long", "enum"):
            self.emit(depth, "while b[p] > 127: p += 1", "p += 1")
        elif kind in ("string", "bytes"):
            v = self.variable()  # an odd number is a negative length
            self.emit(
                depth,
                f"{v} = b[p]; p += 1",
                f"if {v} > 127: {v}, p = _more(b, p, {v})",
                f"if {v} & 1: raise IndexError",
                f"p += {v} >> 1",
            )
        elif kind == "record":
            self.enter(schema, space)
            types = (field["type"] for field in schema["fields"])
            for sizes, run in itertools.groupby(types, _fixed_union_sizes):
                if sizes:
                    self.step_over_run(sizes, len(list(run)), depth)
                else:
                    for field_type in run:
                        self.step_over(field_type, space, depth)
            self.open.pop()
        elif kind == "union":
            if sizes := _fixed_union_sizes(schema):
                self.step_over_run(sizes, 1, depth)
            else:
                self.union(schema, depth, lambda t, d: self.step_over(t, space, d))
        else:
            with self.repeat(kind, schema, space, depth) as (inner, n):
                if kind == "map":
                    self.step_over("string", space, inner)
                else:
                    self.match_items(schema["items"], space, inner, n)
                self.step_over(schema["items" if kind == "array" else "values"], space, inner)

    def step_over_run(self, sizes: dict[int, int], count: int, depth: int) -> None:
        """Steps over `count` unions of one fixed-size kind, such as `["float", "null"]`.

        They make most of a history, and tend to be all there or all null: so look at all their
        branch bytes at once before looking at each.
        """
        self.spend(count)
        one_by_one = f"p += {self.constant(sizes)}[b[p]]"
        if count < _SHORTEST_RUN:
            self.emit(depth, *[one_by_one] * count)
            return
        for number, (branch, size) in enumerate(sizes.items()):
            run = f"b[p : p + {size * count} : {size}] == {bytes([branch] * count)!r}"
            self.emit(depth, f"{'el' if number else ''}if {run}: p += {size * count}")
        self.emit(depth, "else:", f" for _ in range({count}): {one_by_one}")

    def match_items(
        self,
        schema: Any,
        space: str,
        depth: int,
        n: str,
        wanted: Collection[str] = (),
        array: str | None = None,
    ) -> None:
        """Emits code that takes many items of an array at once, if they are of plain fields.

        The first one that the expression does not match is read as all else is.
        """
        nodes = self.nodes
        found = record_pattern(schema, space, wanted, self.resolve)
        self.nodes = nodes  # they are spent by what reads the item
        if found is None:
            return
        pattern, kinds = found
        if kinds:
            unpack = struct.Struct("<" + "".join(_CODES[kind] for _, kind in kinds)).iter_unpack
            values = [f"x{index}" for index in range(len(kinds))]
            items = (f"{name!r}: {value}" for (name, _), value in zip(kinds, values, strict=True))
            self.emit(
                depth,
                f"p, {n}, m = {self.constant(taker(pattern))}(b, p, {n})",
                f"{array} += [{{{', '.join(items)}}} for {', '.join(values)}, "
                f"in {self.constant(unpack)}(m)]",
            )
        else:
            self.emit(depth, f"m, (p, {n}) = {n}, {self.constant(stepper(pattern))}(b, p, {n})")
            if array is not None:
                self.emit(depth, f"{array} += [{{}}] * (m - {n})")
        self.emit(depth, f"if {n} == 0: break")

    def advance(self, size: int, depth: int) -> None:
        """Steps `size` bytes on, in one addition for a run of fixed-size fields."""
        if size == 0:
            return
        last = re.fullmatch(r"( +)p \+= (\d+)", self.lines[-1]) if self.lines else None
        if last and len(last[1]) == depth:
            self.lines[-1] = f"{last[1]}p += {int(last[2]) + size}"
        else:
            self.emit(depth, f"p += {size}")

    def long(self, v: str, depth: int) -> None:
        self.emit(
            depth,
            f"{v} = b[p]; p += 1",
            f"if {v} > 127: {v}, p = _more(b, p, {v})",
            f"{v} = ({v} >> 1) ^ -({v} & 1)",
        )

    def length(self, v: str, depth: int) -> None:
        self.long(v, depth)
        self.emit(depth, f"if not 0 <= {v} <= e - p: raise _overrun(b, e)")

    def union(self, branches: list[Any], depth: int, branch: Callable[[Any, int], Any]) -> None:
        v = self.variable()
        self.emit(depth, f"{v} = b[p]; p += 1")
        for index, schema in enumerate(branches[:64]):  # more would take a second branch byte
            self.emit(depth, f"{'el' if index else ''}if {v} == {2 * index}:")
            statement = branch(schema, depth + 1)
            if statement or self.lines[-1].endswith(":"):
                self.emit(depth + 1, statement or "pass")
        self.emit(depth, "else: raise KeyError")

    @contextlib.contextmanager
    def repeat(self, kind: str, schema: Any, space: str, depth: int) -> Iterator[tuple[int, str]]:
        """Opens the loops over an array's or map's blocks and items.

        Yields the inner depth, and the variable that says how many items are left.
        """
        if depth > _MAX_DEPTH:
            raise AvroError("damaged Avro: its schema is nested too deeply")
        n = self.variable()
        self.emit(depth, "while True:")
        self.long(n, depth + 1)
        self.emit(depth + 1, f"if {n} == 0: break", f"if {n} < 0:")
        self.length(self.variable(), depth + 2)  # the block's size in bytes, not needed
        self.emit(depth + 1, f" {n} = -{n}")
        if kind == "array" and self.takes_no_bytes(schema["items"], space):
            message = "damaged Avro: an array of items that take no bytes"
            self.emit(depth + 1, f"raise AvroError({message!r})")
        message = f"damaged Avro: a record of more than {_MAX_VALUES} values"
        self.emit(depth + 1, f"if {n} > e - p: raise _overrun(b, e)", "")
        cost, before = len(self.lines) - 1, self.nodes
        self.emit(
            depth + 1,
            f"if left < 0: raise AvroError({message!r})",
            f"while {n}:",
        )
        yield depth + 2, n
        self.emit(depth + 2, f"{n} -= 1")
        self.lines[cost] += f"left -= {n} * {max(self.nodes - before, 1)}"
