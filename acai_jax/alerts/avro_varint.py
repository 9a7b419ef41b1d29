"""Avro's numbers, of one to ten bytes each, and the bytes whose length such a number tells.

Source: Apache Avro 1.11 specification, "Binary Encoding".
"""

from acai_jax.errors import AvroError


def read_long(buffer: bytes, position: int) -> tuple[int, int]:
    """(number, position after it).

    Example:
        >>> read_long(write_long(7), 0)
        (7, 1)
    """
    value = buffer[position]
    position += 1
    if value > 127:
        value, position = finish_varint(buffer, position, value)
    return (value >> 1) ^ -(value & 1), position


def finish_varint(buffer: bytes, position: int, value: int) -> tuple[int, int]:
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


def read_bytes(buffer: bytes, position: int, end: int) -> tuple[bytes, int]:
    """(length-prefixed bytes, position after them); they may not reach beyond `end`."""
    size, position = read_long(buffer, position)
    if size < 0 or position + size > end:
        raise AvroError("truncated Avro: a string or byte field runs past the end")
    return buffer[position : position + size], position + size


def write_long(value: int) -> bytes:
    """A number from 0 up as Avro writes it: zigzag, then seven bits to a byte."""
    value <<= 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
