"""What several commands take: each of these names, defaults and help texts stands here once."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.console import console
from acai_jax.errors import UsageError
from acai_jax.surveys import DEFAULT, Preset
from acai_jax.surveys.base import Survey

if TYPE_CHECKING:
    from acai_jax.evaluate.labelled import Source
    from acai_jax.score.scorer import Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model."""

    model: str = "published"
    """"published", "published-20201110" (the first generation), a model that comes with the
    package ("ztf-simulated", "lsst-simulated"), a checkpoint's folder, or a .safetensors file of
    `export`."""
    weights: Path | None = None
    """folder with the published .h5 files, for work without a network."""

    def reads(self, survey: Survey) -> bool:
        """Whether it may read a survey's alerts; the published one, the default, reads one's."""
        return self.model != Model.model or survey is DEFAULT

    def load(self) -> "Scorer":
        """The model, and programs that earlier commands have compiled."""
        from acai_jax.score.scorer import Scorer, enable_compilation_cache

        enable_compilation_cache()
        with console.status("loading the model"):
            return Scorer.load(self.model, weights_dir=self.weights)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring(Model):
    """A model, and how it sees alerts."""

    preset: Preset | None = None
    """whose preprocessing to follow; by default that of the model's training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """Alerts, and how many of them may be bad."""

    sources: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Avro files, .tar or .tar.gz archives, Parquet, JSON, or directories of them."""
    max_rejects: float = 1.0
    """share of the alerts that may be rejected, 0 to 1."""

    def check_sources(self) -> None:
        """Raises a `UsageError` where none are named."""
        if not self.sources:
            raise UsageError("no paths given: name files, archives or directories of alerts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding(Sources):
    """Alerts that several processes decode."""

    workers: int | None = None
    """decoding processes; by default one for each core."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise UsageError("--workers takes 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled(Model):
    """A model, and labelled alerts to judge it by."""

    dataset: Path | None = None
    """folder of a packaged dataset; or --alerts and --labels instead."""
    split: str | None = None
    """of the dataset; by default test, and validation to calibrate."""
    alerts: tuple[Path, ...] = ()
    """Avro files, archives or directories, as for `score`."""
    labels: Path | None = None
    """labels.csv of the alerts; with --dataset, labels in place of its own, and only the alerts
    that they name."""

    def open(self, default_split: str = "test") -> "Source":
        """The labelled alerts."""
        from acai_jax.evaluate.labelled import open_source

        split = self.split or (default_split if self.dataset is not None else None)
        return open_source(
            dataset=self.dataset, split=split, alerts=self.alerts, labels=self.labels
        )
