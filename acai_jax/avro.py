"""Avro object containers, read fast: each schema is compiled once into one Python function.

An alert packet spends most of its bytes on a history that no score needs, and most of a general
reader's time goes into resolving schemas and building that history. Here the schema embedded in
the file is turned into straight-line code that steps over whatever is not wanted.

Every length and count in the bytes is checked against the bytes that are there, so that
damaged or hostile input ends in an `AvroError`, never in a long loop or a large allocation.

Source: Apache Avro 1.11 specification, "Binary Encoding" and "Object Container Files".
"""

import functools
import itertools
import json
import mmap
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from acai_jax.errors import AvroError

MAGIC = b"Obj\x01"
MAX_BLOCK_BYTES = 64 * 2**20
_MAX_SCHEMA_BYTES = 2**20
_MAX_METADATA = 1_000
_MAX_SCHEMA_NODES = 5_000
_MAX_DEPTH = 12  # CPython allows 20 nested loops in one function
_SYNC_BYTES = 16
_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_INVALID_SCHEMA = (
    *(LookupError, TypeError, AttributeError, ValueError, OverflowError),
    *(RecursionError, MemoryError, SyntaxError),
)

Buffer = bytes | mmap.mmap
"""What containers are read from."""

RecordReader = Callable[[bytes, int], tuple[dict[str, Any], int]]
"""(block, position) -> (record, position after it)."""


class Header(NamedTuple):
    """The head of a container: its schema (JSON bytes), codec, sync marker and length."""

    schema: bytes
    codec: str
    sync: bytes
    size: int


def read_header(buffer: Buffer) -> Header:
    """Reads the head of an Avro object container.

    Raises:
        AvroError: it is not one, or is cut short.
    """
    head = buffer[: _MAX_SCHEMA_BYTES + 4096]
    if head[:4] != MAGIC:
        raise AvroError("not an Avro container: its magic bytes are missing")
    meta: dict[bytes, bytes] = {}
    position, entries = 4, 0
    try:
        while count := (step := _long(head, position))[0]:
            position = step[1]
            if count < 0:  # a negative count is followed by the block's size in bytes
                count, position = -count, _long(head, position)[1]
            entries += count
            if entries > _MAX_METADATA:
                raise AvroError("damaged Avro: too many entries in the container's head")
            for _ in range(count):
                key, position = _bytes(head, position, len(head))
                meta[key], position = _bytes(head, position, len(head))
        position = step[1]
    except IndexError:
        raise AvroError("truncated Avro: the container's head is cut short") from None
    sync = head[position : position + _SYNC_BYTES]
    if b"avro.schema" not in meta or len(sync) < _SYNC_BYTES:
        raise AvroError("truncated Avro: the container's head is cut short")
    codec = meta.get(b"avro.codec", b"null").decode("ascii", "replace")
    return Header(meta[b"avro.schema"], codec, sync, position + _SYNC_BYTES)


def read_container(
    buffer: Buffer, skip: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any] | AvroError]:
    """Yields the records of a container, and an `AvroError` for each stretch that is damaged.

    After a damaged block, reading goes on at the next sync marker.

    Args:
        buffer: the whole container.
        skip: top-level fields to step over; the records come without them.

    Example:
        >>> next(read_container(b"no container"))
        AvroError('not an Avro container: its magic bytes are missing')
    """
    try:
        header = read_header(buffer)
        read_record = compile_schema(header.schema, skip)
    except AvroError as error:
        yield error
        return
    for block in _blocks(buffer, header):
        if isinstance(block, AvroError):
            yield block
            continue
        count, payload = block
        try:
            data = _decompress(payload, header.codec)
        except AvroError as error:
            yield error
            continue
        position = 0
        if count > len(data):
            yield AvroError(f"damaged Avro: a block of {count} records in {len(data)} bytes")
            continue
        for index in range(count):
            try:
                record, position = read_record(data, position)
            except AvroError as error:
                lost = count - index - 1
                yield AvroError(f"{error} ({lost} more records lost with it)") if lost else error
                break
            yield record
        else:
            if position != len(data):
                yield AvroError(f"damaged Avro: {len(data) - position} bytes after the last record")


