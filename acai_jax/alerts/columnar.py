"""Parquet files of alerts -> records, a few rows at a time, in bounded memory.

Only the columns that a packet has are read. A few bytes of Parquet can stand for gigabytes, so
sizes are looked at before values are made: of a row group in the file's footer, of a row in what
Arrow has read, where a value that repeats is kept once.

Source: Apache Parquet format 2.11, "Metadata" and "Encodings".
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from acai_jax.alerts.foreign import NOT_AN_ALERT, TELLING, survey_of
from acai_jax.alerts.packet import reject_of
from acai_jax.errors import PacketError, Reject, reason_of
from acai_jax.extras import need
from acai_jax.surveys import SURVEYS

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

Records = list[Mapping[str, Any] | Reject]

_ROWS: Final = 64
_MAX_FOOTER_BYTES: Final = 32 * 2**20
_FREE_GROUP_BYTES: Final = 128 * 2**20  # larger row groups must not unfold too much
_MAX_RATIO: Final = 16
_SMALL_CHUNK_BYTES: Final = 2**17
_BATCH_BYTES: Final = 32 * 2**20
_BYTES_OF_VALUE: Final = 64  # as a Python object, about

_KNOWN: Final = tuple(SURVEYS.values())
_RECORDS: Final = {each.record: each.alert_id for each in _KNOWN}
_NAMES: Final = tuple(
    dict.fromkeys(name for each in _KNOWN for name in (each.object_id, each.alert_id))
)
_IDENTITY: Final = (*_NAMES, *(f"i:{name}" for name in _NAMES))
_ARRANGED_FROM: Final = tuple(name for each in _KNOWN for name in each.arranged_from)
_TOP_FIELDS: Final = (*_IDENTITY, "schemavsn", "publisher")
_NESTED: Final = (*dict.fromkeys(name for each in _KNOWN for name in each.cutouts), *_RECORDS)
_INNER_FIELDS: Final = frozenset({"stampData", *_RECORDS.values()}).union(
    *(each.table_fields for each in _KNOWN)
)


def parquet_records(
    path: Path, origin: str, *, histories: bool = False
) -> Iterator[tuple[Records, float, int]]:
    """The rows of a file, as records and rejects, in order.

    Args:
        path: of the file.
        origin: the file's name, for rejects.
        histories: read every column, not only what a score needs.

    Yields:
        (some rows, the share of all rows that is read, about how many bytes the records take).

    Raises:
        MissingPackageError: pyarrow is not installed.
        Exception: of many types, where the file has no sound footer.
    """
    need("parquet")
    import pyarrow
    from pyarrow import parquet

    with pyarrow.OSFile(os.fsencode(path)) as source:
        _check_footer(source)
        metadata = parquet.read_metadata(source)
        schema = metadata.schema.to_arrow_schema()
        marks = dict.fromkeys(TELLING.intersection(schema.names))
        columns = list(schema.names) if histories else _columns_of_packets(metadata, schema)
        if not columns:
            reason = f"{_why_no_packets(marks)} ({metadata.num_rows} rows)"
            yield [Reject(reason, origin=origin)], 1.0, 0
            return
        repeated = _repeated_columns(metadata, columns)
        table = parquet.ParquetFile(source, metadata=metadata, read_dictionary=repeated)
        done = 0
        for group in range(metadata.num_row_groups):
            for records, rows, weight in _group_records(table, group, columns, origin):
                done += rows
                if marks:
                    records = [_marked(record, marks) for record in records]
                yield records, done / max(1, metadata.num_rows), weight


def _why_no_packets(marks: Mapping[str, None]) -> str:
    try:
        survey_of(marks)
    except PacketError as error:
        return str(error)
    needed = (f"{each.record}, {each.object_id} and {each.alert_id}" for each in _KNOWN)
    return f"{NOT_AN_ALERT}: a table without {', or '.join(needed)}"


def _marked(
    record: Mapping[str, Any] | Reject, marks: Mapping[str, None]
) -> Mapping[str, Any] | Reject:
    return record if isinstance(record, Reject) else {**marks, **record}


def _check_footer(source: "pyarrow.NativeFile") -> None:
    size = source.size()
    source.seek(max(0, size - 8))
    length = int.from_bytes(source.read(4), "little")
    if _MAX_FOOTER_BYTES < length < size:
        raise PacketError(f"too large: a Parquet file whose footer has {length} bytes")
    source.seek(0)


def _columns_of_packets(metadata: "parquet.FileMetaData", schema: "pyarrow.Schema") -> list[str]:
    """What a packet without histories is made of, as dotted names.

    Of their fields, that is what score tables carry, and all other plain numbers.
    """
    from pyarrow import types

    columns = [name for name in (*_TOP_FIELDS, *_NESTED) if name in schema.names]
    for name in [name for name in _NESTED if name in columns]:
        kind = schema.field(name).type
        if types.is_struct(kind):
            columns.remove(name)
            columns += [
                f"{name}.{child.name}"
                for child in (kind.field(i) for i in range(kind.num_fields))
                if child.name in _INNER_FIELDS
                or (name in _RECORDS and types.is_primitive(child.type))
            ]
    # of an array of records, a leaf has a path such as NAME.list.element.FIELD
    leaves = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    for name in _ARRANGED_FROM if columns else ():
        top, dot, field = name.partition(".")
        inner = [leaf for leaf in leaves if leaf.partition(".")[0] == top]
        if field:
            columns += [leaf for leaf in inner if leaf.endswith(f".{field}")]
        else:
            columns += inner[:1] if dot else inner  # one tells how many records there are
    return columns


def _chunks(
    group: "parquet.RowGroupMetaData", columns: Sequence[str]
) -> Iterator["parquet.ColumnChunkMetaData"]:
    """What a row group's footer says of the leaves of some columns."""
    wanted = frozenset(columns)
    for index in range(group.num_columns):
        chunk = group.column(index)
        path = chunk.path_in_schema
        while path not in wanted and "." in path:
            path = path.rpartition(".")[0]
        if path in wanted:
            yield chunk


