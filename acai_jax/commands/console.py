"""What commands show: progress bars, tables, and one clear line for an error."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from acai_jax.archive import download
from acai_jax.errors import AcaiError, NoAlertsError, RejectsError
from acai_jax.processes import hearing_signals
from acai_jax.score.columns import score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.text import printable

if TYPE_CHECKING:
    from acai_jax.datasets.card import Card
    from acai_jax.evaluate.calibration import Calibration
    from acai_jax.evaluate.results import Evaluation
    from acai_jax.stream.replay import Replayed


def shown(value: object) -> Text:
    """What is printed of a value: what could steer a terminal is escaped, lines stay lines."""
    return Text("\n".join(printable(line, _MAX_LINE) for line in str(value).split("\n")))


class _Console(Console):
    """A console that text from outside cannot steer."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False)

    def print(self, *objects: Any, **settings: Any) -> None:
        super().print(*(shown(o) if isinstance(o, str) else o for o in objects), **settings)


console: Final = _Console(stderr=True)
"""Where commands report; their answers go to standard output or to files."""
_MAX_LINE: Final = 20_000  # characters; a translated pipeline is one line


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the process with one line, not a traceback, for what a user can mend.

    The exit status is 1; 3 where there is nothing to fetch; 4 where too many alerts were rejected;
    130 after Ctrl-C, 143 after SIGTERM.
    """
    with hearing_signals():  # polars, which is imported by now, has its own handler
        try:
            yield
        except NoAlertsError as error:
            console.print(str(error), soft_wrap=True)
            sys.exit(3)
        except (AcaiError, OSError, pl.exceptions.PolarsError) as error:
            console.print(Text("error: ", style="red") + shown(error), soft_wrap=True)
            sys.exit(4 if isinstance(error, RejectsError) else 1)


@contextlib.contextmanager
def counting_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is told how many more alerts are done."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("alerts, left"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda alerts: bar.update(task, advance=alerts)


@contextlib.contextmanager
def scoring_progress(total_bytes: int) -> Iterator[Callable[[int, int, float], None]]:
    """Yields what is told (bytes of the sources just read, alerts so far, alerts a second)."""
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[alerts]} alerts, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("scoring", total=total_bytes, alerts="0", rate="0")
        yield lambda read, alerts, rate: bar.update(
            task, advance=read, alerts=f"{alerts:,}", rate=f"{rate:,.0f}"
        )
        bar.update(task, completed=total_bytes)


@contextlib.contextmanager
def replay_progress() -> Iterator[Callable[[str, int, int, int], None]]:
    """Yields what is told (phase, bytes done, bytes in all, alerts done)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[alerts]} alerts, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bar:

        def report(phase: str, done: int, total: int, alerts: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=None, alerts="0", rate="0")
            seconds = max(bar.tasks[tasks[phase]].elapsed or 0.0, 1e-3)
            rate = f"{alerts / seconds:,.0f}"
            bar.update(tasks[phase], completed=done, total=total, alerts=f"{alerts:,}", rate=rate)

        yield report


