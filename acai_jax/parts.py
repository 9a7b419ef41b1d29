"""A score table written part by part: a killed run leaves readable files, and can be resumed.

While a run is under way, `scores.parquet.parts/` holds one Parquet file for every stretch of
chunks, named by the chunks that it covers, and `run.json`, which says what run they belong to. At
the end they become one file.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import polars as pl

from acai_jax.errors import OutputError

_PART_ROWS: Final = 20_000
_PART_SECONDS: Final = 30.0


class PartWriter:
    """Writes the tables of consecutive chunks to one Parquet file, safely.

    Use it as a context manager: leaving it without an error completes the file, leaving it with
    one keeps the parts for a later run.

    Args:
        out: the file to make.
        run: what decides the rows: inputs, preset, models. A resumed run must have the same.
        resume: go on where an earlier run stopped; if there is none, start.
        overwrite: replace what is there.

    Raises:
        OutputError: `out` or parts of it exist and neither flag is given, or the parts belong to
            another run.

    Example:
        >>> import tempfile; folder = tempfile.mkdtemp()
        >>> with PartWriter(Path(folder) / "scores.parquet", {"preset": "acai"}) as writer:
        ...     writer.add(pl.DataFrame({"candid": [1]}))
        >>> pl.read_parquet(folder + "/scores.parquet")["candid"].to_list()
        [1]
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        run: dict[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.out = Path(out)
        self.folder = self.out.with_name(self.out.name + ".parts")
        self.complete = resume and self.out.is_file() and not self.folder.exists()
        """True where a resumed run has nothing left to do."""
        self.chunks_done = 0
        self._tables: list[pl.DataFrame] = []
        self._rows = 0
        self._first_chunk = 0
        self._last_write = time.monotonic()
        if self.complete:
            return
        self._prepare_folder(json.loads(json.dumps(run)), resume, overwrite)
        self._first_chunk = self.chunks_done

    def _prepare_folder(self, run: dict[str, Any], resume: bool, overwrite: bool) -> None:
        run_file = self.folder / "run.json"
        if overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not resume:
            for found in (self.out, self.folder):
                if found.exists():
                    raise OutputError(
                        f"{found} exists: --resume goes on with it, --overwrite replaces it"
                    )
        if run_file.exists():
            earlier = json.loads(run_file.read_text())
            if changed := sorted(k for k in run | earlier if run.get(k) != earlier.get(k)):
                raise OutputError(
                    f"{self.folder} belongs to another run ({', '.join(changed)} differ): "
                    "--overwrite starts again"
                )
            self.chunks_done = self._find_chunks_done()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            _write_atomically(run_file, lambda path: path.write_text(json.dumps(run, indent=1)))

    def _find_chunks_done(self) -> int:
        done = 0
        for first, last, path in self._parts():
            if first != done:  # cannot happen unless somebody removed a part
                path.unlink()
            else:
                done = last
        return done

    def _parts(self) -> list[tuple[int, int, Path]]:
        """(first chunk, chunk after the last, file) of every part, in order."""
        found = []
        for path in self.folder.iterdir():
            if match := re.fullmatch(r"part-(\d+)-(\d+)\.parquet", path.name):
                found.append((int(match[1]), int(match[2]), path))
        return sorted(found)

    def rows_done(self) -> int:
        """Rows in the parts that are written."""
        files = [path for _, _, path in self._parts()]
        return pl.scan_parquet(files).select(pl.len()).collect().item() if files else 0

    def add(self, table: pl.DataFrame) -> None:
        """Takes the table of the next chunk; writes a part now and then."""
        self._tables.append(table)
        self._rows += len(table)
        self.chunks_done += 1
        if self._rows >= _PART_ROWS or time.monotonic() - self._last_write > _PART_SECONDS:
            self._write_part()

    def _write_part(self) -> None:
        if self._tables:
            table = pl.concat(self._tables)
            name = f"part-{self._first_chunk:09d}-{self.chunks_done:09d}.parquet"
            _write_atomically(self.folder / name, lambda path: table.write_parquet(path))
        self._tables, self._rows, self._first_chunk = [], 0, self.chunks_done
        self._last_write = time.monotonic()

    def summary(self) -> pl.DataFrame:
        """Rows per kind of reason (null: scored), over the parts or the finished file."""
        files: Iterable[Path] = (
            [self.out]
            if self.out.exists() and not self.folder.exists()
            else [path for _, _, path in self._parts()]
        )
        kind = pl.col("reason").str.split(":").list.first()
        return (
            pl.scan_parquet(list(files)).group_by(kind).len().sort("len", descending=True).collect()
        )

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.complete:
            return
        self._write_part()
        if error is not None:
            return
        files = [path for _, _, path in self._parts()]
        if not files:
            raise OutputError("nothing to write: the sources hold no alerts")
        _write_atomically(self.out, lambda path: pl.scan_parquet(files).sink_parquet(path))
        shutil.rmtree(self.folder)


def _write_atomically(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