def _repeated_columns(metadata: "parquet.FileMetaData", columns: Sequence[str]) -> list[str]:
    """Columns of bytes in which large values are stored once for many rows."""
    return list(
        {
            chunk.path_in_schema
            for group in range(metadata.num_row_groups)
            for chunk in _chunks(metadata.row_group(group), columns)
            if chunk.physical_type == "BYTE_ARRAY"
            and chunk.total_uncompressed_size > _SMALL_CHUNK_BYTES
            and any("DICTIONARY" in encoding for encoding in chunk.encodings)
        }
    )


def _rows_at_once(group: "parquet.RowGroupMetaData", columns: Sequence[str]) -> int:
    """How many rows to read at once; raises if even one by one they would take too much."""
    stored = unfolded = chained = 0
    for chunk in _chunks(group, columns):
        size = chunk.total_uncompressed_size
        stored += chunk.total_compressed_size
        unfolded += max(size, 8 * chunk.num_values)
        # in these encodings each value can be as long as all that is stored
        if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY" or "DELTA_BYTE_ARRAY" in chunk.encodings:
            chained += size if size > _SMALL_CHUNK_BYTES else 0
    if unfolded > max(_FREE_GROUP_BYTES, _MAX_RATIO * stored):
        raise PacketError(
            f"too large: {stored} bytes of Parquet that unfold to {unfolded // 2**20} MiB"
        )
    return max(1, min(_ROWS, _BATCH_BYTES // max(1, chained)))


def _group_records(
    table: "parquet.ParquetFile", group: int, columns: Sequence[str], origin: str
) -> Iterator[tuple[Records, int, int]]:
    """(records, rows, weight) of a row group; what cannot be read of it is one reject or more."""
    metadata = table.metadata.row_group(group)
    done, problem = 0, None
    try:
        try:
            rows = _rows_at_once(metadata, columns)
        except PacketError as error:  # which alerts these are can be read all the same
            identity = (*_IDENTITY, *(f"{record}.{name}" for record, name in _RECORDS.items()))
            columns = [chunk.path_in_schema for chunk in _chunks(metadata, identity)]
            problem = error if columns else None
            if not columns:
                raise
            rows = _rows_at_once(metadata, columns)
        for batch in table.iter_batches(
            rows, row_groups=[group], columns=list(columns), use_threads=False
        ):
            for records, count, weight in batch_records(batch, origin, problem):
                done += count
                yield records, count, weight
    except Exception as error:
        lost = metadata.num_rows - done
        reason = reason_of(error).removeprefix("internal error: ")
        if not isinstance(error, PacketError):
            reason = f"unreadable Parquet: {reason}"
        yield [Reject(f"{reason} ({lost} rows are lost with it)", origin=origin)], lost, 0


def batch_records(
    batch: "pyarrow.RecordBatch", origin: str | None = None, problem: PacketError | None = None
) -> Iterator[tuple[Records, int, int]]:
    """The rows of a batch; those that are too large, or have no place in Python, are rejects."""
    failure: Exception | None = problem
    if failure is None:
        try:
            weight = sum(map(_weight, batch.columns))
            if weight <= _BATCH_BYTES:
                yield batch.to_pylist(), batch.num_rows, weight
                return
            failure = PacketError(f"too large: a row of {weight // 2**20} MiB")
        except Exception as error:
            reason = reason_of(error).removeprefix("internal error: ")
            failure = PacketError(f"unreadable Parquet: a value has no place in Python: {reason}")
    if batch.num_rows > 1:
        middle = batch.num_rows // 2
        yield from batch_records(batch.slice(0, middle), origin, problem)
        yield from batch_records(batch.slice(middle), origin, problem)
    else:
        yield [reject_of(failure, _identity(batch), origin)], 1, 0


def _weight(column: "pyarrow.Array") -> int:
    """About how many bytes the values take as Python objects, at the most."""
    from pyarrow import types
    from pyarrow.compute import call_function

    kind = column.type
    if types.is_dictionary(kind):
        lengths = call_function("binary_length", [column.dictionary])
        total = call_function("sum", [lengths.take(column.indices)]).as_py()
        return len(column) * _BYTES_OF_VALUE + (total or 0)
    if types.is_struct(kind):
        inner = sum(map(_weight, column.flatten()))
    elif types.is_nested(kind):
        inner = _weight(column.flatten()) if hasattr(column, "flatten") else 8 * column.nbytes
    else:
        inner = column.nbytes
    return inner + _BYTES_OF_VALUE * len(column)


def _identity(row: "pyarrow.RecordBatch") -> dict[str, Any]:
    """What tells whose alert a row is, as far as it can be read."""
    found: dict[str, Any] = {}
    for name in (*_IDENTITY, *_RECORDS):
        try:
            column = row.column(name)
            if _weight(column) <= _BATCH_BYTES:
                value = column[0]
                inner = _RECORDS.get(name)
                found[name] = {inner: value[inner].as_py()} if inner else value.as_py()
        except Exception:  # not there, or what is wrong with the row
            continue
    return found
