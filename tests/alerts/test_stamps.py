import gzip
import io
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import fits_bytes, stamp

from acai_jax.alerts import stamps
from acai_jax.alerts.sources import read_alerts
from acai_jax.alerts.stamps import decode_stamp, readable_stamps
from acai_jax.errors import StampError

IMAGE = np.random.default_rng(0).normal(100, 9, (63, 63)).astype(np.float32)


def zipped(raw):
    return gzip.compress(raw, mtime=0)


def file_of(*hdus):
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return zipped(buffer.getvalue())


def header(*cards):
    return b"".join(card.ljust(80) for card in (*cards, b"END")).ljust(2880)


def test_fast_path_equals_astropy_on_real_cutouts(real_data, monkeypatch):
    packets = list(read_alerts([real_data / "alerts", real_data / "fink_alerts.parquet"]))
    data = [cutout for packet in packets for cutout in packet.cutouts]
    assert len(data) == 3 * 97
    monkeypatch.setattr(stamps, "_decode_with_astropy", None)  # all are to take the fast path
    for cutout in data:
        image = decode_stamp(cutout)
        with fits.open(io.BytesIO(gzip.decompress(cutout)), ignore_missing_simple=True) as hdus:
            expected = hdus[0].data
        assert image.dtype == np.float32
        assert image.dtype.isnative
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("shape", [(63, 63), (1, 1), (63, 1), (1, 63), (62, 63)])
def test_shapes_up_to_full(shape):
    image = IMAGE[: shape[0], : shape[1]]
    np.testing.assert_array_equal(decode_stamp(stamp(image)), image)
    np.testing.assert_array_equal(decode_stamp(file_of(fits.PrimaryHDU(image))), image)


@pytest.mark.parametrize("shape", [(64, 63), (63, 64), (3, 63, 63), (1, 63, 63), (63,), (500, 500)])
def test_other_shapes_are_refused(shape):
    image = np.zeros(shape, np.float32)
    for data in (stamp(image), file_of(fits.PrimaryHDU(image))):
        with pytest.raises(StampError, match=r"odd-shaped stamp|larger than any"):
            decode_stamp(data)


def test_without_simple_card():
    raw = fits_bytes(IMAGE, simple=False)
    np.testing.assert_array_equal(decode_stamp(zipped(raw)), IMAGE)


def test_plain_fits_without_gzip():
    np.testing.assert_array_equal(decode_stamp(fits_bytes(IMAGE)), IMAGE)


def test_values_are_kept():
    image = IMAGE.copy()
    image[0, :4] = [np.nan, np.inf, -3.4e38, 1e-40]
    np.testing.assert_array_equal(decode_stamp(stamp(image)), image)


def test_first_image_of_several_hdus():
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    data = file_of(fits.PrimaryHDU(), table, fits.ImageHDU(IMAGE), fits.ImageHDU(IMAGE * 2))
    np.testing.assert_array_equal(decode_stamp(data), IMAGE)


def test_stamps_that_need_astropy_say_so_where_it_is_not(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "astropy"]:
        monkeypatch.setitem(sys.modules, name, None)
    np.testing.assert_array_equal(decode_stamp(stamp(IMAGE)), IMAGE)
    said = r'no plain FITS image, and astropy is not installed: pip install "acai_jax\[fits\]"'
    with pytest.raises(StampError, match=said):
        decode_stamp(zipped(b"no FITS"))


def test_scaled_integers():
    hdu = fits.PrimaryHDU(np.arange(63 * 63).reshape(63, 63).astype(np.int16))
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 10.0
    raw = gzip.decompress(file_of(hdu))
    assert raw[80:110] == b"BITPIX  =                   16"
    # set in the header alone, so that the stored integers stay
    raw = (
        raw[:2880].replace(
            b"END".ljust(80), b"BSCALE  = 0.5".ljust(80) + b"BZERO   = 10".ljust(80), 1
        )[:2800]
        + b"END".ljust(80)
        + hdu.data.astype(">i2").tobytes().ljust(8640, b"\0")
    )
    image = decode_stamp(zipped(raw))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, np.arange(63 * 63).reshape(63, 63) * 0.5 + 10)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.int32, np.uint8])
