"""Avro object containers: their head, their blocks, and the records in them.

A damaged block costs that block only: reading goes on at the next sync marker. Whatever the bytes
cause, it comes as an `AvroError`.

Source: Apache Avro 1.11 specification, "Object Container Files".
"""

import functools
import itertools
import json
import mmap
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

from acai_jax.alerts.avro_codecs import decompress
from acai_jax.alerts.avro_schema import MAX_SCHEMA_BYTES, compile_schema, full_name
from acai_jax.alerts.avro_varint import read_bytes, read_long, write_long
from acai_jax.errors import AvroError, reason_of

MAGIC: Final = b"Obj\x01"
MAX_BLOCK_BYTES: Final = 64 * 2**20
MAX_CONTAINER_ITEMS: Final = 4_000  # records and damaged stretches: 190 MB of triplets
_MAX_CONTAINER_BYTES: Final = 64 * 2**20  # uncompressed; the last block may go beyond
_MAX_METADATA: Final = 1_000
_SYNC_BYTES: Final = 16

Buffer = bytes | mmap.mmap
"""What containers are read from."""

Stretch = tuple[int, int, int]
"""(length of a container's head, start, end): with the head before it, it is a container, too."""

Item = TypeVar("Item")


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
    try:
        return _header(buffer)
    except IndexError:
        raise AvroError("truncated Avro: the container's head is cut short") from None
    except Exception as error:
        raise _avro_error(error) from None


def _header(buffer: Buffer) -> Header:
    head = buffer[: MAX_SCHEMA_BYTES + 4096]
    if head[:4] != MAGIC:
        raise AvroError("not an Avro container: its magic bytes are missing")
    meta: dict[bytes, bytes] = {}
    entries = 0
    count, position = read_long(head, len(MAGIC))
    while count:
        if count < 0:  # a negative count is followed by the block's size in bytes
            count, position = -count, read_long(head, position)[1]
        entries += count
        if entries > _MAX_METADATA:
            raise AvroError("damaged Avro: too many entries in the container's head")
        for _ in range(count):
            key, position = read_bytes(head, position, len(head))
            meta[key], position = read_bytes(head, position, len(head))
        count, position = read_long(head, position)
    sync = head[position : position + _SYNC_BYTES]
    if b"avro.schema" not in meta or len(sync) < _SYNC_BYTES:
        raise AvroError("truncated Avro: the container's head is cut short")
    codec = meta.get(b"avro.codec", b"null").decode("ascii", "replace")
    return Header(meta[b"avro.schema"], codec, sync, position + _SYNC_BYTES)


@functools.lru_cache(maxsize=16)
def record_name(schema: bytes) -> str | None:
    """The full name, with its namespace, of the record that a schema describes.

    Args:
        schema: JSON, as for `compile_schema`; of a union of records, the last one counts, which
            alone may be made of all others.

    Returns:
        None: it is no schema of a record.

    Example:
        >>> record_name(b'{"type": "record", "name": "alert", "namespace": "ztf", "fields": []}')
        'ztf.alert'
    """
    try:
        parsed = json.loads(schema)
        while isinstance(parsed, list) or not isinstance(parsed["type"], str):
            parsed = parsed[-1] if isinstance(parsed, list) else parsed["type"]
        return full_name(parsed).removeprefix(".") if parsed["type"] == "record" else None
    except Exception:
        return None


def read_datum(
    schema: bytes, payload: bytes, wanted: frozenset[str] | None = None
) -> dict[str, Any]:
    """Reads one record that stands alone, its schema being known from elsewhere.

    Args:
        schema: the schema's JSON, as a registry or a message's key holds it.
        payload: the record's bytes and nothing else.
        wanted: as for `compile_schema`.

    Raises:
        AvroError: the schema or the record is damaged, or does not end where the payload does.

    Example:
        >>> schema = b'{"type": "record", "name": "r", "fields": [{"name": "n", "type": "long"}]}'
        >>> read_datum(schema, bytes([6]))
        {'n': 3}
        >>> read_datum(schema, bytes([6, 6]))
        Traceback (most recent call last):
        acai_jax.errors.AvroError: damaged Avro: 1 bytes after the last record
    """
    try:
        record, position = compile_schema(schema, wanted)(payload, 0)
    except Exception as error:
        raise _avro_error(error) from None
    _check_end(payload, position)
    return record


def read_container(
    buffer: Buffer, wanted: frozenset[str] | None = None, *, header: Header | None = None
) -> Iterator[dict[str, Any] | AvroError]:
    """Yields the records of a container, and an `AvroError` for each stretch that is damaged.

    After a damaged block, reading goes on at the next sync marker. It ends, with an `AvroError`,
    after `MAX_CONTAINER_ITEMS`: `split_container` cuts larger containers into pieces first.

    Args:
        buffer: the whole container.
        wanted: as for `compile_schema`.
        header: its head, where that has been read already.

    Example:
        >>> next(read_container(b"no container"))
        AvroError('not an Avro container: its magic bytes are missing')
    """
    for item in _limited(_records(buffer, wanted, header)):
        yield item if isinstance(item, AvroError) else item[0]


