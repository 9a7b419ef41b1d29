"""FITS cutouts, gzipped or plain -> float32 images, with a fast path for what surveys send."""

import functools
import io
import math
import re
import warnings
from collections.abc import Callable
from typing import cast

import numpy as np
from isal import isal_zlib
from jaxtyping import Float32

from acai_jax.errors import MissingPackageError, StampError, reason_of
from acai_jax.extras import require
from acai_jax.surveys import DEFAULT

Image = Float32[np.ndarray, "h w"]
_OfAnySize = Float32[np.ndarray, "_ _"]  # an alert's stamps may differ in size
Images = tuple[_OfAnySize | None, _OfAnySize | None, _OfAnySize | None]
"""Science, template and difference stamp; None where one cannot be read."""

_BLOCK = 2880  # FITS files are made of blocks of this many bytes
_CARD = 80
_MAX_FITS_BYTES = 2**20  # fifty times a stamp: room for odd headers, none for a gzip bomb
_UNCERTAINTY = "UNCERT"  # the extension that holds what is known of the pixels' noise
_VARIANCE = "VarianceUncertainty"
# what the pixels mean does not hang on these
_HARMLESS = frozenset(
    b"EXTEND BUNIT CUTMINX CUTMINY ROTPA MJDREF MJD-OBS DATE-OBS RADESYS EQUINOX WCSAXES LONPOLE "
    b"LATPOLE EXTNAME UTYPE CRPIX1 CRPIX2 CRVAL1 CRVAL2 CDELT1 CDELT2 CTYPE1 CTYPE2 CUNIT1 CUNIT2 "
    b"PC1_1 PC1_2 PC2_1 PC2_2 CD1_1 CD1_2 CD2_1 CD2_2".split()
)
_PLAIN = {
    b"SIMPLE": b"T",  # packets without this card exist
    b"XTENSION": b"'IMAGE   '",
    b"BITPIX": b"-32",
    b"NAXIS": b"2",
    b"PCOUNT": b"0",
    b"GCOUNT": b"1",
}
_PC_CARD = re.compile(rb"PC([12]_[12]) *= *([-+.\dEe]+)")
_GZIP = 31  # window bits: gzip framing, checksum verified
_GZIP_ERROR = cast(type[Exception], isal_zlib.error)


def decode_stamp(data: bytes | None, side: int = DEFAULT.largest_stamp) -> Image:
    """Decodes one cutout.

    Args:
        data: gzipped FITS (plain FITS is taken too); the first image that it holds is used.
        side: pixels along each side of the largest stamp that is taken.

    Returns:
        The image as stored, rows in FITS order [DN], native float32. NaN and huge values stay.

    Raises:
        StampError: there is no cutout, or it is no image of at most `side` x `side` pixels.

    Example:
        >>> decode_stamp(None)
        Traceback (most recent call last):
        acai_jax.errors.StampError: null stamp

    Source: FITS standard 4.0; ZTF cutouts have BITPIX -32 and one header block.
    """
    return _walled(_decoded, data, side)


def decode_variance(data: bytes | None, side: int = DEFAULT.largest_stamp) -> Image:
    """The variance of each pixel of a cutout, from its extension UNCERT.

    Args:
        data: as for `decode_stamp`.
        side: as for `decode_stamp`.

    Raises:
        StampError: there is none, or of another size than the image.

    Source: FITS standard 4.0; what LSST's cutouts hold, which astropy's `CCDData` writes.
    """
    return _walled(_decoded_variance, data, side)


def north(data: bytes | None) -> tuple[float, float] | None:
    """Which way is north in a cutout: (along rows, along columns), of length 1; None if not said.

    Args:
        data: as for `decode_stamp`; the matrix PC of the first header block is read.

    Example:
        >>> north(None) is None
        True

    Source: FITS standard 4.0, section 8.1.
    """
    try:
        fits = b"" if data is None else _gunzip(data) if data[:2] == b"\x1f\x8b" else data
        cards = dict(_PC_CARD.findall(fits[:_BLOCK]))
        a, b, c, d = (float(cards[name]) for name in (b"1_1", b"1_2", b"2_1", b"2_2"))
        x, y = -b / (a * d - b * c), a / (a * d - b * c)
        return x / math.hypot(x, y), y / math.hypot(x, y)
    except (StampError, KeyError, ValueError, ArithmeticError):
        return None


def _walled(decode: Callable[[bytes, int], Image], data: bytes | None, side: int) -> Image:
    if data is None:
        raise StampError("null stamp")
    try:
        fits = _gunzip(data) if data[:2] == b"\x1f\x8b" else data
        if len(fits) > _MAX_FITS_BYTES:
            raise StampError("damaged stamp: its FITS file is larger than any stamp's")
        return decode(fits, side)
    except StampError:
        raise
    except Exception as error:
        raise StampError(f"damaged stamp: {reason_of(error)}") from None


def _decoded(fits: bytes, side: int) -> Image:
    shape = _plain_shape(fits[:_BLOCK])
    if shape is None:
        return _decode_with_astropy(fits, side)
    return _pixels(fits, _BLOCK, shape, side)


