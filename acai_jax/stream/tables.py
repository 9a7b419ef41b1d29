"""Tables that several workers append to, each row once: folders of Parquet files.

A table is `FOLDER/<topic>/<writer>-<first>-<last>.parquet`. A file appears by one rename, which is
the only moment of commitment: before it a row is not there, after it the row is there for good. Who
writes holds a lock of the folder, looks up which rows are there already, and adds the others.

A row with a `reason` has no scores, and stands only until one with scores comes. Then both are in
the files, as rows are never taken away, and readers leave the one without scores out.

Small files are merged now and then. The merged file's name covers the numbers of the files that it
replaces; if a crash leaves both, readers skip what is covered, and the next writer removes it.
"""

import contextlib
import fcntl
import io
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from acai_jax.errors import OutputError
from acai_jax.files import sync, write_atomically, write_file
from acai_jax.surveys import survey_of_table

PLACE: Final[Mapping[str, pl.DataType]] = {
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "timestamp": pl.Datetime("ms", "UTC"),
}
"""Where in Kafka a row comes from: columns of every table of a stream."""

_MERGED_FILES: Final = 32
_LARGEST_SPAN: Final = _MERGED_FILES**2  # files of this many writes are left as they are
_KEPT_SECONDS: Final = 8 * 86400  # brokers keep messages for a week: later nothing comes again
_SCORED: Final = pl.col("reason").is_null()
_OURS: Final = ("_row", "_scored", "_topic", "_partition", "_offset", "_stood_scored")
_NAME: Final = re.compile(r"([0-9a-f]{16})-(\d{8})-(\d{8})\.parquet")


class Part(NamedTuple):
    """A file of a table: who wrote it, and the numbers of the writes that it holds."""

    writer: str
    first: int
    last: int
    path: Path


class Added(NamedTuple):
    """What became of rows that were to be added.

    Attributes:
        rows: those that stand by these messages: added now, or when the same message came before.
            A row that another message brought is not among them.
        new: those of them that were added now.
        upgraded: how many of these took the place of a row without scores.
    """

    rows: pl.DataFrame
    new: pl.DataFrame
    upgraded: int