def split_container(buffer: Buffer, piece_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Cuts a large container into complete small ones, in order.

    Yields:
        (container, records that it claims to hold), of about `piece_bytes` each.

    Raises:
        AvroError: the container's head cannot be read.
    """
    header = read_header(buffer)
    head = buffer[: header.size]
    start = position = header.size
    records = 0
    while position < len(buffer):
        framing = buffer[position : position + 20]
        try:
            count, offset = _long(framing, 0)
            size, offset = _long(framing, offset)
            end = position + offset + size + _SYNC_BYTES
            sound = 0 <= size <= MAX_BLOCK_BYTES
            sound = sound and buffer[end - _SYNC_BYTES : end] == header.sync
        except (AvroError, IndexError):
            count, end, sound = 1, position, False
        if not sound:  # hand on all up to the next marker: the piece's reader reports it
            limit = min(position + MAX_BLOCK_BYTES, len(buffer))
            found = buffer.find(header.sync, position, limit)
            end = limit if found < 0 else found + _SYNC_BYTES
        position, records = end, records + max(count, 1)
        if position - start >= piece_bytes:
            yield head + buffer[start:position], records
            start, records = position, 0
    if position > start or start == header.size:
        yield head + buffer[start:position], records


def _blocks(buffer: Buffer, header: Header) -> Iterator[tuple[int, bytes] | AvroError]:
    position = header.size
    while position < len(buffer):
        framing = buffer[position : position + 20]
        problem = None
        try:
            count, offset = _long(framing, 0)
            size, offset = _long(framing, offset)
            start = position + offset
            end = start + size
            if size < 0 or size > MAX_BLOCK_BYTES or count < 0:
                problem = f"damaged Avro: a block of {count} records in {size} bytes"
            elif end + _SYNC_BYTES > len(buffer):
                problem = "truncated Avro: a block ends before its sync marker"
            elif buffer[end : end + _SYNC_BYTES] != header.sync:
                problem = "damaged Avro: a block does not end with the sync marker"
            else:
                yield count, buffer[start:end]
                position = end + _SYNC_BYTES
        except (AvroError, IndexError):
            problem = "truncated Avro: a block's head is cut short"
        if problem:
            yield AvroError(problem)
            found = buffer.find(header.sync, position)
            if found < 0:
                return
            position = found + _SYNC_BYTES


def _decompress(payload: bytes, codec: str) -> bytes:
    if codec == "null":
        return payload
    if codec == "deflate":
        inflater = zlib.decompressobj(-15)
        try:
            data = inflater.decompress(payload, MAX_BLOCK_BYTES)
        except zlib.error as error:
            raise AvroError(f"damaged Avro: {error}") from None
        if not inflater.eof:
            raise AvroError("damaged Avro: a deflated block is incomplete or too large")
        return data
    if codec == "snappy":
        import cramjam

        body = payload[:-4]  # Avro appends the CRC-32 of the uncompressed bytes
        try:
            if cramjam.snappy.decompress_raw_len(body) > MAX_BLOCK_BYTES:
                raise AvroError("damaged Avro: a snappy block is too large")
            data = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError as error:
            raise AvroError(f"damaged Avro: {error}") from None
        if zlib.crc32(data).to_bytes(4, "big") != payload[-4:]:
            raise AvroError("damaged Avro: a snappy block fails its checksum")
        return data
    raise AvroError(f"unknown Avro codec: {codec[:40]!r} (known: null, deflate, snappy)")


# --- varints, used by the container's reader and by compiled readers -------------------------


def _more(buffer: bytes, position: int, value: int) -> tuple[int, int]:
    """Finishes a varint whose first byte, `value`, was above 127; not yet zigzag-decoded."""
    value &= 127
    for shift in range(7, 70, 7):
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, position
    raise AvroError("damaged Avro: a number of more than 64 bits")


def _long(buffer: bytes, position: int) -> tuple[int, int]:
    value = buffer[position]
    position += 1
    if value > 127:
        value, position = _more(buffer, position, value)
    return (value >> 1) ^ -(value & 1), position


def _bytes(buffer: bytes, position: int, end: int) -> tuple[bytes, int]:
    size, position = _long(buffer, position)
    if size < 0 or position + size > end:
        raise AvroError("truncated Avro: a string or byte field runs past the end")
    return buffer[position : position + size], position + size


# --- schema -> Python function ---------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def compile_schema(schema: bytes, skip: frozenset[str] = frozenset()) -> RecordReader:
    """Compiles an Avro schema into a function that reads one record.

    Args:
        schema: the schema's JSON, as it stands in a container.
        skip: top-level fields that are stepped over instead of read.

    Raises:
        AvroError: the schema is damaged, recursive, or larger than any alert's.

    Example:
        >>> read = compile_schema(b'{"type": "record", "name": "r", "fields": '
        ...                       b'[{"name": "candid", "type": "long"}]}')
        >>> read(bytes([6]), 0)
        ({'candid': 3}, 1)
    """
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        raise AvroError("damaged Avro: its schema is not JSON") from None
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise AvroError("damaged Avro: its schema is not a record")
    try:
        compiler = _Compiler(skip)
        body = compiler.compile(parsed)
        scope: dict[str, Any] = {
            **compiler.constants,
            "AvroError": AvroError,
            "_more": _more,
            "_float": struct.Struct("<f").unpack_from,
            "_double": struct.Struct("<d").unpack_from,
        }
        # Names and symbols from the schema enter this code as literals only.
        exec(compile(body, "<avro schema>", "exec"), scope)
    except _INVALID_SCHEMA as error:
        raise AvroError(f"damaged Avro: its schema is not valid ({error!r:.80})") from None
    return _guard(scope["read"])


def _guard(read: Callable[[bytes, int, int], tuple[dict[str, Any], int]]) -> RecordReader:
    def read_record(block: bytes, position: int) -> tuple[dict[str, Any], int]:
        try:
            record, position = read(block, position, len(block))
        except (IndexError, struct.error):
            raise AvroError("truncated Avro: a record runs past the end of its block") from None
        except KeyError:
            raise AvroError("damaged Avro: no such union branch") from None
        except UnicodeDecodeError:
            raise AvroError("damaged Avro: a string is not UTF-8") from None
        if position > len(block):
            raise AvroError("truncated Avro: a record runs past the end of its block")
        return record, position

    return read_record


def _fixed_union_sizes(schema: Any) -> dict[int, int] | None:
    """{branch byte: bytes that it and its value take} of a union of fixed-size types."""
    if not isinstance(schema, list) or len(schema) > 64:
        return None
    if not all(isinstance(t, str) and t in _FIXED_BYTES for t in schema):
        return None
    return {2 * i: 1 + _FIXED_BYTES[t] for i, t in enumerate(schema)}


def _fixed_size(schema: dict[str, Any]) -> int:
    size = int(schema["size"])
    if not 0 <= size <= MAX_BLOCK_BYTES:
        raise AvroError("damaged Avro: its schema has an impossible size")
    return size


class _Compiler:
    """Writes the reader's source: `b` is the block, `p` the position, `e` the end."""

    def __init__(self, skip: frozenset[str]) -> None:
        self.skip = skip
        self.lines: list[str] = []
        self.names: dict[str, tuple[Any, str]] = {}
        self.open: list[str] = []  # records being written, to notice a recursive schema
        self.constants: dict[str, dict[int, Any]] = {}  # look-up tables of the code, by name
        self.nodes = 0
        self.variables = 0

    def compile(self, schema: dict[str, Any]) -> str:
        target = self.read_record(schema, "", 1, self.skip)
        return "\n".join(["def read(b, p, e):", *self.lines, f" return {target}, p"])

    def emit(self, depth: int, *lines: str) -> None:
        self.lines.extend(" " * depth + line for line in lines)

    def variable(self) -> str:
        self.variables += 1
        return f"v{self.variables}"

    def constant(self, table: dict[int, Any]) -> str:
        for name, known in self.constants.items():
            if known == table:
                return name
        name = f"table{len(self.constants)}"
        self.constants[name] = table
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
            name = schema["name"]
            space = name.rpartition(".")[0] or schema.get("namespace", space)
            short = name.rpartition(".")[2]
            self.names[f"{space}.{short}"] = self.names[short] = (schema, space)
            return kind, schema, space
        if kind in ("array", "map"):
            return kind, schema, space
        return self.resolve(kind, space, depth)

    def read_record(
        self, schema: dict[str, Any], space: str, depth: int, skip: frozenset[str] = frozenset()
    ) -> str:
        """Emits code that reads a record; returns the expression that builds it."""
        _, schema, space = self.resolve(schema, space, depth)
        self.enter(schema, space)
        items = []
        for field in schema["fields"]:
            if field["name"] in skip:
                self.step_over(field["type"], space, depth)
            else:
                items.append(f"{str(field['name'])!r}: {self.read(field['type'], space, depth)}")
        self.open.pop()
        return "{" + ", ".join(items) + "}"

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
            empty = "[]" if kind == "array" else "{}"
            self.emit(depth, f"{v} = {empty}")
            inner = self.repeat(schema, depth)
            if kind == "array":
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
            v = self.variable()
            self.length(v, depth)
            self.emit(depth, f"p += {v}")
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
            inner = self.repeat(schema, depth)
            if kind == "map":
                self.step_over("string", space, inner)
            self.step_over(schema["items" if kind == "array" else "values"], space, inner)

    def step_over_run(self, sizes: dict[int, int], count: int, depth: int) -> None:
        """Steps over `count` unions of one fixed-size kind, such as `["float", "null"]`.

        They make most of a history, and tend to be all there or all null: so look at all their
        branch bytes at once before looking at each.
        """
        self.spend(count)
        one_by_one = f"p += {self.constant(sizes)}[b[p]]"
        if count < 4:
            self.emit(depth, *[one_by_one] * count)
            return
        for number, (branch, size) in enumerate(sizes.items()):
            run = f"b[p : p + {size * count} : {size}] == {bytes([branch] * count)!r}"
            self.emit(depth, f"{'el' if number else ''}if {run}: p += {size * count}")
        self.emit(depth, "else:", f" for _ in range({count}): {one_by_one}")

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
        message = "truncated Avro: a string or byte field runs past the end"
        self.emit(depth, f"if not 0 <= {v} <= e - p: raise AvroError({message!r})")

    def union(self, branches: list[Any], depth: int, branch: Callable[[Any, int], Any]) -> None:
        v = self.variable()
        self.emit(depth, f"{v} = b[p]; p += 1")
        for index, schema in enumerate(branches[:64]):  # more would take a second branch byte
            self.emit(depth, f"{'el' if index else ''}if {v} == {2 * index}:")
            statement = branch(schema, depth + 1)
            self.emit(depth + 1, statement or "pass")
        self.emit(depth, "else: raise KeyError")

    def repeat(self, schema: Any, depth: int) -> int:
        """Opens the loops over an array's or map's blocks and items; returns the inner depth."""
        if depth > _MAX_DEPTH:
            raise AvroError("damaged Avro: its schema is nested too deeply")
        n = self.variable()
        self.emit(depth, "while True:")
        self.long(n, depth + 1)
        self.emit(depth + 1, f"if {n} == 0: break", f"if {n} < 0:")
        self.length(self.variable(), depth + 2)  # the block's size in bytes, not needed
        message = "truncated Avro: an array runs past the end"
        last = self.variable()
        self.emit(
            depth + 1,
            f" {n} = -{n}",
            f"if {n} > e - p: raise AvroError({message!r})",
            # items that take no bytes would make a few bytes into millions of items
            f"{last} = -1",
            f"for _ in range({n}):",
            f" if not {last} < p < e: raise AvroError({message!r})",
            f" {last} = p",
        )
        return depth + 2