def one_record_containers(
    buffer: Buffer, wanted: frozenset[str] | None = None
) -> Iterator[tuple[bytes, dict[str, Any]] | AvroError]:
    """Cuts a container into one for each record, with the same schema and the same bytes inside.

    Args:
        buffer: the whole container; as much of it is read as by `read_container`.
        wanted: as for `compile_schema`; the new containers hold all fields.

    Yields:
        (container, record), or an `AvroError` for each stretch that is damaged.

    Example:
        >>> next(one_record_containers(b"no container"))
        AvroError('not an Avro container: its magic bytes are missing')
    """
    head = sync = b""
    for item in _limited(_records(buffer, wanted)):
        if isinstance(item, AvroError):
            yield item
            continue
        record, block, start, end = item
        if not head:
            header = read_header(buffer)
            head, sync = _uncompressed_head(header), header.sync
        encoded = block[start:end]
        yield b"".join((head, write_long(1), write_long(len(encoded)), encoded, sync)), record


def _records(
    buffer: Buffer, wanted: frozenset[str] | None, header: Header | None = None
) -> Iterator[tuple[dict[str, Any], bytes, int, int] | AvroError]:
    """(record, its block, start and end there), and an error for each stretch that is damaged."""
    try:
        header = header or read_header(buffer)
        read_record = compile_schema(header.schema, wanted)
    except Exception as error:
        yield _avro_error(error)
        return
    room = _MAX_CONTAINER_BYTES
    for block in _blocks(buffer, header):
        if isinstance(block, AvroError):
            yield block
            continue
        if room <= 0:
            yield AvroError(f"too large: the first {_MAX_CONTAINER_BYTES >> 20} MiB were read")
            return
        count, payload = block
        lost = 0  # records of the block that cannot be found once one is damaged
        try:
            data = decompress(payload, header.codec, MAX_BLOCK_BYTES)
            room -= len(data)
            if count > len(data):
                raise AvroError(f"damaged Avro: a block of {count} records in {len(data)} bytes")
            position = 0
            for index in range(count):
                start, lost = position, count - index - 1
                record, position = read_record(data, position)
                yield record, data, start, position
            _check_end(data, position)
        except Exception as error:
            reason = str(_avro_error(error))
            yield AvroError(f"{reason} ({lost} more records lost with it)" if lost else reason)


def _limited(items: Iterator[Item]) -> Iterator[Item | AvroError]:
    yield from itertools.islice(items, MAX_CONTAINER_ITEMS)
    if next(items, None) is not None:
        yield AvroError(
            f"too many records: the first {MAX_CONTAINER_ITEMS} of a container were read"
        )


def _check_end(data: bytes, position: int) -> None:
    if position != len(data):
        raise AvroError(f"damaged Avro: {len(data) - position} bytes after the last record")


def _avro_error(error: Exception) -> AvroError:
    """The error itself if it is one; an `AvroError` of whatever else the bytes have caused."""
    return error if isinstance(error, AvroError) else AvroError(reason_of(error))


def split_container(buffer: Buffer, piece_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Cuts a large container into complete small ones, in order.

    Yields:
        (container, records that it claims to hold), of about `piece_bytes` each.

    Raises:
        AvroError: the container's head cannot be read.
    """
    for (head, start, end), records in container_stretches(buffer, piece_bytes):
        yield buffer[:head] + buffer[start:end], records


def container_stretches(buffer: Buffer, piece_bytes: int) -> Iterator[tuple[Stretch, int]]:
    """Where `split_container` cuts: what each piece is made of, and how many records it claims."""
    header = read_header(buffer)
    start = position = header.size
    records = 0
    while position < len(buffer):
        try:
            count, _, end = _framing(buffer, position, header.sync)
        except Exception:  # hand on all up to the next marker: the piece's reader reports it
            limit = min(position + MAX_BLOCK_BYTES, len(buffer))
            found = buffer.find(header.sync, position, limit)
            count, end = 1, limit if found < 0 else found + _SYNC_BYTES
        position, records = end, records + max(count, 1)
        if position - start >= piece_bytes:
            yield (header.size, start, position), records
            start, records = position, 0
    if position > start or start == header.size:
        yield (header.size, start, position), records


def _blocks(buffer: Buffer, header: Header) -> Iterator[tuple[int, bytes] | AvroError]:
    position = header.size
    while position < len(buffer):
        try:
            count, start, end = _framing(buffer, position, header.sync)
            yield count, buffer[start : end - _SYNC_BYTES]
        except Exception as error:
            yield _avro_error(error)
            found = buffer.find(header.sync, position)
            if found < 0:
                return
            end = found + _SYNC_BYTES
        position = end


def _framing(buffer: Buffer, position: int, sync: bytes) -> tuple[int, int, int]:
    """(records, start, end after the sync marker) of the block at `position`.

    Raises:
        AvroError: it is damaged or cut short.
    """
    head = buffer[position : position + 20]  # two numbers, of ten bytes at the most
    try:
        count, offset = read_long(head, 0)
        size, offset = read_long(head, offset)
    except IndexError:
        raise AvroError("truncated Avro: a block's head is cut short") from None
    start = position + offset
    end = start + size + _SYNC_BYTES
    if not 0 <= size <= MAX_BLOCK_BYTES or count < 0:
        raise AvroError(f"damaged Avro: a block of {count} records in {size} bytes")
    if end > len(buffer):
        raise AvroError("truncated Avro: a block ends before its sync marker")
    if buffer[end - _SYNC_BYTES : end] != sync:
        raise AvroError("damaged Avro: a block does not end with the sync marker")
    return count, start, end


def _uncompressed_head(header: Header) -> bytes:
    """The head of a container of the same schema, with the codec null."""
    entries = ((b"avro.schema", header.schema), (b"avro.codec", b"null"))
    fields = [write_long(len(field)) + field for entry in entries for field in entry]
    return b"".join((MAGIC, write_long(len(entries)), *fields, write_long(0), header.sync))
