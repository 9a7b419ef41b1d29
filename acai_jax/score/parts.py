"""A score table written part by part: a killed run leaves readable files, and can be resumed.

While a run is under way, `scores.parquet.parts/` holds one Parquet file for every stretch of
chunks, named by the chunks that it covers, and `run.json`, which says what run they belong to. It
is written first and removed first: without it there is no run under way. At the end the parts
become one file. Every file is on the disk before it has its name: a power cut takes back no part.
"""

import json
import os
import re
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import polars as pl

from acai_jax.errors import OutputError, UsageError
from acai_jax.files import lock_folder, put_in_place, sync, write_atomically, write_file
from acai_jax.score.columns import REASON_KIND

_PART_ROWS: Final = 20_000
_PART_SECONDS: Final = 30.0
_RUN_KEY: Final = "acai_jax_run"  # of the finished file's metadata


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
        OutputError: `out` or parts of it exist and neither flag is given, they belong to another
            run, or another process is writing them.

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
        check_output(out, resume=resume, overwrite=overwrite)
        self.out = Path(out)
        self.folder = _parts_folder(self.out)
        self.chunks_done = 0
        self.problems: list[str] = []
        """What of an earlier run is of no use, and is done again; for people."""
        self._run_file = self.folder / "run.json"
        self._run = json.dumps(run, indent=1, sort_keys=True)
        self._tables: list[pl.DataFrame] = []
        self._rows = 0
        self._last_write = time.monotonic()
        self._first_chunk = 0
        self.complete = resume and self._is_finished()
        """True where a resumed run has nothing left to do."""
        if self.complete and not self.folder.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.folder)
        try:
            if self.complete:  # a crash came between the finished file and the end
                self._remove_folder()
                os.close(self._lock)
            else:
                self._prepare_folder(overwrite)
        except BaseException:
            os.close(self._lock)
            raise
        self._first_chunk = self.chunks_done

    def _is_finished(self) -> bool:
        """Whether the file of this run is there, and no run is under way that would replace it."""
        if not self.out.exists() or self._run_file.exists():
            return False
        try:
            earlier = pl.read_parquet_metadata(self.out).get(_RUN_KEY, "{}")
        except pl.exceptions.PolarsError:
            self.problems.append(f"{self.out} cannot be read: all is done again")
            return False
        self._check_same_run(self.out, json.loads(earlier))
        return True

    def _prepare_folder(self, overwrite: bool) -> None:
        earlier = None if overwrite else self._earlier_run()
        if earlier is not None:
            self._check_same_run(self.folder, earlier)
            self._drop_useless_parts()
            return
        self._run_file.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        write_file(self._run_file, self._run.encode())
        sync(self.folder.parent)

    def _earlier_run(self) -> dict[str, Any] | None:
        if not self._run_file.exists():
            return None
        try:
            return dict(json.loads(self._run_file.read_bytes()))
        except (ValueError, TypeError):
            self.problems.append(f"{self._run_file} cannot be read: all is done again")
            return None

    def _check_same_run(self, found: Path, earlier: dict[str, Any]) -> None:
        run = json.loads(self._run)
        if changed := sorted(key for key in run | earlier if run.get(key) != earlier.get(key)):
            raise OutputError(
                f"{found} belongs to another run ({', '.join(changed)} differ): "
                "--overwrite starts again"
            )

    def _drop_useless_parts(self) -> None:
        """Counts the chunks that are done; leaves nothing that a crash has damaged."""
        parts = self._parts()
        for first, last, path in parts:
            follows = first == self.chunks_done
            if follows and _is_readable(path):
                self.chunks_done = last
                continue
            if not self.problems:
                why = "cannot be read" if follows else "comes after a gap"
                again = f"chunks from {self.chunks_done + 1:,} on are done again"
                self.problems.append(f"{path} {why}: {again}")
            path.unlink()
        for path in {*self.folder.iterdir()} - {self._run_file, *(path for _, _, path in parts)}:
            path.unlink()

    def _parts(self) -> list[tuple[int, int, Path]]:
        """(first chunk, chunk after the last, file) of every part, in order."""
        found = []
        for path in self.folder.iterdir():
            if match := re.fullmatch(r"part-(\d+)-(\d+)\.parquet", path.name):
                found.append((int(match[1]), int(match[2]), path))
        return sorted(found)

    def _files(self) -> list[Path]:
        """The parts; or the finished file, once there are none."""
        return [path for _, _, path in self._parts()] if self.folder.exists() else [self.out]

    def rows_done(self) -> int:
        """Rows that are written."""
        files = self._files()
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
            write_atomically(self.folder / name, lambda path: table.write_parquet(path))
        self._tables, self._rows, self._first_chunk = [], 0, self.chunks_done
        self._last_write = time.monotonic()

    def summary(self) -> pl.DataFrame:
        """Rows per kind of reason (null: scored), over the parts or the finished file."""
        counts = pl.scan_parquet(self._files()).group_by(REASON_KIND).len()
        return counts.sort("len", descending=True).collect()

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
        try:
            self._write_part()
            if error is None:
                self._finish()
        finally:
            os.close(self._lock)

    def _finish(self) -> None:
        files = self._files()
        if files:
            whole = self.folder / "whole.parquet"
            pl.scan_parquet(files).sink_parquet(whole, metadata={_RUN_KEY: self._run})
            put_in_place(whole, self.out)
        self._remove_folder()
        if not files:
            raise OutputError("nothing to write: the sources hold no alerts")

    def _remove_folder(self) -> None:
        self._run_file.unlink(missing_ok=True)
        sync(self.folder)
        shutil.rmtree(self.folder)


def _is_readable(part: Path) -> bool:
    try:
        pl.read_parquet(part)  # all of it: a footer may be there without what it tells of
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


def check_output(out: str | os.PathLike[str], *, resume: bool, overwrite: bool) -> None:
    """Raises an `AcaiError` if a run may not write to `out`, before any work is done."""
    out = Path(out)
    if out.suffix != ".parquet":
        raise UsageError(f"{out} should end in .parquet")
    if out.is_dir():
        raise OutputError(f"{out} is a folder")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    for found in (out, _parts_folder(out)):
        if found.exists() and not (resume or overwrite):
            raise OutputError(f"{found} exists: --resume goes on with it, --overwrite replaces it")


def _parts_folder(out: Path) -> Path:
    return out.with_name(out.name + ".parts")
