"""The command `acai-jax`: each subcommand calls one public function and reports."""

import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import tyro

from acai_jax import nights
from acai_jax.calibrate_command import calibrate
from acai_jax.console import (
    clear_errors,
    console,
    counting_progress,
    download_progress,
    print_card,
    print_score_summary,
    records_progress,
    scoring_progress,
)
from acai_jax.errors import AcaiError, Reject, SourceError
from acai_jax.evaluate_command import evaluate
from acai_jax.filter_command import filter_table
from acai_jax.replay_command import replay
from acai_jax.schema import Preset
from acai_jax.stream_command import stream
from acai_jax.train_command import train

if TYPE_CHECKING:
    from acai_jax.score import Scorer

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
            console.print(f"{out} is complete already")
            return
        if writer.chunks_done:
            console.print(f"going on after {writer.rows_done():,} alerts")
        started, rows, warned = time.monotonic(), 0, False
        tables = scorer.score_tables(
            files, preset, num_workers=workers, skip_chunks=writer.chunks_done
        )
        try:
            with scoring_progress(sum(sizes)) as progress:
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
        seconds = time.monotonic() - started
    print_score_summary(writer.summary(), out, rows, seconds)


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
    console.print(f"{out}: {alert.objectId}, candid {alert.candid}")


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
    console.print(f"{out}: {versions}")


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
    from acai_jax import card

    with records_progress() as report:
        found = card.read_card(directory, report=report)
    print_card(found)
    if out is not None:
        from acai_jax.card_page import write_card

        with console.status("drawing"):
            page = write_card(found, out)
        console.print(f"{page}: everything; its pictures are beside it", soft_wrap=True)


def _load_scorer(model: str, weights: Path | None) -> "Scorer":
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.score import Scorer, enable_compilation_cache

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


def main() -> None:
    """Entry point of `acai-jax`."""
    app = tyro.extras.SubcommandApp()
    for command in (
        score,
        show,
        convert,
        simulate,
        fetch_night,
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
        app.cli(prog="acai-jax", description="The ACAI classifiers of ZTF alerts, in JAX.")


if __name__ == "__main__":
    main()