def test_other_pixel_types(dtype):
    image = decode_stamp(file_of(fits.PrimaryHDU(IMAGE.astype(dtype))))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, IMAGE.astype(dtype).astype(np.float32))


SOUND = stamp(IMAGE)
SIMPLE, FLOAT = b"SIMPLE  =                    T", b"BITPIX  =                  -32"
EMPTY = (SIMPLE, FLOAT, b"NAXIS   =                    0")
EXTENSION = (b"XTENSION= 'IMAGE   '", FLOAT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "null stamp"),
        (b"", "damaged"),
        (b"\x1f\x8b", "truncated"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(9000), "damaged"),
        (bytes(3000), "damaged"),
        (SOUND[:-1], "truncated"),
        (SOUND[: len(SOUND) // 2], "truncated"),
        (SOUND[:-8] + b"\x01\x02\x03\x04" + SOUND[-4:], "damaged"),
        (SOUND[:50] + b"\xff" * 50 + SOUND[100:], "damaged|truncated"),
        (zipped(b""), "damaged"),
        (zipped(fits_bytes(IMAGE)[:-6000]), "truncated"),
        (zipped(fits_bytes(IMAGE)[:2000]), "damaged|truncated"),
        (zipped(fits_bytes(IMAGE)[:80]), "damaged|truncated"),
        (zipped(header(*EMPTY)), "no image"),
        (
            header(SIMPLE, FLOAT, b"NAXIS   = 2", b"NAXIS1  = 1000000000", b"NAXIS2  = 63"),
            "odd-shaped",
        ),
        (header(SIMPLE, FLOAT, b"NAXIS   = 2", b"NAXIS1  = -63", b"NAXIS2  = 63"), "odd-shaped"),
        (header(SIMPLE, FLOAT, b"NAXIS   = 2", b"NAXIS1  = 0", b"NAXIS2  = 63"), "odd-shaped"),
        (header(SIMPLE, FLOAT, b"NAXIS   = 2", b"NAXIS1  = 63"), "."),
        (header(SIMPLE, FLOAT, b"NAXIS   = 2") + bytes(63 * 63 * 4), "."),
        (header(SIMPLE, b"NAXIS   = 2", b"NAXIS1  = 63", b"NAXIS2  = 63") + bytes(16000), "."),
        # a header that astropy would look through for hours
        (header(SIMPLE, FLOAT, b"NAXIS   = 1000000000"), "axes"),
        (header(*EMPTY) + header(*EXTENSION, b"NAXIS   = 999999999"), "axes"),
        (header(*EMPTY) + header(*EXTENSION, b"NAXIS   = 0") * 300, "no image"),
        (b"SIMPLE  =                    T".ljust(80) * 13_000, "damaged"),
    ],
)
def test_damaged_stamps_say_why(data, reason):
    with pytest.raises(StampError, match=reason) as caught:
        decode_stamp(data)
    assert "\n" not in str(caught.value)


def peak_memory(call):
    """The bytes that `call` allocates at most at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(size):
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(fits_bytes(IMAGE))]
    parts += [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*parts, packer.flush()])


def test_bombs_take_little_memory():
    data = bomb(200 * 2**20)
    assert len(data) < 10**6

    def decode():
        with pytest.raises(StampError, match="larger than any stamp's"):
            decode_stamp(data)

    assert peak_memory(decode) < 8 * 2**20
    with pytest.raises(StampError, match="larger than any stamp's"):
        decode_stamp(fits_bytes(IMAGE) + bytes(2**21))


@settings(max_examples=300)
@given(st.data())
def test_mutated_headers(data):
    raw = bytearray(fits_bytes(IMAGE))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, 499))] = data.draw(st.sampled_from(b" =0123456789-'/ETNAXIS"))
    try:
        image = decode_stamp(bytes(raw))
    except StampError:
        return
    assert image.dtype == np.float32
    assert all(1 <= n <= 63 for n in image.shape)


def test_stamps_that_cannot_be_read_are_missing():
    odd, missing, damaged = readable_stamps((stamp(IMAGE[:, :62]), None, b"no stamp"))
    assert (missing, damaged) == (None, None)
    np.testing.assert_array_equal(odd, IMAGE[:, :62])
