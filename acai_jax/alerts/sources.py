"""Paths -> alerts: Avro files, directories, tar archives, Parquet and JSON, read lazily.

Reading goes in two steps, so that worker processes can share the second: `encoded_alerts` finds
small pieces of undecoded packets, `decode` turns one piece into packets. Both keep the order,
and memory stays bounded by a few pieces, however large an archive is.
"""

import dataclasses
import io
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from isal import igzip

from acai_jax.alerts import avro, foreign
from acai_jax.alerts.archives import Content, tar_members
from acai_jax.alerts.columnar import parquet_records
from acai_jax.alerts.framing import FRAME_BYTES, is_schema, schema_number, schemas_near
from acai_jax.alerts.json_documents import json_documents
from acai_jax.alerts.packet import (
    AlertPacket,
    container_records,
    packet_or_reject,
    skipped_fields,
    wanted_fields,
)
from acai_jax.errors import (
    AcaiError,
    AvroError,
    MissingPackageError,
    PacketError,
    Reject,
    SourceError,
    reason_of,
)
from acai_jax.text import printable

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
    ".bin",
)
"""Files that are read when a directory is given; a file given by name is known by its bytes."""

_PIECE_BYTES: Final = 2**20
_WHOLE_FILE_BYTES: Final = 2 * 2**20  # Avro files up to this size are left to the workers whole
_MAX_MEMBER_BYTES: Final = 256 * 2**20
_MAX_MESSAGE_BYTES: Final = 64 * 2**20
_MAX_NAME: Final = 4096
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DOCUMENTS: Final = 16
_RECORD_BYTES: Final = 4 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """Some packets of one source, not yet decoded.

    Attributes:
        origin: file (and member) that they came from.
        content: an Avro container, the path of one, a framed message, decoded records, or a reject.
        count: how many packets to expect; a guess until they are decoded.
        source_bytes: how much of the source was read to get it, for progress bars.
        memory_bytes: about how much memory decoded records take.
        schema: of a framed message, as JSON.
        stretch: of a large file, what belongs to this piece; None: all of it.
    """

    origin: str
    content: bytes | Path | list[Mapping[str, Any] | Reject] | Reject
    count: int = 1
    source_bytes: int = 0
    memory_bytes: int = 0
    schema: bytes | None = None
    stretch: avro.Stretch | None = None

    def container(self) -> bytes:
        """The Avro container that the content is, or whose path it is."""
        if not isinstance(self.content, Path):
            return cast(bytes, self.content)
        if self.stretch is None:
            return self.content.read_bytes()
        head, start, end = self.stretch
        with self.content.open("rb") as file:
            found = file.read(head)
            file.seek(start)
            return found + file.read(end - start)


