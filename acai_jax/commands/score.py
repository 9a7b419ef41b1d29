"""The command `acai-jax score`."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import tyro

from acai_jax.commands.console import console, print_score_summary, scoring_progress
from acai_jax.errors import AcaiError, RejectLimit, SourceError
from acai_jax.surveys import Preset

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
    if not paths:
        raise SourceError("no paths given: name files, archives or directories of alerts")
    if workers is not None and workers < 0:
        raise AcaiError("--workers takes 0 or more")
    limit = RejectLimit(max_rejects)
    from acai_jax.score.night import score_night

    with _Progress() as progress:
        kinds = score_night(
            lambda: load_scorer(model, weights),
            paths,
            out,
            preset,
            num_workers=workers,
            resume=resume,
            overwrite=overwrite,
            begin=progress.begin,
            advance=progress.advance,
        )
    if progress.complete:
        console.print(f"{out} is complete already")
    else:
        print_score_summary(kinds, out, progress.rows, progress.seconds)
    rejects = kinds.filter(pl.col("reason").is_not_null())
    limit.check(int(rejects["len"].sum()), int(kinds["len"].sum()))


class _Progress:
    """Shows how far a run is."""

    def __init__(self) -> None:
        self.complete = False
        self.rows, self.seconds = 0, 0.0
        self._warned = False
        self._folder: Path | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if self._folder and kind is not None and issubclass(kind, KeyboardInterrupt):
            console.print(f"parts up to here are kept in {self._folder}; --resume goes on")

    def begin(self, writer: "PartWriter", total_bytes: int) -> None:
        self.complete, self._folder = writer.complete, writer.folder
        for problem in writer.problems:
            console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
        if writer.chunks_done:
            console.print(f"going on after {writer.rows_done():,} alerts")
        self._started = time.monotonic()
        if not writer.complete:
            self._show = self._stack.enter_context(scoring_progress(total_bytes))

    def advance(self, table: pl.DataFrame, source_bytes: int) -> None:
        self.rows += len(table)
        self.seconds = time.monotonic() - self._started
        if not self._warned and (problem := _missing_drb(table)):
            console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
            self._warned = True
        self._show(source_bytes, self.rows, self.rows / max(self.seconds, 1e-9))


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
