"""Avro object containers: their head, their blocks, and the records in them.

A damaged block costs that block only: reading goes on at the next sync marker.

Source: Apache Avro 1.11 specification, "Object Container Files".
"""

import mmap
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from acai_jax.avro_schema import MAX_BLOCK_BYTES, compile_schema, read_bytes, read_long
from acai_jax.errors import AvroError

MAGIC = b"Obj\x01"
_MAX_SCHEMA_BYTES = 2**20
_MAX_METADATA = 1_000
_SYNC_BYTES = 16

Buffer = bytes | mmap.mmap
"""What containers are read from."""


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
    entries = 0
    try:
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
    for item in _records(buffer, skip):
        yield item if isinstance(item, AvroError) else item[0]


def one_record_containers(
    buffer: Buffer, skip: frozenset[str] = frozenset()
) -> Iterator[tuple[bytes, dict[str, Any]] | AvroError]:
    """Cuts a container into one for each record, with the same schema and the same bytes inside.

    Args:
        buffer: the whole container.
        skip: as for `read_container`; the new containers hold these fields all the same.

    Yields:
        (container, record), or an `AvroError` for each stretch that is damaged.

    Example:
        >>> next(one_record_containers(b"no container"))
        AvroError('not an Avro container: its magic bytes are missing')
    """
    head = sync = b""
    for item in _records(buffer, skip):
        if isinstance(item, AvroError):
            yield item
            continue
        record, block, start, end = item
        if not head:
            header = read_header(buffer)
            head, sync = _uncompressed_head(header), header.sync
        encoded = block[start:end]
        yield b"".join((head, _long(1), _long(len(encoded)), encoded, sync)), record


def _records(
    buffer: Buffer, skip: frozenset[str]
) -> Iterator[tuple[dict[str, Any], bytes, int, int] | AvroError]:
    """(record, its block, start and end there), and an error for each stretch that is damaged."""
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
        if count > len(data):
            yield AvroError(f"damaged Avro: a block of {count} records in {len(data)} bytes")
            continue
        position = 0
        for index in range(count):
            start = position
            try:
                record, position = read_record(data, position)
            except AvroError as error:
                lost = count - index - 1
                yield AvroError(f"{error} ({lost} more records lost with it)") if lost else error
                break
            yield record, data, start, position
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
        try:
            count, _, end = _framing(buffer, position, header.sync)
        except AvroError:  # hand on all up to the next marker: the piece's reader reports it
            limit = min(position + MAX_BLOCK_BYTES, len(buffer))
            found = buffer.find(header.sync, position, limit)
            count, end = 1, limit if found < 0 else found + _SYNC_BYTES
        position, records = end, records + max(count, 1)
        if position - start >= piece_bytes:
            yield head + buffer[start:position], records
            start, records = position, 0
    if position > start or start == header.size:
        yield head + buffer[start:position], records


def _blocks(buffer: Buffer, header: Header) -> Iterator[tuple[int, bytes] | AvroError]:
    position = header.size
    while position < len(buffer):
        try:
            count, start, end = _framing(buffer, position, header.sync)
            yield count, buffer[start : end - _SYNC_BYTES]
        except AvroError as error:
            yield error
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
    fields = [_long(len(field)) + field for entry in entries for field in entry]
    return b"".join((MAGIC, _long(len(entries)), *fields, _long(0), header.sync))


def _long(value: int) -> bytes:
    """A number from 0 up as Avro writes it: zigzag, then seven bits to a byte."""
    value <<= 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


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
