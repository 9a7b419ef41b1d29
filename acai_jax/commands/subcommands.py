"""The subcommands of `acai-jax`: each calls one public function and reports."""

import time
from pathlib import Path
from typing import Annotated

import tyro

from acai_jax.archive import nights
from acai_jax.commands.calibrate import calibrate
from acai_jax.commands.console import (
    clear_errors,
    console,
    counting_progress,
    download_progress,
    print_card,
    records_progress,
)
from acai_jax.commands.evaluate import evaluate
from acai_jax.commands.filter import filter_table
from acai_jax.commands.package import package
from acai_jax.commands.replay import replay
from acai_jax.commands.score import load_scorer, score
from acai_jax.commands.show import show
from acai_jax.commands.stream import stream
from acai_jax.commands.train import train

_DESCRIPTION = "The ACAI classifiers of ZTF alerts, in JAX. --version says which."


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
    from acai_jax.network.checkpoints import save_heads

    bank = load_scorer(model, weights).bank
    save_heads(bank, out, overwrite=overwrite)
    versions = ", ".join(f"{name} {facts['version']}" for name, facts in bank.provenance.items())
    console.print(f"{out}: {versions}")


def fetch_night(
    date: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATE")],
    /,
    *,
    out: Path = Path("."),
    base_url: str = nights.PUBLIC_ARCHIVE,
) -> None:
    """Fetch one night's alerts from the public archive; an interrupted download goes on.

    Exit status 3 says that the archive has no alerts of that night. Alerts before 2018-07-18 lack
    features, and cannot be scored.

    Args:
        date: the night's UTC date, as YYYYMMDD or YYYY-MM-DD.
        out: folder for the archive, ztf_public_YYYYMMDD.tar.gz.
        base_url: where the archive's nights lie.
    """
    night = nights.parse_night(date)
    if night < nights.FIRST_SCORABLE:
        warning = f"warning: alerts before {nights.FIRST_SCORABLE} lack clrcoeff and clrcounc: "
        console.print(f"{warning}none of this night can be scored", style="yellow", soft_wrap=True)
    complete = nights.night_path(night, out).exists()
    try:
        with download_progress() as report:
            path = nights.fetch_night(night, out, base_url=base_url, report=report)
    except KeyboardInterrupt:
        console.print("what has come is kept; the same command goes on")
        raise
    size = f"{path.stat().st_size / 1e6:,.1f} MB"
    console.print(f"{path}: {'there already, not fetched again' if complete else size}")


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
    with counting_progress("simulating", count) as progress:
        write_alerts(
            out,
            count,
            seed,
            proportions=proportions or DEFAULT_PROPORTIONS,
            label_noise=label_noise,
            num_workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    rate = count / (time.monotonic() - started)
    console.print(f"{out}/alerts, {out}/labels.csv: {count:,} alerts, {rate:,.0f} a second")


def dataset(directory: tyro.conf.Positional[Path], /, *, out: Path | None = None) -> None:
    """Print the card of a packaged dataset: what is in it; and draw it.

    Args:
        directory: of the dataset, such as datasets/ztf_acai/alerts/1.0.0, or a folder above it.
        out: folder for the pictures, and for index.html with everything.
    """
    from acai_jax.datasets import card

    with records_progress() as report:
        found = card.read_card(directory, report=report)
    print_card(found)
    if out is not None:
        from acai_jax.report.card_page import write_card

        with console.status("drawing"):
            page = write_card(found, out)
        console.print(f"{page}: everything; its pictures are beside it", soft_wrap=True)


def run() -> None:
    """Runs the subcommand that the command line names."""
    app = tyro.extras.SubcommandApp()
    for command in (
        score,
        show,
        convert,
        simulate,
        fetch_night,
        package,
        dataset,
        train,
        evaluate,
        calibrate,
        stream,
        replay,
    ):
        app.command(command)
    app.command(name="filter")(filter_table)
    with clear_errors():
        app.cli(prog="acai-jax", description=_DESCRIPTION)
