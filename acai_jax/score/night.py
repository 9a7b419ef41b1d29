"""A night of alerts, scored to one file: the run may be killed anywhere, and goes on later."""

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from acai_jax.alerts.sources import Paths, source_files
from acai_jax.score.parts import PartWriter, check_output
from acai_jax.surveys import Preset

if TYPE_CHECKING:  # with it comes JAX, for which mistakes need not wait
    from acai_jax.score.scorer import Scorer


def score_night(
    scorer: "Scorer | Callable[[], Scorer]",
    paths: Paths,
    out: str | os.PathLike[str],
    preset: Preset | None = None,
    *,
    num_workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    begin: Callable[[PartWriter, int], object] = lambda writer, total_bytes: None,
    advance: Callable[[pl.DataFrame, int], object] = lambda table, source_bytes: None,
) -> pl.DataFrame:
    """Scores every alert behind `paths`, and writes the table part by part.

    Args:
        scorer: scores them; or what loads it, once the paths and `out` are known to be good.
        paths: as for `Scorer.score`; what this function writes there is left out.
        out: the Parquet file to write; parts of it stand in OUT.parts until it is complete.
        preset: as for `Scorer.score`.
        num_workers: as for `Scorer.score`.
        resume: go on where an earlier run stopped.
        overwrite: replace `out`, or parts of it.
        begin: told what is there already, and the size of all sources [byte].
        advance: told the next rows, and how much of the sources they took [byte].

    Returns:
        `reason`, its kind only (null: scored), and `len`, the number of such rows of the file.

    Raises:
        SourceError: a path does not exist, or is of no known kind.
        OutputError: as for `PartWriter`.
        UsageError: `out` is no .parquet file, or both `resume` and `overwrite` are given.

    Example:
        >>> kinds = score_night(scorer, "night.tar.gz", "scores.parquet")  # doctest: +SKIP
        >>> kinds.filter(pl.col("reason").is_null())["len"].item()  # doctest: +SKIP
        234871
    """
    check_output(out, resume=resume, overwrite=overwrite)
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = _without_output(source_files(given), Path(out))
    total_bytes = sum(file.stat().st_size for file in files)
    scorer = scorer() if callable(scorer) else scorer
    preset = preset or scorer.bank.preset
    run = {
        "inputs": [os.fspath(path) for path in given],
        "files": len(files),
        "bytes": total_bytes,
        "preset": preset,
        "models": {name: dict(facts) for name, facts in scorer.bank.provenance.items()},
        "version": metadata.version("acai_jax"),
    }
    with PartWriter(out, run, resume=resume, overwrite=overwrite) as writer:
        begin(writer, total_bytes)
        if not writer.complete:
            done = writer.chunks_done
            tables = scorer.score_tables(files, preset, num_workers=num_workers, skip_chunks=done)
            for table, source_bytes in tables:
                writer.add(table)
                advance(table, source_bytes)
    return writer.summary()


def _without_output(files: list[Path], out: Path) -> list[Path]:
    """The files but those that the run writes: `out` may lie in the folder of alerts."""
    own = {out.absolute(), out.absolute().with_name(out.name + ".parts")}
    return [file for file in files if own.isdisjoint({file.absolute(), *file.absolute().parents})]