@contextlib.contextmanager
def download_progress() -> Iterator[Callable[[download.Progress], None]]:
    """Yields what is told how far a download is."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task: TaskID | None = None
        waiting = True

        def report(progress: download.Progress) -> None:
            nonlocal task, waiting
            if progress.note:
                bar.console.print(progress.note, style="yellow")
            elif task is None:
                task = bar.add_task("fetching", total=progress.total, completed=progress.done)
            elif waiting:  # bytes that were there are no part of the speed
                bar.reset(task, total=progress.total, completed=progress.done)
            else:
                bar.update(task, completed=progress.done)
            waiting = bool(progress.note)

        yield report


@contextlib.contextmanager
def records_progress() -> Iterator[Callable[[int, int], None]]:
    """Yields what is told (records read so far, records in all)."""
    left = (TextColumn("records, left"), TimeRemainingColumn())
    bar = Progress(BarColumn(), MofNCompleteColumn(), *left, console=console, transient=True)
    with bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def stretches_progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Yields what is given the name of a stretch of work; it returns what is told (done, all)."""
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as bar:

        def begin(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield begin


def print_card(found: "Card") -> None:
    """Prints a dataset's card to standard output."""
    from acai_jax.datasets import card

    output = _Console()  # the answer goes to standard output
    output.print(found.title, style="bold", soft_wrap=True)
    output.print(f"{found.description} {found.summary}".strip(), soft_wrap=True)
    header, rows = card.count_table(found)
    counts = Table()
    for index, name in enumerate(header):
        counts.add_column(shown(name), justify="right" if index else "left")
    for row in rows:
        cells = [shown(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row]
        counts.add_row(*cells, end_section=row is rows[-2])
    output.print(counts)
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")  # paths and digests are shown whole
    for name, value in [*card.fact_table(found), *card.left_out_table(found)]:
        facts.add_row(shown(name), shown(f"{value:,}" if isinstance(value, int) else value))
    output.print(facts)


def print_score_summary(kinds: pl.DataFrame, out: Path, rows: int, seconds: float) -> None:
    """Prints how many rows of a score table were scored, and why the others were not."""
    table = Table(title=shown(out), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for reason, count in kinds.iter_rows():
        table.add_row(shown(f"rejected, {reason}" if reason else "scored"), f"{count:,}")
    table.add_row("all alerts", f"{kinds['len'].sum():,}", end_section=True)
    table.add_row("rate, this run", f"{rows / max(seconds, 1e-9):,.0f} alerts/s")
    console.print(table)


def print_replayed(found: "Replayed", topic: str) -> None:
    """Prints what became of replayed alerts."""
    rate = found.delivered / max(found.seconds, 1e-9)
    console.print(f"{topic}: {found.delivered:,} alerts delivered, {rate:,.0f} a second")
    if found.rejected:
        console.print(f"not sent, because they are no readable Avro: {found.rejected:,}")
        for reject in found.rejects:
            console.print(f"  {reject.origin}: {reject.reason}", soft_wrap=True)
        if found.rejected > len(found.rejects):
            console.print(f"  and {found.rejected - len(found.rejects):,} more")


def print_evaluation(found: "Evaluation") -> None:
    """Prints the figures of each head to standard output."""
    from acai_jax.report.evaluation_page import one_sided

    table = Table()
    table.add_column("head")
    for column in ("AUC", "threshold", "FNR", "FPR", "pos.", "neg.", "unscored"):
        table.add_column(column, justify="right")
    for name, head in found.heads.items():
        state, auc = head.state, head.figures.auc
        rates = ("none" if math.isnan(rate) else f"{100 * rate:.2f} %" for rate in head.rates)
        counts = (
            head.ranking.positives,
            head.ranking.negatives,
            state.unscored_positives + state.unscored_negatives,
        )
        auc_text = "none" if math.isnan(auc) else f"{auc:.4f}"
        numbers = (auc_text, f"{head.threshold:.3f}", *rates)
        table.add_row(shown(name), *numbers, *(f"{count:,}" for count in counts))
    _Console().print(table)
    for sentence in one_sided(found):
        console.print(f"note: {sentence}", style="yellow", soft_wrap=True)
    for key in ("unlabelled", "unreadable", "repeated", "labels_without_alert"):
        if count := found.source.get("counts", {}).get(key):
            console.print(f"{key.replace('_', ' ')}: {count:,}")


def print_calibrations(found: "Mapping[str, Calibration]") -> None:
    """Prints the temperature of each head to standard output, and what it changes."""
    table = Table()
    table.add_column("head")
    for column in ("T", "NLL", "calibrated", "ECE", "calibrated", "pos.", "neg.", "unscored"):
        table.add_column(column, justify="right")
    for name, each in found.items():
        numbers = (f"{number:.4f}" for number in (*each.nll, *each.ece))
        counts = (f"{count:,}" for count in (each.positives, each.negatives, each.unscored))
        table.add_row(shown(name), f"{each.temperature:g}", *numbers, *counts)
    _Console().print(table)
    for name, each in found.items():
        if each.held:
            separated = "its positives and negatives are perfectly separated, which leaves it open"
            why = separated if each.temperature == 1 else "the best one lies beyond"
            note = f"note: the temperature of {name} is held at {each.temperature:g}: {why}"
            console.print(note, style="yellow", soft_wrap=True)
        if each.ece[1] > each.ece[0]:
            note = f"note: the ECE of {name} rises: its scores are off as no temperature mends"
            console.print(note, style="yellow", soft_wrap=True)


def print_pass_rates(rates: pl.DataFrame) -> None:
    """Prints how many alerts and objects are left after each part of a filter."""
    total = max(1, rates["alerts"][0])
    table = Table()
    table.add_column("stage", overflow="fold")
    for column in ("alerts", "of all", "objects"):
        table.add_column(column, justify="right")
    for stage, alerts, objects in rates.iter_rows():
        table.add_row(shown(stage), f"{alerts:,}", f"{alerts / total:.2%}", f"{objects:,}")
    console.print(table)


def print_alerts(table: pl.DataFrame, most: int = 20) -> None:
    """Prints the first alerts of a score table to standard output: names, fields, scores."""
    survey = survey_of_table(table.columns)
    wanted = [survey.alert_id, survey.object_id, survey.magnitude, *score_columns(table.columns)]
    columns = [name for name in wanted if name in table.columns]
    first = table.select(columns).head(most)
    printed = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in columns:
        width = max((len(printable(str(value))) for value in first[name]), default=0)
        justify = "left" if name == survey.object_id else "right"
        header = shown(name.removeprefix("acai_"))
        printed.add_column(
            header, justify=justify, no_wrap=True, min_width=width if name in columns[:2] else None
        )
    for row in first.iter_rows():
        cells = (f"{v:.3f}" if isinstance(v, float) else printable(str(v)) for v in row)
        printed.add_row(*map(Text, cells))
    output = _Console()
    if len(table):
        output.print(printed)
    if len(table) > most:
        output.print(f"and {len(table) - most:,} more: --out FILE writes them all")
