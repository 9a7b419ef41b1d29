"""The command `acai-jax package`; `python -m tfds_builders.ztf_acai` of a checkout is the same."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from acai_jax.commands.console import console
from acai_jax.datasets.splits import SPLITS
from acai_jax.errors import AcaiError, DatasetError, RejectLimit
from acai_jax.surveys import Preset

if TYPE_CHECKING:
    from acai_jax.datasets.builders.ztf_acai import AcaiConfig


def package(
    sources: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    *,
    labels: Path | None = None,
    data_dir: Path = Path("datasets"),
    config: Literal["alerts", "alerts_stamps", "alerts_split_by_alert", "simulated"] = "alerts",
    preset: Preset | None = None,
    all_programs: bool = False,
    count: int | None = None,
    seed: int | None = None,
    weights: Path | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    max_rejects: float = 1.0,
) -> None:
    """Package labelled alerts, or simulated ones, as a TFDS dataset in ArrayRecord files.

    Exit status 4 says that every labelled alert was rejected, or more than --max-rejects allows;
    then the dataset is written all the same.

    Args:
        sources: Avro files, .tar or .tar.gz archives, Parquet, JSON, or directories of them.
        labels: their labels, CSV with the columns oid, candid, label.
        data_dir: the dataset goes to DATA_DIR/ztf_acai/CONFIG/VERSION.
        config: what the records are. Options that change it become part of its name.
        preset: whose preprocessing to follow; by default "acai".
        all_programs: keep alerts of programid 2 and 3, which are not public.
        count: for "simulated": how many alerts.
        seed: for "simulated": the same seed makes the same alerts.
        weights: folder with braai's weights, for work without a network.
        workers: decoding processes; by default one for each core.
        overwrite: replace a dataset that is there.
        max_rejects: share of the labelled alerts that may be rejected, 0 to 1.
    """
    # --help and mistyped commands do not wait for TFDS
    import tensorflow_datasets as tfds
    from absl import logging

    from acai_jax.datasets.builders.ztf_acai import Builder

    limit = RejectLimit(max_rejects)
    if workers is not None and workers < 0:
        raise AcaiError("--workers takes 0 or more")
    if config != "simulated" and (not sources or labels is None):
        raise DatasetError(f"the config {config} takes paths of alerts, and --labels")
    if config != "simulated" and (count is not None or seed is not None):
        raise DatasetError("--count and --seed are for the config simulated")
    logging.set_verbosity(logging.ERROR)  # TFDS warns of configs that are not standard
    standard = next(each for each in Builder.BUILDER_CONFIGS if each.name == config)
    builder = Builder(
        data_dir=data_dir,
        config=_config(standard, preset, all_programs, count, seed),
        file_format="array_record",
        sources=sources or None,
        labels=labels,
        weights=weights,
        num_workers=workers,
    )
    if builder.data_path.exists() and not overwrite:
        raise DatasetError(f"{builder.data_path} exists: --overwrite replaces it")
    modes = tfds.download.GenerateMode
    mode = modes.REUSE_CACHE_IF_EXISTS if overwrite else modes.REUSE_DATASET_IF_EXISTS
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(download_mode=mode))
    facts = dict(builder.info.metadata or {})
    _print_summary(Path(builder.data_path), facts)
    rejected, counts = sum(facts["rejects"].values()), facts["counts"]
    limit.check(rejected, counts["alerts"] - counts["unlabelled"])


def _config(
    standard: "AcaiConfig",
    preset: Preset | None,
    all_programs: bool,
    count: int | None,
    seed: int | None,
) -> "AcaiConfig":
    """A standard config; or one of another name, where an option makes other records of it."""
    options = {
        "preset": preset,
        "public_only": False if all_programs else None,
        "count": count,
        "seed": seed,
    }
    changes = {
        option: value
        for option, value in options.items()
        if value is not None and value != getattr(standard, option)
    }
    if not changes:
        return standard
    suffix = "_".join(
        "all_programs" if option == "public_only" else f"{option}_{value}"
        for option, value in changes.items()
    )
    return dataclasses.replace(standard, name=f"{standard.name}_{suffix}", **changes)


def _print_summary(path: Path, facts: Mapping[str, Any]) -> None:
    classes = sorted({name for counts in facts["classes"].values() for name in counts})
    table = Table(title=Text(str(path)))
    table.add_column("records")
    for name in (*classes, "all"):
        table.add_column(name, justify="right")
    for split in SPLITS:
        counts = facts["classes"].get(split, {})
        row = [counts.get(name, 0) for name in classes]
        table.add_row(split, *(f"{count:,}" for count in (*row, sum(row))))
    console.print(table)
    for name, count in {**facts["counts"], **facts["rejects"]}.items():
        prefix = "rejected, " if name in facts["rejects"] else ""
        if count:
            console.print(f"{prefix}{name}: {count:,}")
    if facts["rejects"]:
        console.print(f"every reject: {path / 'rejects.csv'}")
    console.print(
        f"read it: acai_jax.datasets.load_split({str(path)!r}, 'train')",
        soft_wrap=True,
    )
