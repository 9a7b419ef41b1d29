"""The command `acai-jax`: each subcommand calls one public function and reports."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import tyro
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

from acai_jax import download, nights
from acai_jax.errors import AcaiError, NoAlertsError, Reject, SourceError
from acai_jax.schema import Preset

if TYPE_CHECKING:
    from acai_jax.card import Card
    from acai_jax.score import Scorer

_console = Console(stderr=True, highlight=False, markup=False)

PathArgument = tyro.conf.Positional[tuple[Path, ...]]


def score(
    paths: PathArgument,
    /,
    *,
    out: Path = Path("scores.parquet"),
    model: str = "published",
    weights: Path | None = None,
    preset: Preset | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Score alerts with five classifiers; write one row per alert to a Parquet file.

    Args:
        paths: Avro files, .tar or .tar.gz archives, Parquet, JSON, or directories of them.
        out: the Parquet file to write; parts of it stand in OUT.parts until it is complete.
        model: "published", "published-20201110" (the first generation), or a checkpoint's folder.
        weights: folder with the published .h5 files, for work without a network.
        preset: whose preprocessing to follow; by default that of the model's training.
        workers: decoding processes; by default one for each core.
        resume: go on where an earlier, interrupted run stopped.
        overwrite: replace OUT, or parts of it, if they exist.
    """
    from acai_jax.parts import PartWriter, check_output
    from acai_jax.sources import source_files

    if not paths:
        raise SourceError("no paths given: name files, archives or directories of alerts")
    if workers is not None and workers < 0:
        raise AcaiError("--workers takes 0 or more")
    check_output(out, resume=resume, overwrite=overwrite)
    files = _without_output(source_files(paths), out)
    sizes = [file.stat().st_size for file in files]
    scorer = _load_scorer(model, weights)
    preset = preset or scorer.bank.preset
    if preset == "acai" and (problem := scorer.braai_problem()):
        _console.print(
            f"warning: {problem}. Alerts without drb (schema 3.2 and earlier) will get no score",
            style="yellow",
            soft_wrap=True,
        )
    run = {
        "inputs": [str(path) for path in paths],
        "files": len(files),
        "bytes": sum(sizes),
        "preset": preset,
        "models": {name: dict(facts) for name, facts in scorer.bank.provenance.items()},
        "version": metadata.version("acai_jax"),
    }
    with PartWriter(out, run, resume=resume, overwrite=overwrite) as writer:
        if writer.complete:
            _console.print(f"{out} is complete already")
            return
        if writer.chunks_done:
            _console.print(f"going on after {writer.rows_done():,} alerts")
        started, rows = time.monotonic(), 0
        tables = scorer.score_tables(
            files, preset, num_workers=workers, skip_chunks=writer.chunks_done
        )
        try:
            with _progress(sum(sizes)) as (bar, task):
                for table, source_bytes in tables:
                    writer.add(table)
                    rows += len(table)
                    rate = rows / (time.monotonic() - started)
                    bar.update(task, advance=source_bytes, alerts=f"{rows:,}", rate=f"{rate:,.0f}")
        except KeyboardInterrupt:
            _console.print(f"parts up to here are kept in {writer.folder}; --resume goes on")
            raise
        seconds = time.monotonic() - started
    _print_summary(writer.summary(), out, rows, seconds)


