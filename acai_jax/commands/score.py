"""The command `acai-jax score`."""

import contextlib
import dataclasses
import itertools
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import polars as pl
from rich.table import Table

from acai_jax.commands.arguments import Decoding, Scoring
from acai_jax.commands.console import console, scoring_progress, shown
from acai_jax.errors import AcaiError, Reject, RejectLimit
from acai_jax.processes import say_if_interrupted

if TYPE_CHECKING:
    from acai_jax.score.parts import PartWriter
    from acai_jax.score.scorer import Scorer

_FEW: Final = 100  # alerts, one of which may be readable and so tells whose they are


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(Scoring, Decoding):
    """Score alerts with five classifiers; write one row per alert to a Parquet file.

    Exit status 4 says that every alert was rejected, or more than --max-rejects allows; the table
    is written all the same.
    """

    out: Path = Path("scores.parquet")
    """the Parquet file to write; parts of it stand in OUT.parts until it is complete."""
    resume: bool = False
    """go on where an earlier, interrupted run stopped."""
    overwrite: bool = False
    """replace OUT, or parts of it, if they exist."""

    def run(self) -> None:
        """Scores the alerts, and prints how it went."""
        from acai_jax.score.night import score_night

        self.check_sources()
        limit = RejectLimit(self.max_rejects)
        with _Progress() as progress:
            kinds = score_night(
                lambda: progress.watch(self._scorer()),
                self.sources,
                self.out,
                self.preset,
                num_workers=self.workers,
                resume=self.resume,
                overwrite=self.overwrite,
                begin=progress.begin,
                advance=progress.advance,
            )
        if progress.complete:
            console.print(f"{self.out} is complete already", soft_wrap=True)
        else:
            print_score_summary(kinds, self.out, progress)
        rejects = kinds.filter(pl.col("reason").is_not_null())
        limit.check(int(rejects["len"].sum()), int(kinds["len"].sum()))

    def _scorer(self) -> "Scorer":
        """The model, where it can read what there is: alerts of one survey, as nights are.

        Raises:
            AcaiError: the model is left to choose, and another one reads these.
        """
        from acai_jax.alerts.sources import read_alerts
        from acai_jax.network.exchange import shipped_model

        few = itertools.islice(read_alerts(self.sources), _FEW)
        surveys = (alert.survey for alert in few if not isinstance(alert, Reject))
        first = next(surveys, None)
        if first and not self.reads(first) and (name := shipped_model(first)):
            title = first.title
            raise AcaiError(f"the published heads read no alerts of {title}: try --model {name}")
        return self.load()


class _Progress:
    """Shows how far a run is."""

    def __init__(self) -> None:
        self.complete = False
        self.rows, self.seconds, self.compile_seconds = 0, 0.0, 0.0
        self._warned = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not KeyboardInterrupt:
            say_if_interrupted("")

    def watch(self, scorer: "Scorer") -> "Scorer":
        """Takes the time in which this scorer compiles out of the rate."""
        self._scorer = scorer
        return scorer

    def begin(self, writer: "PartWriter", total_bytes: int) -> None:
        self.complete = writer.complete
        kept = f"parts up to here are kept in {writer.folder}; --resume goes on"
        say_if_interrupted(shown(kept).plain)
        for problem in writer.problems:
            console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
        if writer.chunks_done:
            console.print(f"going on after {writer.rows_done():,} alerts")
        self._started = time.monotonic()
        if not writer.complete:
            self._show = self._stack.enter_context(scoring_progress(total_bytes))

    def advance(self, table: pl.DataFrame, source_bytes: int) -> None:
        self.rows += len(table)
        self.compile_seconds = self._scorer.compile_seconds
        self.seconds = time.monotonic() - self._started - self.compile_seconds
        if not self._warned and (problem := _missing_drb(table)):
            console.print(f"warning: {problem}", style="yellow", soft_wrap=True)
            self._warned = True
        self._show(source_bytes, self.rows, self.rows / max(self.seconds, 1e-9))


def print_score_summary(kinds: pl.DataFrame, out: Path, progress: _Progress) -> None:
    """Prints how many rows of a score table were scored, and why the others were not."""
    table = Table(title=shown(out), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for reason, count in kinds.iter_rows():
        table.add_row(shown(f"rejected, {reason}" if reason else "scored"), f"{count:,}")
    table.add_row("all alerts", f"{kinds['len'].sum():,}", end_section=True)
    table.add_row("compiled in, this run", f"{progress.compile_seconds:,.1f} s")
    rate = progress.rows / max(progress.seconds, 1e-9)
    table.add_row("rate after that", f"{rate:,.0f} alerts/s")
    console.print(table)


def _missing_drb(table: pl.DataFrame) -> str | None:
    """Why old alerts got no score, where braai could not stand in: said once, not at the end."""
    reasons = table["reason"].drop_nulls()
    return next((r for r in reasons if r.startswith("null feature: drb, and braai")), None)
