"""Members of tar archives, read strictly forward out of a stream: nothing is unpacked or kept.

`tarfile` reads the headers' fields. What it does beyond that is not for bytes from outside:
it unfolds sparse files, steps over members without a word, and takes quadratic time for some
extension headers.

Source: POSIX.1-2017, "pax Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

import dataclasses
import io
import re
import tarfile
from collections.abc import Iterator
from typing import Final

from acai_jax.errors import PacketError

_BLOCK: Final = tarfile.BLOCKSIZE
_MAX_EXTENSION_BYTES: Final = 8 * 2**10
_MAX_SKIP_BYTES: Final = 64 * 2**30
_PADDING_BYTES: Final = 20 * _BLOCK  # one tar record: zeros up to this length are no damage
_PIECE_BYTES: Final = 2**20
_PAX_TYPES: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS: Final = (
    *(*_PAX_TYPES, tarfile.XGLTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_UNBOUNDED: Final = (*_EXTENSIONS, tarfile.GNUTYPE_SPARSE)
_NO_DATA: Final = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.DIRTYPE, tarfile.FIFOTYPE),
)
_PAX_RECORD: Final = re.compile(rb"(\d{1,4}) ([^=]+)=")


class Content:
    """The bytes of one member, to be read before the next member is asked for."""

    def __init__(self, stream: io.BufferedIOBase, name: str, size: int) -> None:
        self._stream, self._name, self._left = stream, name, size

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at the most; none at the member's end.

        Raises:
            PacketError: the archive ends within the member.
        """
        part = self._stream.read(min(size, self._left))
        if self._left and not part:
            raise PacketError(f"truncated archive: it ends within {self._name}")
        self._left -= len(part)
        return part

    def skip(self) -> None:
        """Steps over what is left."""
        while self.read(_PIECE_BYTES):
            pass


@dataclasses.dataclass
class _Extension:
    """What extension headers say of the member that follows them."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False

    def take(self, kind: bytes, data: bytes) -> None:
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.name = _name(data.partition(b"\0")[0])
        elif kind in _PAX_TYPES:
            at = 0
            while record := _PAX_RECORD.match(data, at):
                start, at = record.end(), at + int(record[1])
                self._take_pax(record[2], data[start : at - 1])
                if at <= start:
                    break

    def _take_pax(self, key: bytes, value: bytes) -> None:
        if key == b"path":
            self.name = _name(value)
        elif key == b"size" and value.isdigit():
            self.size = int(value[:30])
        elif key.startswith(b"GNU.sparse."):
            self.sparse = True


def tar_members(stream: io.BufferedIOBase) -> Iterator[tuple[str, Content | str]]:
    """The files in an archive, in order, without folders and hidden files.

    Yields:
        (name, its content), or (name, why it is not read). Stretches that are no members have
        no name; after a damaged header, reading goes on at the next sound one.

    Raises:
        PacketError: the archive ends within a member.

    Example:
        >>> list(tar_members(io.BytesIO(bytes(10240))))
        []
    """
    extension = _Extension()
    damaged = zeros = 0  # bytes since the last member
    told = False  # the reason for the damaged ones is given already
    while block := stream.read(_BLOCK):
        if not block.strip(b"\0"):
            zeros += len(block)
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except Exception:  # tarfile raises several types on blocks that are no headers
            damaged += len(block)
            continue
        if not told and (damaged or zeros > _PADDING_BYTES):
            yield "", _gap(damaged + zeros)
        damaged, zeros, told = 0, 0, False
        size = header.size if extension.size is None else extension.size
        name = extension.name or header.name
        if header.type in _EXTENSIONS and 0 <= header.size <= _MAX_EXTENSION_BYTES:
            extension.take(header.type, Content(stream, "a header", header.size).read(header.size))
            stream.read(-header.size % _BLOCK)
            continue
        extension, sparse = _Extension(), extension.sparse
        if header.type in _NO_DATA:
            if header.type != tarfile.DIRTYPE:
                yield name, "archive member not read: a link or a special file"
            continue
        reason = _refusal(header, size, sparse)
        if reason:
            yield name, f"archive member not read: {reason}"
        if header.type in _UNBOUNDED or not 0 <= size <= _MAX_SKIP_BYTES:
            told = True  # where it ends is not known: the next sound header tells
            continue
        content = Content(stream, name, size)
        if not reason and not name.rpartition("/")[2].startswith("."):
            yield name, content
        content.skip()
        stream.read(-size % _BLOCK)
    if damaged and not told:
        yield "", _gap(damaged)
    if zeros < _BLOCK:
        yield "", "truncated archive: its end mark is missing"


def _refusal(header: tarfile.TarInfo, size: int, sparse: bool) -> str | None:
    if header.type in _EXTENSIONS:
        return f"an extension header of {size} bytes"
    if sparse or header.type == tarfile.GNUTYPE_SPARSE:
        return "a sparse file"
    if not 0 <= size <= _MAX_SKIP_BYTES:
        return f"it claims to have {size} bytes"
    return None if header.isreg() else "a link or a special file"


def _gap(size: int) -> str:
    return f"damaged archive: {size} bytes are no archive members"


def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
