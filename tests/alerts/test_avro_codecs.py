import bz2
import lzma
import zlib

import cramjam
import pytest
import zstandard
from isal import isal_zlib

from acai_jax.alerts.avro_codecs import decompress
from acai_jax.errors import AvroError
from tests.alerts.test_avro import deflated


def snappy(data):
    return bytes(cramjam.snappy.compress_raw(data)) + zlib.crc32(data).to_bytes(4, "big")


def zstandard_without_size(data):
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


PACKERS = [
    ("null", bytes),
    ("deflate", deflated),
    ("snappy", snappy),
    ("zstandard", zstandard.compress),
    ("zstandard", zstandard_without_size),
    ("bzip2", bz2.compress),
    ("xz", lzma.compress),
]
DATA = bytes(range(256)) * 40


@pytest.mark.parametrize(("codec", "pack"), PACKERS)
def test_blocks_come_back(codec, pack):
    assert decompress(pack(DATA), codec, len(DATA)) == DATA
    assert decompress(pack(b""), codec, 10) == b""


@pytest.mark.parametrize(("codec", "pack"), PACKERS[1:])
def test_a_block_is_never_larger_than_allowed(codec, pack):
    for packed in (pack(DATA), pack(bytes(2**25))):
        with pytest.raises(AvroError, match=f"codec {codec}"):
            decompress(packed, codec, len(DATA) - 1)


@pytest.mark.parametrize(("codec", "pack"), PACKERS[1:])
def test_damaged_blocks(codec, pack):
    packed = pack(DATA)
    for damaged in (
        b"",
        b"abc",
        b"not compressed at all",
        packed[:-1],
        packed[: len(packed) // 2],
        b"\xff\xff\xff\xff\x0f" + bytes(20),  # claims 4 GiB, to snappy
        bytes(len(packed)),
    ):
        with pytest.raises(AvroError, match=f"damaged Avro: a block of codec {codec}"):
            decompress(damaged, codec, len(DATA))


def test_a_checksum_that_is_wrong():
    with pytest.raises(AvroError, match="its checksum is wrong"):
        decompress(snappy(DATA)[:-4] + b"crc!", "snappy", len(DATA))


@pytest.mark.parametrize("size", [2**62, 2**40])
def test_zstandard_that_claims_a_size(size):
    claimed = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(AvroError, match="too large"):
        decompress(claimed, "zstandard", 2**20)


@pytest.mark.parametrize("codec", ["lzo", "\ufffd", "x" * 1000, "snappy\n"])
def test_unknown_codec_is_named(codec):
    with pytest.raises(AvroError, match=r"unknown Avro codec: .{1,50} .known: null, deflate"):
        decompress(b"", codec, 10)


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [ZeroDivisionError(), MemoryError(), SilentError()])
def test_whatever_a_library_raises(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(isal_zlib, "decompressobj", fail)
    with pytest.raises(AvroError, match=type(error).__name__):
        decompress(b"", "deflate", 10)