def _decoded_variance(fits: bytes, side: int) -> Image:
    shape = _plain_shape(fits[:_BLOCK])
    if shape is not None:
        start = _BLOCK + -(-4 * shape[0] * shape[1] // _BLOCK) * _BLOCK
        header = fits[start : start + _BLOCK]
        said = (
            f"{'EXTNAME':<8}= '{_UNCERTAINTY:<8}'".encode(),
            f"{'UTYPE':<8}= '{_VARIANCE}'".encode(),
        )
        plain = all(header.find(card) % _CARD == 0 for card in said)
        if plain and _plain_shape(header) == shape:
            return _pixels(fits, start + _BLOCK, shape, side)
    return _decode_with_astropy(fits, side, variance=True)


def _pixels(fits: bytes, start: int, shape: tuple[int, int], side: int) -> Image:
    height, width = _check_shape(shape, side)
    if len(fits) < start + 4 * height * width:
        raise StampError("truncated stamp: its FITS data are cut short")
    image = np.frombuffer(fits, ">f4", height * width, start)
    return image.reshape(height, width).astype(np.float32)


def readable_stamps(
    cutouts: tuple[bytes | None, bytes | None, bytes | None], side: int = DEFAULT.largest_stamp
) -> Images:
    """The three stamps of an alert, to look at: None in place of what cannot be read.

    Args:
        cutouts: as of `AlertPacket`.
        side: as for `decode_stamp`.

    Example:
        >>> readable_stamps((None, b"no stamp", None))
        (None, None, None)
    """

    def readable(data: bytes | None) -> Image | None:
        try:
            return decode_stamp(data, side)
        except Exception:
            return None

    science, template, difference = map(readable, cutouts)
    return science, template, difference


def _gunzip(data: bytes) -> bytes:
    inflater = isal_zlib.decompressobj(_GZIP)
    try:
        fits = inflater.decompress(data, _MAX_FITS_BYTES)
    except _GZIP_ERROR as error:
        raise StampError(f"damaged stamp: {error}") from None
    if not inflater.eof:
        if len(fits) >= _MAX_FITS_BYTES:
            raise StampError("damaged stamp: its FITS file is larger than any stamp's")
        raise StampError("truncated stamp: its gzip stream is cut short")
    return fits


def _check_shape(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    if len(shape) != 2 or not all(1 <= n <= side for n in shape):
        size = "x".join(map(str, shape)) or "no"
        raise StampError(f"odd-shaped stamp: {size} pixels, not up to {side}x{side}")
    return shape


@functools.lru_cache(maxsize=64)
def _plain_shape(header: bytes) -> tuple[int, int] | None:
    """(height, width) of a plain float32 image with one header block; None for anything else."""
    if len(header) < _BLOCK:
        return None
    cards: dict[bytes, bytes] = {}
    for start in range(0, _BLOCK, _CARD):
        card = header[start : start + _CARD]
        keyword = card[:8].rstrip()
        if keyword == b"END":
            break
        if keyword in cards:
            return None
        cards[keyword] = card[10:].partition(b"/")[0].strip()
    else:
        return None
    try:
        shape = int(cards.pop(b"NAXIS2")), int(cards.pop(b"NAXIS1"))
    except (KeyError, ValueError):
        return None
    told = cards.keys() >= {b"BITPIX", b"NAXIS"}
    # any unknown card may change the pixels' meaning
    known = all(_PLAIN[key] == cards[key] for key in cards.keys() - _HARMLESS if key in _PLAIN)
    return shape if told and known and cards.keys() <= _HARMLESS | _PLAIN.keys() else None


def _decode_with_astropy(fits: bytes, side: int, *, variance: bool = False) -> Image:
    try:
        astropy_fits = require("astropy.io.fits", "fits")
    except MissingPackageError as error:
        raise StampError(f"no plain FITS image, and {error}") from None
    if re.search(rb"NAXIS *= *\+?\d{4}", fits):  # astropy would look up each of the axes
        raise StampError("odd-shaped stamp: its header promises thousands of axes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with astropy_fits.open(
                io.BytesIO(fits),
                memmap=False,
                ignore_missing_simple=True,
                disable_image_compression=True,
            ) as hdus:
                for hdu in hdus:
                    if not isinstance(hdu, astropy_fits.PrimaryHDU | astropy_fits.ImageHDU):
                        continue
                    if not hdu.shape or (variance and hdu.name != _UNCERTAINTY):
                        continue
                    if variance and hdu.header.get("UTYPE") != _VARIANCE:
                        raise StampError("no variance: the stamp's noise is given otherwise")
                    # before .data, which allocates what the header says
                    _check_shape(hdu.shape, side)
                    return np.asarray(hdu.data).astype(np.float32)
        except StampError:
            raise
        except Exception as error:  # astropy raises nearly any type on damaged files
            problem = " ".join(f"{type(error).__name__} {error}".split())
            raise StampError(f"damaged stamp: {problem:.200}") from None
    what = "its FITS file holds no image" if not variance else "its FITS file holds no variance"
    raise StampError(f"damaged stamp: {what}")
