"""The command `acai-jax score`."""

import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import tyro

from acai_jax.commands.console import console, print_score_summary, scoring_progress
from acai_jax.errors import AcaiError, RejectLimit, SourceError
from acai_jax.surveys.ztf import Preset

if TYPE_CHECKING:
    from acai_jax.score.parts import PartWriter
    from acai_jax.score.scorer import Scorer


def score(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    out: Path = Path("scores.parquet"),
    model: str = "published",
    weights: Path | None = None,
    preset: Preset | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    max_rejects: float = 1.0,
) -> None:
    """Score alerts with five classifiers; write one row per alert to a Parquet file.

    Exit status 4 says that every alert was rejected, or more than --max-rejects allows; the table
    is written all the same.

    Args:
        paths: Avro files, .tar or .tar.gz archives, Parquet, JSON, or directories of them.
        out: the Parquet file to write; parts of it stand in OUT.parts until it is complete.
        model: "published", "published-20201110" (the first generation), or a checkpoint's folder.
        weights: folder with the published .h5 files, for work without a network.
        preset: whose preprocessing to follow; by default that of the model's training.
        workers: decoding processes; by default one for each core.
        resume: go on where an earlier, interrupted run stopped.
        overwrite: replace OUT, or parts of it, if they exist.
        max_rejects: share of the alerts that may be rejected, 0 to 1.
    """
    from acai_jax.alerts.sources import source_files
    from acai_jax.score.parts import PartWriter, check_output

    if not paths:
        raise SourceError("no paths given: name files, archives or directories of alerts")
    if workers is not None and workers < 0:
        raise AcaiError("--workers takes 0 or more")
    limit = RejectLimit(max_rejects)
    check_output(out, resume=resume, overwrite=overwrite)
    files = _without_output(source_files(paths), out)
    sizes = [file.stat().st_size for file in files]
    scorer = load_scorer(model, weights)
    preset = preset or scorer.bank.preset
    run = {
        "inputs": [str(path) for path in paths],
        "files": len(files),
        "bytes": sum(sizes),
        "preset": preset,
        "models": {name: dict(facts) for name, facts in scorer.bank.provenance.items()},
        "version": metadata.version("acai_jax"),
    }
    with PartWriter(out, run, resume=resume, overwrite=overwrite) as writer:
        for problem in writer.problems:
            console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
        scored = None if writer.complete else _score(files, scorer, preset, workers, writer)
    kinds = writer.summary()
    if scored is None:
        console.print(f"{out} is complete already")
    else:
        print_score_summary(kinds, out, *scored)
    rejects = kinds.filter(pl.col("reason").is_not_null())
    limit.check(int(rejects["len"].sum()), int(kinds["len"].sum()))


def _score(
    files: list[Path], scorer: "Scorer", preset: Preset, workers: int | None, writer: "PartWriter"
) -> tuple[int, float]:
    """Scores what is not written yet; returns the number of alerts, and seconds."""
    if writer.chunks_done:
        console.print(f"going on after {writer.rows_done():,} alerts")
    started, rows, warned = time.monotonic(), 0, False
    tables = scorer.score_tables(files, preset, num_workers=workers, skip_chunks=writer.chunks_done)
    try:
        with scoring_progress(sum(file.stat().st_size for file in files)) as progress:
            for table, source_bytes in tables:
                writer.add(table)
                rows += len(table)
                if not warned and (problem := _missing_drb(table)):
                    console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
                    warned = True
                progress(source_bytes, rows, rows / (time.monotonic() - started))
    except KeyboardInterrupt:
        console.print(f"parts up to here are kept in {writer.folder}; --resume goes on")
        raise
    return rows, time.monotonic() - started


def load_scorer(model: str, weights: Path | None) -> "Scorer":
    """The model of a command, and programs that earlier commands have compiled."""
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.score.scorer import Scorer, enable_compilation_cache

    enable_compilation_cache()
    with console.status("loading the model"):
        return Scorer.load(model, weights_dir=weights)


def _missing_drb(table: pl.DataFrame) -> str | None:
    """Why old alerts got no score, where braai could not stand in: said once, not at the end."""
    reasons = table["reason"].drop_nulls()
    return next((r for r in reasons if r.startswith("null feature: drb, and braai")), None)


def _without_output(files: list[Path], out: Path) -> list[Path]:
    """The files but those that this command writes: `out` may lie in the folder of alerts."""
    own = {out.absolute(), out.absolute().with_name(out.name + ".parts")}
    return [file for file in files if own.isdisjoint({file.absolute(), *file.absolute().parents})]