def read_alerts(paths: Paths, *, histories: bool = False) -> Iterator[AlertPacket | Reject]:
    """Reads alerts from files, directories and archives, in order, one at a time.

    Args:
        paths: one path or several: Avro containers (of any codec in Avro's specification), `.tar`
            and `.tar.gz` of them, Parquet as Fink stores alerts, (extended) JSON as Kowalski
            exports them or an archive's interface answers, Kafka messages in Confluent's framing
            (as `.bin`, their schemas as `schemas/NUMBER.json` beside them or their folder), or
            directories of such files, which are read in the order of their names.
        histories: also read `prv_candidates` and `fp_hists` (slower).

    Yields:
        One `AlertPacket` per alert, or a `Reject` with the reason for what cannot be read.

    Raises:
        SourceError: a path does not exist, or the only file is of no known kind.
        MissingPackageError: a file is Parquet, and pyarrow is not installed.

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
            raise SourceError(f"unreadable path: {error.strerror}: {_text(path)}") from None
        if is_folder:
            found = sorted(
                file
                for folder, _, names in os.walk(path, onerror=_raise_unreadable)
                for name in names
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
                if not is_schema(file := Path(folder) / name)
            )
            if not found:
                raise SourceError(f"no alerts in {path}: looked for {', '.join(SUFFIXES)}")
            files.extend(found)
        elif exists:
            files.append(path)
        else:
            raise SourceError(f"no such file or directory: {_text(path)}")
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
        origin = _text(path)
        try:
            with path.open("rb") as file:
                before = 0
                for encoded in _encoded_file(path, file, histories):
                    position = file.tell()
                    yield dataclasses.replace(encoded, source_bytes=position - before)
                    before = position
        except MissingPackageError:
            raise  # no fault of the file's
        except SourceError as error:
            if len(files) == 1:
                raise
            yield _rejected(origin, str(error))  # a long run goes on
        except Exception as error:
            yield _rejected(origin, f"{_unreadable(error)}; the rest of it is not read")


def decode(encoded: Encoded, *, histories: bool = False) -> Iterator[AlertPacket | Reject]:
    """Decodes one piece: a packet or a reject for each alert in it, in order.

    Whatever its bytes hold, nothing is raised.
    """
    try:
        yield from _decoded(encoded, histories)
    except Exception as error:
        yield Reject(_unreadable(error), origin=encoded.origin)


def _decoded(encoded: Encoded, histories: bool) -> Iterator[AlertPacket | Reject]:
    content, origin = encoded.content, encoded.origin
    if isinstance(content, Reject):
        yield content
        return
    if encoded.schema is not None:
        record = cast(bytes, content)[FRAME_BYTES:]
        yield bare_alert(encoded.schema, record, origin, histories=histories)
        return
    if isinstance(content, list):
        for record in content:
            yield record if isinstance(record, Reject) else packet_or_reject(record, origin)
        return
    for item in container_records(encoded.container(), histories=histories):
        if isinstance(item, AvroError):
            yield Reject(str(item), origin=origin)
        else:
            record, name = item
            yield packet_or_reject(record, origin, name)


def bare_alert(
    schema: bytes, record: bytes, origin: str, *, histories: bool = False
) -> AlertPacket | Reject:
    """The alert of an Avro record whose schema stands elsewhere.

    Raises:
        AvroError: the schema or the record is damaged.
    """
    found = avro.read_datum(schema, record, wanted_fields(histories))
    return packet_or_reject(found, origin, avro.record_name(schema))


def _rejected(origin: str, reason: str) -> Encoded:
    return Encoded(origin, Reject(reason, origin=origin))


def _unreadable(error: Exception) -> str:
    if isinstance(error, AcaiError):
        return reason_of(error)
    said = isinstance(error, OSError) and error.strerror
    reason = printable(said) if said else reason_of(error).removeprefix("internal error: ")
    return f"unreadable file: {reason}"


def _text(name: str | Path) -> str:
    """A file's name as text that tables and terminals can hold, even if it is not UTF-8."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"), _MAX_NAME)


def _encoded_file(path: Path, file: io.BufferedIOBase, histories: bool) -> Iterator[Encoded]:
    """The pieces of one file; the position of `file` tells how much of it is read."""
    origin = _text(path)
    magic = file.read(512)
    file.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        with cast(io.BufferedIOBase, igzip.open(file, "rb")) as unzipped:
            magic = unzipped.read(512)
            unzipped.seek(0)
            if magic.startswith(avro.MAGIC):
                yield from _encoded_member(origin, unzipped)
            else:
                yield from _encoded_stream(path, magic, unzipped, histories)
    elif magic.startswith(avro.MAGIC):
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE_FILE_BYTES:
            file.seek(size)
            yield Encoded(origin, path)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            try:
                for stretch, count in avro.container_stretches(buffer, _PIECE_BYTES):
                    file.seek(stretch[-1])
                    yield Encoded(origin, path, count, stretch=stretch)
            except AvroError as error:
                yield _rejected(origin, str(error))
    elif magic.startswith(b"PAR1"):
        size = os.fstat(file.fileno()).st_size
        for records, share, weight in parquet_records(path, origin, histories=histories):
            file.seek(int(size * share))
            yield Encoded(origin, records, len(records), memory_bytes=weight)
    elif path.suffix == ".avro" and not magic.lstrip().startswith((b"{", b"[")):
        file.seek(0, os.SEEK_END)
        yield _rejected(origin, f"not an Avro container: {foreign.not_a_container(magic)}")
    else:
        yield from _encoded_stream(path, magic, file, histories)


