"""Paths -> alerts: Avro files, directories, tar archives, Parquet and JSON, read lazily.

Reading goes in two steps, so that worker processes can share the second: `encoded_alerts` finds
small pieces of undecoded packets, `decode` turns one piece into packets. Both keep the order,
and memory stays bounded by a few pieces, however large an archive is.
"""

import dataclasses
import io
import itertools
import mmap
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from isal import igzip, isal_zlib

from acai_jax import avro
from acai_jax.documents import json_documents
from acai_jax.errors import AvroError, PacketError, Reject, SourceError
from acai_jax.packet import (
    AlertPacket,
    packet_or_reject,
    refuse_confluent_framing,
    skipped_fields,
    wanted_fields,
)

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

SUFFIXES: Final = (
    ".avro",
    ".avro.gz",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".parquet",
    ".json",
    ".jsonl",
    ".ndjson",
    ".json.gz",
    ".jsonl.gz",
)
"""Files that are read when a directory is given; a file given by name is known by its bytes."""

_PIECE_BYTES: Final = 2**20
_WHOLE_FILE_BYTES: Final = 2 * 2**20  # Avro files up to this size are left to the workers whole
_MAX_MEMBER_BYTES: Final = 256 * 2**20
_MAX_TAR_HEADER_BYTES: Final = 2**20
_MAX_TAR_SKIP_BYTES: Final = 64 * 2**30
_TAR_EXTENSIONS: Final = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_TAR_PADDING_BYTES: Final = 20 * 512  # one tar record: zeros up to this length are no damage
_PARQUET_ROWS: Final = 64
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED: Final = cast(
    tuple[type[Exception], ...],
    (EOFError, OSError, zlib.error, isal_zlib.error, igzip.BadGzipFile, tarfile.TarError),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """Some packets of one source, not yet decoded.

    Attributes:
        origin: file (and member) that they came from.
        content: an Avro container, the path of one, decoded records, or a reject.
        count: how many packets to expect; a guess until they are decoded.
        source_bytes: how much of the source was read to get it, for progress bars.
    """

    origin: str
    content: bytes | Path | list[Mapping[str, Any]] | Reject
    count: int = 1
    source_bytes: int = 0


def read_alerts(paths: Paths, *, histories: bool = False) -> Iterator[AlertPacket | Reject]:
    """Reads alerts from files, directories and archives, in order, one at a time.

    Args:
        paths: one path or several: Avro containers (of any codec in Avro's specification), `.tar`
            and `.tar.gz` of them, Parquet as Fink stores alerts, (extended) JSON as Kowalski
            exports them, or directories of such files, which are read in the order of their names.
        histories: also read `prv_candidates` and `fp_hists` (slower).

    Yields:
        One `AlertPacket` per alert, or a `Reject` with the reason for what cannot be read.

    Raises:
        SourceError: a path does not exist, or the only file is of no known kind.

    Example:
        >>> list(read_alerts("no_such_night.tar.gz"))
        Traceback (most recent call last):
        acai_jax.errors.SourceError: no such file or directory: no_such_night.tar.gz
    """
    for encoded in encoded_alerts(paths, histories=histories):
        yield from decode(encoded, histories=histories)


def source_files(paths: Paths) -> list[Path]:
    """The files behind `paths`: directories are searched, in the order of their names.

    Raises:
        SourceError: a path does not exist, or a directory holds no alerts.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    files: list[Path] = []
    for path in map(Path, paths):
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:
            raise SourceError(f"unreadable path: {error.strerror}: {_text(path):.200}") from None
        if is_folder:
            found = sorted(
                Path(folder) / name
                for folder, _, names in os.walk(path, onerror=_raise_unreadable)
                for name in names
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            )
            if not found:
                raise SourceError(f"no alerts in {path}: looked for {', '.join(SUFFIXES)}")
            files.extend(found)
        elif exists:
            files.append(path)
        else:
            raise SourceError(f"no such file or directory: {path}")
    return files


def _raise_unreadable(error: OSError) -> None:
    raise SourceError(f"unreadable folder: {error.strerror}: {error.filename}")


def encoded_alerts(paths: Paths, *, histories: bool = False) -> Iterator[Encoded]:
    """Yields small pieces of undecoded packets from all `paths`, in order.

    Raises:
        SourceError: a path does not exist, or the only file is of no known kind.
    """
    files = source_files(paths)
    for path in files:
        try:
            with path.open("rb") as file:
                before = 0
                for encoded in _encoded_file(path, file, histories):
                    position = file.tell()
                    yield dataclasses.replace(encoded, source_bytes=position - before)
                    before = position
        except OSError as error:
            yield _rejected(_text(path), f"unreadable file: {error.strerror or error}")
        except SourceError as error:
            if len(files) == 1:
                raise
            yield _rejected(_text(path), str(error))  # a long run goes on


def decode(encoded: Encoded, *, histories: bool = False) -> Iterator[AlertPacket | Reject]:
    """Decodes one piece: a packet or a reject for each alert in it, in order."""
    origin, content = encoded.origin, encoded.content
    if isinstance(content, Reject):
        yield content
    elif isinstance(content, list):
        for record in content:
            yield packet_or_reject(record, origin)
    else:
        try:
            raw = content.read_bytes() if isinstance(content, Path) else content
            refuse_confluent_framing(raw)
        except OSError as error:
            yield Reject(f"unreadable file: {error.strerror or error}", origin=origin)
            return
        except PacketError as error:
            yield Reject(str(error), origin=origin)
            return
        for record in avro.read_container(raw, wanted_fields(histories)):
            if isinstance(record, AvroError):
                yield Reject(str(record), origin=origin)
            else:
                yield packet_or_reject(record, origin)


def _rejected(origin: str, reason: str) -> Encoded:
    return Encoded(origin, Reject(reason, origin=origin))


def _text(name: str | Path) -> str:
    """A file's name as text that tables can hold, even if it is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _encoded_file(path: Path, file: io.BufferedIOBase, histories: bool) -> Iterator[Encoded]:
    """The pieces of one file; the position of `file` tells how much of it is read."""
    origin = _text(path)
    magic = file.read(512)
    file.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        with cast(io.BufferedIOBase, igzip.open(file, "rb")) as unzipped:
            try:
                magic = unzipped.read(512)
            except _DAMAGED as error:
                yield _rejected(origin, f"damaged gzip: {error}")
                return
            unzipped.seek(0)
            if magic.startswith(avro.MAGIC):
                yield from _encoded_member(origin, unzipped)
            else:
                yield from _encoded_stream(origin, magic, unzipped, histories)
    elif magic.startswith(avro.MAGIC):
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE_FILE_BYTES:
            file.seek(size)
            yield Encoded(origin, path)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            for piece in _split(origin, buffer):
                file.seek(min(size, file.tell() + len(cast(bytes, piece.content))))
                yield piece
    elif magic.startswith(b"PAR1"):
        yield from _encoded_parquet(path, file, histories)
    elif path.suffix == ".avro" and not magic.lstrip().startswith((b"{", b"[")):
        file.seek(0, os.SEEK_END)
        yield Encoded(origin, path)  # the decoder says what is wrong with it
    else:
        yield from _encoded_stream(origin, magic, file, histories)


def _encoded_stream(
    origin: str, magic: bytes, stream: io.BufferedIOBase, histories: bool
) -> Iterator[Encoded]:
    if magic[257:262] == b"ustar":
        yield from _encoded_tar(origin, stream)
    elif magic.lstrip().startswith((b"{", b"[")):
        yield from _encoded_json(origin, stream, skipped_fields(histories))
    else:
        raise SourceError(f"not a source of alerts: {origin} (its first bytes: {magic[:8]!r})")


def _encoded_member(origin: str, stream: io.BufferedIOBase) -> Iterator[Encoded]:
    """A compressed file or an archive's member, which holds one Avro container."""
    try:
        content = bytearray()  # grown by pieces: one large read() would allocate it all
        while len(content) <= _MAX_MEMBER_BYTES and (part := stream.read(_PIECE_BYTES)):
            content += part
    except _DAMAGED as error:
        yield _rejected(origin, f"damaged archive: {error}")
        return
    if len(content) > _MAX_MEMBER_BYTES:
        size = _MAX_MEMBER_BYTES // 2**20
        yield _rejected(origin, f"too large: more than {size} MiB in one compressed file")
    elif len(content) > _WHOLE_FILE_BYTES:
        yield from _split(origin, bytes(content))
    else:
        yield Encoded(origin, bytes(content))


def _split(origin: str, container: avro.Buffer) -> Iterator[Encoded]:
    try:
        for piece, count in avro.split_container(container, _PIECE_BYTES):
            yield Encoded(origin, piece, count)
    except AvroError as error:
        yield _rejected(origin, str(error))


class _TarHeader(tarfile.TarInfo):
    """A member's header; tarfile would read an extension of any size into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_TarHeader":
        header = super().frombuf(buf, encoding, errors)
        sparse = header.type == tarfile.GNUTYPE_SPARSE
        if sparse or (header.type in _TAR_EXTENSIONS and header.size > _MAX_TAR_HEADER_BYTES):
            raise tarfile.InvalidHeaderError("oversized extension")  # type: ignore[attr-defined]
        return header


def _encoded_tar(origin: str, stream: io.BufferedIOBase) -> Iterator[Encoded]:
    try:
        # "r|" reads strictly forward: nothing is unpacked, nothing is kept. Without ignore_zeros
        # a damaged header would silently end the archive.
        with tarfile.open(
            fileobj=stream, mode="r|", ignore_zeros=True, tarinfo=_TarHeader
        ) as archive:
            end = 0
            for member in archive:
                # or the list of members grows with the archive
                archive.members = []  # type: ignore[attr-defined]
                if member.offset - end > _TAR_PADDING_BYTES:
                    yield _tar_gap(origin, member.offset - end)
                end = member.offset_data + member.size
                name = f"{origin}:{_text(member.name)}"
                extracted = archive.extractfile(member) if member.isreg() else None
                if extracted is not None and member.name.lower().endswith(".avro"):
                    yield from _encoded_member(name, cast(io.BufferedIOBase, extracted))
                elif not member.isdir():
                    kind = "no .avro file" if member.isreg() else "a link or a special file"
                    yield _rejected(name, f"archive member not read: {kind}")
                if archive.offset - member.offset > _MAX_TAR_SKIP_BYTES:
                    raise tarfile.ReadError(f"a member of {member.size} bytes")
            if archive.offset - end > 2 * _TAR_PADDING_BYTES:
                yield _tar_gap(origin, archive.offset - end)
            elif archive.offset - end < tarfile.BLOCKSIZE:
                yield _rejected(origin, "truncated archive: its end mark is missing")
    except Exception as error:  # tarfile raises many types on hostile headers
        yield _rejected(origin, f"damaged archive: {error}; the rest of it cannot be read")


def _tar_gap(origin: str, size: int) -> Encoded:
    return _rejected(origin, f"damaged archive: {size} bytes are no archive members")


def _encoded_parquet(path: Path, file: io.BufferedIOBase, histories: bool) -> Iterator[Encoded]:
    import pyarrow
    from pyarrow import parquet

    origin = _text(path)
    try:
        with pyarrow.OSFile(os.fsencode(path)) as source:
            table = parquet.ParquetFile(source)
            skip = skipped_fields(histories)
            columns = [name for name in table.schema_arrow.names if name not in skip]
            size, rows = os.fstat(file.fileno()).st_size, 0
            for batch in table.iter_batches(_PARQUET_ROWS, columns=columns, use_threads=False):
                rows += batch.num_rows
                file.seek(min(size, size * rows // max(1, table.metadata.num_rows)))
                yield Encoded(origin, batch.to_pylist(), batch.num_rows)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        yield _rejected(origin, f"damaged Parquet: {str(error).partition(chr(10))[0]:.200}")


def _encoded_json(
    origin: str, stream: io.BufferedIOBase, skip: frozenset[str]
) -> Iterator[Encoded]:
    documents = json_documents(stream)
    try:
        while batch := list(itertools.islice(documents, 16)):
            for refused, group in itertools.groupby(batch, lambda d: isinstance(d, Reject)):
                if refused:
                    for reject in cast(Iterator[Reject], group):
                        yield _rejected(origin, reject.reason)
                else:
                    records: list[Mapping[str, Any]] = [
                        {key: value for key, value in document.items() if key not in skip}
                        for document in cast(Iterator[Mapping[str, Any]], group)
                    ]
                    yield Encoded(origin, records, len(records))
    except _DAMAGED as error:
        yield _rejected(origin, f"damaged gzip: {error}")