def show(
    path: tyro.conf.Positional[Path],
    /,
    *,
    candid: int | None = None,
    out: Path | None = None,
    model: str = "published",
    weights: Path | None = None,
    preset: Preset | None = None,
) -> None:
    """Draw one alert's stamps, scores and features to a PNG.

    Args:
        path: a file, archive or directory of alerts; the first readable alert is drawn.
        candid: draw the alert with this candid instead.
        out: the PNG to write; by default CANDID.png.
        model: as for `score`.
        weights: as for `score`.
        preset: as for `score`.
    """
    from acai_jax.pictures import draw_alert
    from acai_jax.sources import read_alerts

    first: Reject | None = None
    for alert in read_alerts(path):
        if candid in (None, alert.candid):
            if not isinstance(alert, Reject):
                break
            first = first or alert
    else:
        if first is not None:
            raise AcaiError(f"cannot read the alert: {first.reason}")
        wanted = "" if candid is None else f" with candid {candid}"
        raise SourceError(f"no alert{wanted} in {path}")
    scorer = _load_scorer(model, weights)
    preset = preset or scorer.bank.preset
    row = scorer.score_packets([alert], preset).row(0, named=True)
    scores = {name: row[f"acai_{name}"] for name in scorer.bank.classes}
    out = out or Path(f"{alert.candid}.png")
    source = row["drb_source"]
    used_drb = f"{source} {row['drb']:.4g}" if source not in (None, "packet") else None
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_alert(alert, scores, out, reason=row["reason"], preset=preset, used_drb=used_drb)
    _console.print(f"{out}: {alert.objectId}, candid {alert.candid}")


def convert(
    out: tyro.conf.Positional[Path],
    /,
    *,
    model: str = "published",
    weights: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Convert the published Keras files to an Orbax checkpoint, with provenance.

    Args:
        out: folder of the checkpoint.
        model: "published", or "published-20201110" (the first generation).
        weights: folder with the published .h5 files, for work without a network.
        overwrite: replace a checkpoint that is there.
    """
    from acai_jax.checkpoints import save_heads

    bank = _load_scorer(model, weights).bank
    save_heads(bank, out, overwrite=overwrite)
    versions = ", ".join(f"{name} {facts['version']}" for name, facts in bank.provenance.items())
    _console.print(f"{out}: {versions}")


def fetch_night(
    date: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATE")],
    /,
    *,
    out: Path = Path("."),
    base_url: str = nights.PUBLIC_ARCHIVE,
) -> None:
    """Fetch one night's alerts from the public archive; an interrupted download goes on.

    Exit status 3 says that the archive has no alerts of that night.

    Args:
        date: the night's UTC date, as YYYYMMDD or YYYY-MM-DD.
        out: folder for the archive, ztf_public_YYYYMMDD.tar.gz.
        base_url: where the archive's nights lie.
    """
    night = nights.parse_night(date)
    complete = nights.night_path(night, out).exists()
    try:
        with _download_progress() as report:
            path = nights.fetch_night(night, out, base_url=base_url, report=report)
    except KeyboardInterrupt:
        _console.print("what has come is kept; the same command goes on")
        raise
    size = f"{path.stat().st_size / 1e6:,.1f} MB"
    _console.print(f"{path}: {'there already, not fetched again' if complete else size}")


def simulate(
    *,
    out: Path,
    count: int = 10_000,
    seed: int = 0,
    proportions: dict[str, float] | None = None,
    label_noise: float = 0.0,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate labelled alerts in ZTF's schema: OUT/alerts/*.avro and OUT/labels.csv.

    Args:
        out: folder to make.
        count: number of alerts.
        seed: the same seed makes the same alerts.
        proportions: share of each class, as in `--proportions h 1 b 2`; by default the paper's.
        label_noise: share of labels that are replaced by a wrong one.
        workers: processes; by default one for each core.
        overwrite: replace an earlier simulation in OUT.
    """
    from acai_jax.simulate import DEFAULT_PROPORTIONS, write_alerts

    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("alerts, left"), TimeRemainingColumn())
    with Progress(*columns, console=_console) as bar:
        task = bar.add_task("simulating", total=count)
        write_alerts(
            out,
            count,
            seed,
            proportions=proportions or DEFAULT_PROPORTIONS,
            label_noise=label_noise,
            num_workers=workers,
            overwrite=overwrite,
            progress=lambda alerts: bar.update(task, advance=alerts),
        )
    rate = count / (time.monotonic() - started)
    _console.print(f"{out}/alerts, {out}/labels.csv: {count:,} alerts, {rate:,.0f} a second")


