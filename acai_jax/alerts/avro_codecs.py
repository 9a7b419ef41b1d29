"""The codecs of Avro containers; none makes more bytes of a block than it is allowed to.

Source: Apache Avro 1.11 specification, "Required Codecs" and "Optional Codecs".
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

from isal import isal_zlib

from acai_jax.errors import AvroError, reason_of

_MAX_WINDOW_BYTES: Final = 64 * 2**20
"""What xz and zstandard may look back to: as much as the highest of the usual levels."""


def decompress(payload: bytes, codec: str, most: int) -> bytes:
    """The uncompressed bytes of a block.

    Args:
        payload: the block's bytes.
        codec: name of the codec, as the container's head gives it.
        most: how many bytes there may be.

    Raises:
        AvroError: the codec is unknown, or the block is damaged or larger than `most`.

    Example:
        >>> decompress(zlib.compress(bytes(1000), wbits=-15), "deflate", most=999)
        Traceback (most recent call last):
        acai_jax.errors.AvroError: damaged Avro: a block of codec deflate is incomplete or too large
    """
    if codec not in _CODECS:
        raise AvroError(f"unknown Avro codec: {codec[:40]!r} (known: {', '.join(_CODECS)})")
    try:
        data = _CODECS[codec](payload, most)
    except Exception as error:
        raise AvroError(f"damaged Avro: a block of codec {codec}: {reason_of(error)}") from None
    if data is None or len(data) > most:
        raise AvroError(f"damaged Avro: a block of codec {codec} is incomplete or too large")
    return data


def _whole(stream: Any, payload: bytes, most: int) -> bytes | None:
    """What a decompressor makes of the payload; None if it is not at its end then."""
    data = stream.decompress(payload, most)
    return data if stream.eof else None


def _deflate(payload: bytes, most: int) -> bytes | None:
    return _whole(isal_zlib.decompressobj(-15), payload, most)


def _bzip2(payload: bytes, most: int) -> bytes | None:
    return _whole(bz2.BZ2Decompressor(), payload, most)


def _xz(payload: bytes, most: int) -> bytes | None:
    # the decoder itself takes a little beside its window
    limit = _MAX_WINDOW_BYTES + 2**20
    return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limit), payload, most)


def _snappy(payload: bytes, most: int) -> bytes | None:
    import cramjam

    body, checksum = payload[:-4], payload[-4:]  # the CRC-32 of the uncompressed bytes
    if cramjam.snappy.decompress_raw_len(body) > most:
        return None
    data = bytes(cramjam.snappy.decompress_raw(body))
    if zlib.crc32(data).to_bytes(4, "big") != checksum:
        raise AvroError("its checksum is wrong")
    return data


def _zstandard(payload: bytes, most: int) -> bytes | None:
    import zstandard

    size = zstandard.get_frame_parameters(payload).content_size
    if most < size != zstandard.CONTENTSIZE_UNKNOWN:
        return None
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    return unpacker.decompress(payload, max_output_size=most)


_CODECS: Final[dict[str, Callable[[bytes, int], bytes | None]]] = {
    "null": lambda payload, most: payload,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": _bzip2,
    "xz": _xz,
}
