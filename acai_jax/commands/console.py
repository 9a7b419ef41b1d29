"""What commands show: progress bars, tables, and one clear line for an error."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

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
from acai_jax.errors import AcaiError, NoAlertsError, RejectsError, UsageError
from acai_jax.processes import hearing_signals
from acai_jax.score.columns import score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.text import printable


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
"""Where commands report."""
output: Final = _Console()
"""Standard output, for answers that go to no file."""
_MAX_LINE: Final = 20_000  # characters; a translated pipeline is one line


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the process with one line, not a traceback, for what a user can mend.

    The exit status is 1; 2 for a mistake on the command line; 3 where there is nothing to fetch; 4
    where too many alerts were rejected; 130 after Ctrl-C, 143 after SIGTERM.
    """
    with hearing_signals():  # polars, which is imported by now, has its own handler
        try:
            yield
        except NoAlertsError as error:
            console.print(str(error), soft_wrap=True)
            sys.exit(3)
        except (AcaiError, OSError, pl.exceptions.PolarsError) as error:
            console.print(Text("error: ", style="red") + shown(error), soft_wrap=True)
            sys.exit({UsageError: 2, RejectsError: 4}.get(type(error), 1))


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
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[alerts]} alerts, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("compiling", total=total_bytes, alerts="0", rate="0")
        yield lambda read, alerts, rate: bar.update(
            task,
            advance=read,
            description="scoring",
            alerts=f"{alerts:,}",
            rate=f"{rate:,.0f}",
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
    if len(table):
        output.print(printed)
    if len(table) > most:
        output.print(f"and {len(table) - most:,} more: --out FILE writes them all")