class StreamTable:
    """One writer of a table; others may write to the same folder at the same time.

    Args:
        folder: is made if need be.
        identity: columns that tell one alert from another; the first one tells most apart.
        model: column -> value that rows of the same model have; rows of other models are others.

    Raises:
        OutputError: the folder cannot be made.

    Example:
        >>> import tempfile; folder = Path(tempfile.mkdtemp())
        >>> rows = pl.DataFrame({"candid": [7, 7, 8], "offset": [0, 1, 2]}).with_columns(
        ...     topic=pl.lit("night"), partition=pl.lit(0, pl.Int32), reason=pl.lit(None, pl.String)
        ... )
        >>> StreamTable(folder, ("candid",)).add(rows).rows["offset"].to_list()
        [0, 2]
        >>> StreamTable(folder, ("candid",)).add(rows.tail(2)).rows["offset"].to_list()
        [2]
        >>> len(scan_tables(folder).collect())
        2
    """

    def __init__(
        self, folder: Path, identity: tuple[str, ...], model: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._identity = identity
        self._model = dict(model or {})
        self._writer = secrets.token_hex(8)
        self._known: dict[str, _Known] = {}
        with _clear_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, fcntl.LOCK_EX):
                for topic in _topics(folder):
                    _clean(folder / topic)

    def add(self, rows: pl.DataFrame) -> Added:
        """Adds the rows that are not there yet, or are there without scores only.

        Args:
            rows: with the columns of the identity and of `PLACE`, and `reason`.

        Raises:
            OutputError: they cannot be written; none of a topic's rows, or all of them, are there.
        """
        if rows.is_empty():
            return Added(rows, rows, 0)
        with _clear_errors(self.folder), _locked(self.folder, fcntl.LOCK_EX):
            self._refresh(rows["topic"].unique())
            on = list(self._identity)
            found = rows.with_row_index("_row").with_columns(_scored=_SCORED)
            found = found.join(self._earlier(rows), on=on, how="left")
            # those with scores first: of one alert's rows that come together, one is kept
            found = found.sort(~pl.col("_scored"), "_row")
            is_new = pl.col("_topic").is_null() | (pl.col("_scored") & ~pl.col("_stood_scored"))
            new = found.filter(is_new).unique(on, keep="first", maintain_order=True)
            again = found.filter(
                ~is_new,
                pl.col("_scored") == pl.col("_stood_scored"),
                pl.col("_topic") == pl.col("topic"),
                pl.col("_partition") == pl.col("partition"),
                pl.col("_offset") == pl.col("offset"),
            ).unique(on, keep="first", maintain_order=True)
            # of an alert that has got scores just now, nothing else is passed on
            again = again.join(new, on=on, how="anti")
            for part in new.partition_by("topic", maintain_order=True):
                self._write(part.sort("_row").drop(_OURS))
            upgraded = len(new) - new["_topic"].null_count()
            standing = pl.concat([new, again]).sort("_row").drop(_OURS)
            return Added(standing, new.drop(_OURS), upgraded)

    def close(self) -> None:
        """Merges what this writer has left in small files."""
        with contextlib.suppress(OSError), _locked(self.folder, fcntl.LOCK_EX):
            for topic, known in self._known.items():
                small = [part for part in known.own if _span(part) < _LARGEST_SPAN]
                if len(small) > 1:
                    self._merge(topic, small)

    def _earlier(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What stands of the rows' alerts: identity, place, and whether it has scores."""
        key = self._identity[0]
        wanted = rows[key].unique().implode()
        found = [
            known.rows.lazy()
            .filter(pl.col(key).is_in(wanted))
            .with_columns(topic=pl.lit(topic), _topic=pl.lit(topic))
            .select(*self._identity, "_topic", "_partition", "_offset", "_stood_scored")
            for topic, known in self._known.items()
            if known.rows is not None
        ]
        nothing = pl.LazyFrame(
            schema={name: rows.schema[name] for name in self._identity}
            | {"_topic": pl.String(), "_partition": pl.Int32(), "_offset": pl.Int64()}
            | {"_stood_scored": pl.Boolean()}
        )
        standing = pl.concat([nothing, *found]).sort("_stood_scored", descending=True)
        return standing.unique([*self._identity], keep="first", maintain_order=True).collect()

    def _refresh(self, topics: Iterable[str]) -> None:
        """Learns what all writers have written since the last time."""
        oldest = time.time() - _KEPT_SECONDS
        recent = (t for t in _topics(self.folder) if (self.folder / t).stat().st_mtime > oldest)
        wanted = {*recent, *topics}
        for topic in self._known.keys() - wanted:
            del self._known[topic]
        for topic in wanted:
            folder = self.folder / topic
            if not folder.is_dir():
                folder.mkdir()
                sync(self.folder)
            known = self._known.setdefault(topic, _Known())
            for part in _clean(folder):
                if part.last > known.seen.get(part.writer, 0):
                    known.learn(part, self._identities(part.path))

    def _identities(self, path: Path) -> pl.DataFrame | None:
        if not self._model.keys() <= pl.read_parquet_schema(path).keys():
            return None
        same = (pl.col(name) == value for name, value in self._model.items())
        return self._index(pl.scan_parquet(path).filter(*same))

    def _index(self, table: pl.LazyFrame) -> pl.DataFrame:
        names = [name for name in self._identity if name != "topic"]  # the folder's name tells it
        places = (pl.col("partition").alias("_partition"), pl.col("offset").alias("_offset"))
        scored = _SCORED if "reason" in table.collect_schema() else pl.lit(True)
        return table.select(*names, *places, _stood_scored=scored).collect()

    def _write(self, rows: pl.DataFrame) -> None:
        topic = rows["topic"][0]
        known = self._known[topic]
        # a number is never used again, even if writing fails after the rename
        known.number = max(known.number, known.seen.get(self._writer, 0)) + 1
        part = self._part(topic, known.number, known.number)
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        write_file(part.path, buffer.getbuffer())
        known.own.append(part)
        known.learn(part, self._index(rows.lazy()))
        while len(latest := known.own[-_MERGED_FILES:]) == _MERGED_FILES:
            spans = {_span(part) for part in latest}
            if len(spans) > 1 or spans.pop() >= _LARGEST_SPAN or not self._merge(topic, latest):
                break

    def _part(self, topic: str, first: int, last: int) -> Part:
        name = f"{self._writer}-{first:08d}-{last:08d}.parquet"
        return Part(self._writer, first, last, self.folder / topic / name)

    def _merge(self, topic: str, parts: list[Part]) -> bool:
        """Puts one file in the place of several; on a full disk they are left as they are."""
        try:
            merged = self._write_merged(topic, parts)
        except (OSError, pl.exceptions.PolarsError):
            return False
        known = self._known[topic]
        known.own = [*(part for part in known.own if part not in parts), merged]
        known.own.sort()
        for part in parts:
            part.path.unlink(missing_ok=True)
        return True

    def _write_merged(self, topic: str, parts: list[Part]) -> Part:
        merged = self._part(topic, parts[0].first, parts[-1].last)
        whole = pl.scan_parquet([part.path for part in parts])
        write_atomically(merged.path, lambda path: whole.sink_parquet(path))
        return merged


class _Known:
    """What one writer knows of a topic: the rows that are there, and the files seen."""

    def __init__(self) -> None:
        self.rows: pl.DataFrame | None = None
        self.seen: dict[str, int] = {}
        self.own: list[Part] = []
        self.number = 0

    def learn(self, part: Part, rows: pl.DataFrame | None) -> None:
        repeated = part.first <= self.seen.get(part.writer, 0) and part.first < part.last
        self.seen[part.writer] = part.last
        if rows is None:
            return
        self.rows = rows if self.rows is None else pl.concat([self.rows, rows], rechunk=False)
        if repeated:
            self.rows = self.rows.unique()
        elif self.rows.n_chunks() > _MERGED_FILES:
            self.rows = self.rows.rechunk()


def scan_table(path: str | os.PathLike[str]) -> pl.LazyFrame:
    """Reads a table, lazily: a Parquet file, or that of a stream, as `scan_tables` does."""
    return scan_tables(path) if Path(path).is_dir() else pl.scan_parquet(Path(path))


def scan_tables(folder: str | os.PathLike[str]) -> pl.LazyFrame:
    """Reads a table of a stream, lazily: what all workers have written, each alert once.

    An alert without scores that the same model has scored since is there with its scores only.
    While workers write, a file may be merged away before it is read; reading then fails, and the
    next attempt finds the merged one.

    Args:
        folder: of one topic, of a table with several, or the stream's output folder (its scores).

    Raises:
        OutputError: there is no such table in it.
    """
    folder = Path(folder)
    if (folder / "scores").is_dir():
        folder = folder / "scores"
    if not folder.is_dir():
        raise OutputError(f"no such folder: {folder}")
    with _clear_errors(folder), _locked(folder, fcntl.LOCK_SH):
        folders = [folder, *(folder / topic for topic in _topics(folder))]
        paths = [part.path for each in folders for part in _parts(each)[0]]
        if not paths:
            raise OutputError(f"no table of a stream in {folder}")
        return _standing(pl.concat([pl.scan_parquet(path) for path in paths], how="diagonal"))


def _standing(table: pl.LazyFrame) -> pl.LazyFrame:
    """The table without its rows without scores of alerts that the same model has scored, too."""
    names = table.collect_schema().names()
    if not {"preset", "reason"} <= {*names}:  # no table of scores, or all have them
        return table
    alert_id = survey_of_table(names).alert_id
    alert = [alert_id, "preset", *(name for name in names if name.endswith("_version"))]
    unscored = table.filter(~_SCORED).select(*alert, "reason").collect()
    if unscored.is_empty():  # nearly always; then the table is read as it is
        return table
    alerts = unscored[alert_id].unique().implode()
    scored = table.filter(_SCORED, pl.col(alert_id).is_in(alerts)).select(alert).collect()
    replaced = unscored.join(scored, on=alert, how="semi", nulls_equal=True).unique()
    return table.join(
        replaced.lazy(),
        on=[*alert, "reason"],  # which a scored row has not
        how="anti",
        nulls_equal=True,
        maintain_order="left",
    )


def _parts(folder: Path) -> tuple[list[Part], list[Path]]:
    """The files of a topic in order, and what a crash has left of earlier ones."""
    current: list[Part] = []
    leftovers: list[Path] = []
    found: list[Part] = []
    for name in os.listdir(folder):
        if match := _NAME.fullmatch(name):
            found.append(Part(match[1], int(match[2]), int(match[3]), folder / name))
        elif name.startswith(".") and name.endswith(".parquet.tmp"):
            leftovers.append(folder / name)
    for part in sorted(found, key=lambda part: (part.writer, part.first, -part.last)):
        before = current[-1] if current else None
        if before and before.writer == part.writer and part.last <= before.last:
            leftovers.append(part.path)
        else:
            current.append(part)
    return current, leftovers


def _clean(folder: Path) -> list[Part]:
    """The files of a topic, once leftovers are removed; only under the lock, when nobody writes."""
    current, leftovers = _parts(folder)
    for path in leftovers:
        path.unlink(missing_ok=True)
    return current


def _span(part: Part) -> int:
    return part.last - part.first + 1


def _topics(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise OutputError(f"cannot use {place}: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        raise OutputError(f"damaged file in {folder}: {error}") from error
