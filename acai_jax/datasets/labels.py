"""labels.csv: which class people gave to which alert."""

import array
import csv
import dataclasses
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from acai_jax.errors import LabelsError
from acai_jax.text import FORMULA

COLUMNS: Final = ("oid", "candid", "label")
"""Columns that a labels file must have, named as the original ACAI named them."""
WHY: Final = "why"
"""A column that a labels file may have: why a person was asked for the label."""
ACTIVE: Final = ("boundary", "disagreement", "relabel", "confident")
"""Those reasons by which a model chose the alert: such alerts are no fair sample of any night."""

_MAX_LABEL: Final = 64
_INT64: Final = range(-(2**63), 2**63)


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one file.

    Attributes:
        table: columns alert_id (Int64), object_id and label (String), one row per alert, by
            alert_id.
        duplicates: how many rows only repeated an earlier one.
        active: alerts whose `WHY` is one of `ACTIVE`.
        extra_columns: columns of the file that nothing here reads.
        sha256: digest of the file.
    """

    table: pl.DataFrame
    duplicates: int
    active: frozenset[int]
    extra_columns: tuple[str, ...]
    sha256: str


def read_labels(path: str | os.PathLike[str]) -> Labels:
    r"""Reads a labels file: CSV with the columns oid, candid and label, in any order.

    Args:
        path: the file. Labels may be any short text: new classes are welcome. Further columns
            are allowed, `WHY` among them.

    Raises:
        LabelsError: the file is missing, empty or no such table; a candid is no integer, a name or
            a label is empty or begins like a formula, or one alert has two different labels. The
            message names the line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> _ = path.write_text("oid,candid,label\nZTF20aaelulu,1105522281015015000,h\n")
        >>> read_labels(path).table.row(0)
        (1105522281015015000, 'ZTF20aaelulu', 'h')
    """
    path = Path(path)
    alert_ids, lines = array.array("q"), array.array("q")
    names: list[str] = []
    labels: list[str] = []
    active: set[int] = set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = _header(path, reader)
            order = [header.index(name) for name in COLUMNS]
            why = header.index(WHY) if WHY in header else None
            for line, fields in _rows(path, reader, len(header)):
                oid, alert_id, label = (fields[index].strip() for index in order)
                alert_ids.append(_alert_id(path, line, alert_id))
                names.append(_text(path, line, "oid", oid))
                labels.append(sys.intern(_text(path, line, "label", label)))
                if why is not None and fields[why].strip() in ACTIVE:
                    active.add(alert_ids[-1])
                lines.append(line)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LabelsError(f"cannot read labels: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise LabelsError(f"{path} is not UTF-8 text") from None
    if not names:
        raise LabelsError(f"{path} holds no labels, only a header")
    table = pl.DataFrame(
        {"alert_id": alert_ids, "object_id": names, "label": labels, "line": lines},
        schema={"alert_id": pl.Int64, "object_id": pl.String, "label": pl.String, "line": pl.Int64},
    )
    unique = table.unique(["alert_id", "object_id", "label"], keep="first").sort("alert_id", "line")
    _refuse_conflicts(path, unique)
    extra = tuple(name for name in header if name not in (*COLUMNS, WHY))
    repeated = len(table) - len(unique)
    return Labels(unique.drop("line"), repeated, frozenset(active), extra, digest)


def _header(path: Path, reader: Iterator[list[str]]) -> Sequence[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise LabelsError(f"{path}, line 1: {error}") from None
    if not header:
        raise LabelsError(f"{path} is empty: expected the columns {', '.join(COLUMNS)}")
    for name in COLUMNS:
        if header.count(name) != 1:
            found = ", ".join(header)
            problem = "twice" if name in header else "missing"
            raise LabelsError(f"{path}, line 1: column {name} is {problem}; found: {found:.200}")
    return header


def _rows(path: Path, reader: "csv._reader", width: int) -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LabelsError(f"{path}, line {reader.line_num}: {error}") from None
        if not fields:
            continue  # a blank line, as editors leave at the end
        if len(fields) != width:
            problem = f"{len(fields)} fields, where the header has {width}"
            raise LabelsError(f"{path}, line {reader.line_num}: {problem}")
        yield reader.line_num, fields


def _alert_id(path: Path, line: int, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or int(text) not in _INT64:
        # a spreadsheet that made it 1.1e18 has lost the last digits
        problem = f"{COLUMNS[1]} is {text!r:.40}, not a 64-bit integer"
        raise LabelsError(f"{path}, line {line}: {problem}")
    return int(text)


def _text(path: Path, line: int, column: str, text: str) -> str:
    if not text:
        raise LabelsError(f"{path}, line {line}: {column} is empty")
    if len(text) > _MAX_LABEL or not text.isprintable():
        problem = f"{column} is {text!r:.80}, not short text of one line"
        raise LabelsError(f"{path}, line {line}: {problem}")
    if re.match(FORMULA, text):
        # files of labels are opened in spreadsheets, and names must stay as they are
        problem = f"{column} is {text!r:.80}, which begins like a spreadsheet's formula"
        raise LabelsError(f"{path}, line {line}: {problem}")
    return text


def _refuse_conflicts(path: Path, table: pl.DataFrame) -> None:
    twice = table.filter(pl.col("alert_id").is_duplicated())
    if len(twice):
        first, second = twice.rows(named=True)[:2]
        raise LabelsError(
            f"{path}, line {second['line']}: {COLUMNS[1]} {first['alert_id']} is "
            f"{second['label']!r} of {second['object_id']}, "
            f"but {first['label']!r} of {first['object_id']} in line {first['line']}"
        )
