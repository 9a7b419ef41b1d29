"""Paths -> alerts: Avro files, directories, tar archives, Parquet and JSON, read lazily.

Reading goes in two steps, so that worker processes can share the second: `encoded_alerts` finds
small pieces of undecoded packets, `decode` turns one piece into packets. Both keep the order,
and memory stays bounded by a few pieces, however large an archive is.
"""

import dataclasses
import io
import itertools
import json
import mmap
import os
import tarfile
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from isal import igzip, isal_zlib

from acai_jax import avro
from acai_jax.errors import AvroError, PacketError, Reject, SourceError
from acai_jax.packet import (
    AlertPacket,
    packet_or_reject,
    refuse_confluent_framing,
    skipped_fields,
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
_MAX_DOCUMENT_BYTES: Final = 16 * 2**20
_TAR_PADDING_BYTES: Final = 20 * 512  # one tar record: zeros up to this length are no damage
_PARQUET_ROWS: Final = 64
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED = (EOFError, OSError, zlib.error, isal_zlib.error, igzip.BadGzipFile, tarfile.TarError)


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
        paths: one path or several: Avro containers (codecs null, deflate, snappy), `.tar` and
            `.tar.gz` of them, Parquet as Fink stores alerts, (extended) JSON as Kowalski exports
            them, or directories of such files, which are read in the order of their names.
        histories: also read `prv_candidates` and `fp_hists` (slower).

    Yields:
        One `AlertPacket` per alert, or a `Reject` with the reason for what cannot be read.

    Raises:
        SourceError: a path does not exist, or is of no known kind.

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
        if path.is_dir():
            found = sorted(
                Path(folder) / name
                for folder, _, names in os.walk(path)
                for name in names
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            )
            if not found:
                raise SourceError(f"no alerts in {path}: looked for {', '.join(SUFFIXES)}")
            files.extend(found)
        elif path.exists():
            files.append(path)
        else:
            raise SourceError(f"no such file or directory: {path}")
    return files


def encoded_alerts(paths: Paths, *, histories: bool = False) -> Iterator[Encoded]:
    """Yields small pieces of undecoded packets from all `paths`, in order.

    Raises:
        SourceError: a path does not exist, or is of no known kind.
    """
    for path in source_files(paths):
        try:
            with path.open("rb") as file:
                before = 0
                for encoded in _encoded_file(path, file, histories):
                    position = file.tell()
                    yield dataclasses.replace(encoded, source_bytes=position - before)
                    before = position
        except OSError as error:
            reason = f"unreadable file: {error.strerror or error}"
            yield Encoded(str(path), Reject(reason, origin=str(path)))


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
        for record in avro.read_container(raw, skipped_fields(histories)):
            if isinstance(record, AvroError):
                yield Reject(str(record), origin=origin)
            else:
                yield packet_or_reject(record, origin)


def _encoded_file(path: Path, file: BinaryIO, histories: bool) -> Iterator[Encoded]:
    """The pieces of one file; the position of `file` tells how much of it is read."""
    origin = str(path)
    magic = file.read(512)
    file.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        with cast(BinaryIO, igzip.open(file, "rb")) as unzipped:
            try:
                magic = unzipped.read(512)
            except _DAMAGED as error:
                yield Encoded(origin, Reject(f"damaged gzip: {error}", origin=origin))
                return
            unzipped.seek(0)
            if magic.startswith(avro.MAGIC):
                yield _whole(origin, unzipped)
            else:
                yield from _encoded_stream(origin, magic, unzipped)
    elif magic.startswith(avro.MAGIC):
        yield from _encoded_avro(path, file)
    elif magic.startswith(b"PAR1"):
        yield from _encoded_parquet(path, file, histories)
    elif path.suffix == ".avro" and not magic.lstrip().startswith((b"{", b"[")):
        yield Encoded(origin, path)  # the decoder says what is wrong with it
    else:
        yield from _encoded_stream(origin, magic, file)


def _encoded_stream(origin: str, magic: bytes, stream: BinaryIO) -> Iterator[Encoded]:
    if magic[257:262] == b"ustar":
        yield from _encoded_tar(origin, stream)
    elif magic.lstrip().startswith((b"{", b"[")):
        yield from _encoded_json(origin, stream)
    else:
        raise SourceError(f"not a source of alerts: {origin} (its first bytes: {magic[:8]!r})")


def _whole(origin: str, stream: BinaryIO) -> Encoded:
    """A compressed file or an archive's member, which holds one Avro container."""
    content: bytes | Reject
    try:
        content = stream.read(_MAX_MEMBER_BYTES + 1)
    except _DAMAGED as error:
        content = Reject(f"damaged archive: {error}", origin=origin)
    if isinstance(content, bytes) and len(content) > _MAX_MEMBER_BYTES:
        size = _MAX_MEMBER_BYTES // 2**20
        content = Reject(f"too large: more than {size} MiB in one compressed file", origin=origin)
    return Encoded(origin, content)


def _encoded_avro(path: Path, file: BinaryIO) -> Iterator[Encoded]:
    origin = str(path)
    size = os.fstat(file.fileno()).st_size
    if size <= _WHOLE_FILE_BYTES:
        file.seek(size)
        yield Encoded(origin, path)
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        try:
            for piece, count in avro.split_container(buffer, _PIECE_BYTES):
                file.seek(len(piece), os.SEEK_CUR)
                yield Encoded(origin, piece, count)
        except AvroError as error:
            yield Encoded(origin, Reject(str(error), origin=origin))


def _encoded_tar(origin: str, stream: BinaryIO) -> Iterator[Encoded]:
    try:
        # "r|" reads strictly forward: nothing is unpacked, nothing is kept. Without ignore_zeros
        # a damaged header would silently end the archive.
        with tarfile.open(fileobj=stream, mode="r|", ignore_zeros=True) as archive:
            end = 0
            for member in archive:
                archive.members = []  # or the list of members grows with the archive
                if member.offset - end > _TAR_PADDING_BYTES:
                    yield _tar_gap(origin, member.offset - end)
                end = member.offset_data + member.size
                extracted = archive.extractfile(member) if member.isreg() else None
                if extracted is None or not member.name.lower().endswith(".avro"):
                    continue
                yield _whole(f"{origin}:{member.name}", cast(BinaryIO, extracted))
            if archive.offset - end > 2 * _TAR_PADDING_BYTES:
                yield _tar_gap(origin, archive.offset - end)
    except _DAMAGED as error:
        reason = f"damaged archive: {error}; the rest of it cannot be read"
        yield Encoded(origin, Reject(reason, origin=origin))


def _tar_gap(origin: str, size: int) -> Encoded:
    reason = f"damaged archive: {size} bytes are no archive members"
    return Encoded(origin, Reject(reason, origin=origin))


def _encoded_parquet(path: Path, file: BinaryIO, histories: bool) -> Iterator[Encoded]:
    import pyarrow
    from pyarrow import parquet

    origin = str(path)
    try:
        table = parquet.ParquetFile(path)
        skip = skipped_fields(histories)
        columns = [name for name in table.schema_arrow.names if name not in skip]
        size, rows = os.fstat(file.fileno()).st_size, 0
        for batch in table.iter_batches(_PARQUET_ROWS, columns=columns, use_threads=False):
            rows += batch.num_rows
            file.seek(size * rows // table.metadata.num_rows)
            yield Encoded(origin, batch.to_pylist(), batch.num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        reason = f"damaged Parquet: {str(error).splitlines()[0]:.200}"
        yield Encoded(origin, Reject(reason, origin=origin))


# --- JSON --------------------------------------------------------------------------------------


def _encoded_json(origin: str, stream: BinaryIO) -> Iterator[Encoded]:
    documents = _json_documents(io.TextIOWrapper(stream, "utf-8", errors="replace"))
    try:
        while batch := list(itertools.islice(documents, 16)):
            for refused, group in itertools.groupby(batch, lambda d: isinstance(d, Reject)):
                if refused:
                    for reject in cast(Iterator[Reject], group):
                        reject = dataclasses.replace(reject, origin=origin)
                        yield Encoded(origin, reject)
                else:
                    records = cast(list[Mapping[str, Any]], list(group))
                    yield Encoded(origin, records, len(records))
    except _DAMAGED as error:
        yield Encoded(origin, Reject(f"damaged gzip: {error}", origin=origin))


def _json_documents(text: io.TextIOWrapper) -> Iterator[Mapping[str, Any] | Reject]:
    """The documents of a JSON array, of JSON lines, or of documents one after the other."""
    decoder = json.JSONDecoder(object_hook=_from_extended)
    buffer, more = "", True
    while True:
        buffer = buffer.lstrip(" \t\r\n,[]")
        try:
            document, end = decoder.raw_decode(buffer)
        except (ValueError, RecursionError) as error:
            if more and len(buffer) < _MAX_DOCUMENT_BYTES:  # perhaps only half of it was read
                chunk = text.read(max(_PIECE_BYTES, len(buffer)))
                buffer, more = buffer + chunk, bool(chunk)
                continue
            if not buffer:
                return
            yield Reject(f"damaged JSON: {error}")
            # a damaged line costs that line only; the end of a line is the next chance
            line_end = buffer.find("\n")
            if line_end < 0:
                return
            buffer = buffer[line_end:]
            continue
        if isinstance(document, Mapping):
            yield document
        else:
            yield Reject(f"damaged JSON: {document!r:.40} is not a packet")
        buffer = buffer[end:]


def _from_extended(value: dict[str, Any]) -> Any:
    """MongoDB extended JSON, both versions: `{"$numberLong": "1"}` -> 1, `$binary` -> bytes."""
    if len(value) > 2 or not any(key.startswith("$") for key in value):
        return value
    match value:
        case {"$binary": {"base64": str(text)}} | {"$binary": str(text)}:
            return b64decode(text)
        case {"$numberLong": str(text)} | {"$numberInt": str(text)}:
            return int(text[:40])
        case {"$numberDouble": str(text)}:
            return float(text)
        case {"$oid": plain} | {"$date": plain}:
            return plain
        case _:
            return value