def _encoded_stream(
    path: Path, magic: bytes, stream: io.BufferedIOBase, histories: bool
) -> Iterator[Encoded]:
    origin = _text(path)
    if magic[257:262] == b"ustar":
        yield from _encoded_tar(path, stream)
    elif schema_number(magic, foreign.MAX_SCHEMA_ID):
        yield _encoded_message(path, origin, stream)
    elif magic.lstrip().startswith((b"{", b"[")):
        yield from _encoded_json(origin, stream, skipped_fields(histories))
    else:
        what = foreign.not_a_container(magic)
        raise SourceError(
            f"not a source of alerts: {origin} ({what}; its first bytes: {magic[:8]!r})"
        )


def _encoded_member(origin: str, stream: io.BufferedIOBase | Content) -> Iterator[Encoded]:
    """A compressed file or an archive's member, which holds one Avro container."""
    content = stream.read(_WHOLE_FILE_BYTES)
    part = stream.read(_PIECE_BYTES)
    if not part:
        yield Encoded(origin, content)
        return
    with tempfile.TemporaryFile() as unpacked:
        unpacked.write(content)
        while part and unpacked.tell() <= _MAX_MEMBER_BYTES:
            unpacked.write(part)
            part = stream.read(_PIECE_BYTES)
        if part:
            size = _MAX_MEMBER_BYTES // 2**20
            yield _rejected(origin, f"too large: more than {size} MiB in one compressed file")
            return
        unpacked.flush()
        with mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            yield from _split(origin, buffer)


def _split(origin: str, container: avro.Buffer) -> Iterator[Encoded]:
    try:
        for piece, count in avro.split_container(container, _PIECE_BYTES):
            yield Encoded(origin, piece, count)
    except AvroError as error:
        yield _rejected(origin, str(error))


def _encoded_message(path: Path, origin: str, stream: io.BufferedIOBase | Content) -> Encoded:
    """A message in Confluent's framing, which a file or an archive's member holds.

    Raises:
        SourceError: it is none, or its schema is not there.
    """
    raw = stream.read(_MAX_MESSAGE_BYTES)
    if stream.read(1):
        size = _MAX_MESSAGE_BYTES // 2**20
        raise SourceError(f"too large: {origin} has more than {size} MiB in one message")
    what = foreign.not_a_container(raw[:512])
    number = schema_number(raw, foreign.MAX_SCHEMA_ID)
    if number is None:
        raise SourceError(f"not a source of alerts: {origin} ({what})")
    try:
        return Encoded(origin, raw, schema=schemas_near(path).schema(number))
    except PacketError as error:
        raise SourceError(f"not a source of alerts: {origin} ({what}; {error})") from None


def _encoded_tar(path: Path, stream: io.BufferedIOBase) -> Iterator[Encoded]:
    origin = _text(path)
    for member, content in tar_members(stream):
        name = f"{origin}:{_text(member)}" if member else origin
        if isinstance(content, str):
            yield _rejected(name, content)
        elif member.lower().endswith(".avro"):
            yield from _encoded_member(name, content)
        elif member.lower().endswith(".bin"):
            try:
                yield _encoded_message(path, name, content)
            except SourceError as error:
                yield _rejected(name, str(error))
        else:
            yield _rejected(name, "archive member not read: no .avro file")


def _encoded_json(
    origin: str, stream: io.BufferedIOBase, skip: frozenset[str]
) -> Iterator[Encoded]:
    records: list[Mapping[str, Any] | Reject] = []
    weight = 0
    for document, size in json_documents(stream):
        if isinstance(document, Reject):
            records.append(dataclasses.replace(document, origin=origin))
        else:
            records.append({key: value for key, value in document.items() if key not in skip})
        weight += size
        if len(records) == _DOCUMENTS or weight > _RECORD_BYTES:
            yield Encoded(origin, records, len(records), memory_bytes=weight)
            records, weight = [], 0
    if records:
        yield Encoded(origin, records, len(records), memory_bytes=weight)