def dataset(directory: tyro.conf.Positional[Path], /, *, out: Path | None = None) -> None:
    """Print the card of a packaged dataset: what is in it; and draw it.

    Args:
        directory: of the dataset, such as datasets/ztf_acai/alerts/1.0.0, or a folder above it.
        out: folder for the pictures, and for index.html with everything.
    """
    from acai_jax import card

    with _records_progress() as report:
        found = card.read_card(directory, report=report)
    _print_card(found)
    if out is not None:
        from acai_jax.card_page import write_card

        with _console.status("drawing"):
            page = write_card(found, out)
        _console.print(f"{page}: everything; its pictures are beside it", soft_wrap=True)


def _load_scorer(model: str, weights: Path | None) -> "Scorer":
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.score import Scorer, enable_compilation_cache

    enable_compilation_cache()
    with _console.status("loading the model"):
        return Scorer.load(model, weights_dir=weights)


def _without_output(files: list[Path], out: Path) -> list[Path]:
    """The files but those that this command writes: `out` may lie in the folder of alerts."""
    own = {out.absolute(), out.absolute().with_name(out.name + ".parts")}
    return [file for file in files if own.isdisjoint({file.absolute(), *file.absolute().parents})]


@contextlib.contextmanager
def _progress(total_bytes: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[alerts]} alerts, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as bar:
        task = bar.add_task("scoring", total=total_bytes, alerts="0", rate="0")
        yield bar, task
        bar.update(task, completed=total_bytes)


@contextlib.contextmanager
def _download_progress() -> Iterator[Callable[[download.Progress], None]]:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console) as bar:
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
def _records_progress() -> Iterator[Callable[[int, int], None]]:
    left = (TextColumn("records, left"), TimeRemainingColumn())
    bar = Progress(BarColumn(), MofNCompleteColumn(), *left, console=_console, transient=True)
    with bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_card(found: "Card") -> None:
    from acai_jax import card

    output = Console(highlight=False, markup=False)  # the answer goes to standard output
    output.print(found.title, style="bold", soft_wrap=True)
    output.print(f"{found.description} {found.summary}".strip(), soft_wrap=True)
    header, rows = card.count_table(found)
    counts = Table()
    for index, name in enumerate(header):
        counts.add_column(Text(name), justify="right" if index else "left")
    for row in rows:
        cells = [Text(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row]
        counts.add_row(*cells, end_section=row is rows[-2])
    output.print(counts)
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")  # paths and digests are shown whole
    for name, value in [*card.fact_table(found), *card.left_out_table(found)]:
        facts.add_row(Text(name), Text(f"{value:,}" if isinstance(value, int) else value))
    output.print(facts)


def _print_summary(kinds: pl.DataFrame, out: Path, rows: int, seconds: float) -> None:
    table = Table(title=Text(str(out)), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for reason, count in kinds.iter_rows():
        table.add_row(f"rejected, {reason}" if reason else "scored", f"{count:,}")
    table.add_row("all alerts", f"{kinds['len'].sum():,}", end_section=True)
    table.add_row("rate, this run", f"{rows / max(seconds, 1e-9):,.0f} alerts/s")
    _console.print(table)


def main() -> None:
    """Entry point of `acai-jax`."""
    app = tyro.extras.SubcommandApp()
    for command in (score, show, convert, simulate, fetch_night, dataset):
        app.command(command)
    try:
        app.cli(prog="acai-jax", description="The ACAI classifiers of ZTF alerts, in JAX.")
    except NoAlertsError as error:
        _console.print(str(error), soft_wrap=True)
        sys.exit(3)
    except (AcaiError, OSError, pl.exceptions.PolarsError) as error:
        _console.print(Text("error: ", style="red") + Text(str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        _console.print("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
