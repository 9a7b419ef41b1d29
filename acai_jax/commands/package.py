"""The command `acai-jax package`; `python -m tfds_builders.ztf_acai` of a checkout is the same."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from acai_jax.commands.arguments import Decoding
from acai_jax.commands.console import console
from acai_jax.datasets.splits import SPLITS
from acai_jax.errors import DatasetError, Reject, RejectLimit, UsageError
from acai_jax.extras import need
from acai_jax.surveys import DEFAULT, Preset, find_survey
from acai_jax.surveys.base import Survey


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package(Decoding):
    """Package labelled or simulated alerts as a TFDS dataset: ArrayRecord files.

    Exit status 4 says that every labelled alert was rejected, or more than --max-rejects allows;
    then the dataset is written all the same.
    """

    labels: Path | None = None
    """their labels, CSV with the columns oid, candid, label."""
    data_dir: Path = Path("datasets")
    """the dataset goes to DATA_DIR/SURVEY_acai/CONFIG/VERSION."""
    survey: str | None = None
    """whose alerts they are; by default that of the first one that can be read, or ztf."""
    config: Literal["alerts", "alerts_stamps", "alerts_split_by_alert", "simulated"] = "alerts"
    """what the records are. Options that change it become part of its name."""
    preset: Preset | None = None
    """whose preprocessing to follow; by default the survey's first."""
    all_programs: bool = False
    """keep alerts of programid 2 and 3, which are not public."""
    count: int | None = None
    """for "simulated": how many alerts."""
    seed: int | None = None
    """for "simulated": the same seed makes the same alerts."""
    weights: Path | None = None
    """folder with braai's weights, for work without a network."""
    overwrite: bool = False
    """replace a dataset that is there."""

    def run(self) -> None:
        """Builds the dataset, and prints what is in it."""
        need("dataset", *(["simulate"] if self.config == "simulated" else []))
        import tensorflow_datasets as tfds
        from absl import logging

        from acai_jax.datasets.builders import builder_class
        from acai_jax.datasets.builders.base import AcaiConfig

        limit = RejectLimit(self.max_rejects)
        if self.config != "simulated" and (not self.sources or self.labels is None):
            raise UsageError(f"the config {self.config} takes paths of alerts, and --labels")
        if self.config != "simulated" and (self.count is not None or self.seed is not None):
            raise UsageError("--count and --seed are for the config simulated")
        logging.set_verbosity(logging.ERROR)  # TFDS warns of configs that are not standard
        builder_type = builder_class(self._survey())
        if self.config not in builder_type.builder_configs:
            known = ", ".join(builder_type.builder_configs)
            raise DatasetError(
                f"no config {self.config} in {builder_type.name}; there are: {known}"
            )
        standard = builder_type.builder_configs[self.config]
        assert isinstance(standard, AcaiConfig)
        builder = builder_type(
            data_dir=self.data_dir,
            config=standard.like(
                preset=self.preset,
                public_only=False if self.all_programs else None,
                count=self.count,
                seed=self.seed,
            ),
            file_format="array_record",
            sources=self.sources or None,
            labels=self.labels,
            weights=self.weights,
            num_workers=self.workers,
        )
        if builder.data_path.exists() and not self.overwrite:
            raise DatasetError(f"{builder.data_path} exists: --overwrite replaces it")
        modes = tfds.download.GenerateMode
        mode = modes.REUSE_CACHE_IF_EXISTS if self.overwrite else modes.REUSE_DATASET_IF_EXISTS
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(download_mode=mode)
        )
        facts = dict(builder.info.metadata or {})
        _print_summary(Path(builder.data_path), facts)
        rejected, counts = sum(facts["rejects"].values()), facts["counts"]
        limit.check(rejected, counts["alerts"] - counts["unlabelled"])

    def _survey(self) -> Survey:
        if self.survey is not None:
            return find_survey(self.survey)
        if not self.sources:
            return DEFAULT
        from acai_jax.alerts.sources import read_alerts

        alerts = (alert for alert in read_alerts(self.sources) if not isinstance(alert, Reject))
        first = next(alerts, None)
        return DEFAULT if first is None else first.survey


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
        console.print(f"every reject: {path / 'rejects.csv'}", soft_wrap=True)
    console.print(
        f"read it: acai_jax.datasets.load_split({str(path)!r}, 'train')",
        soft_wrap=True,
    )
