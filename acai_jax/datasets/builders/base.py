"""The TFDS builders' base: labelled alerts, simulated or the user's own, as versioned records."""

import dataclasses
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from acai_jax.alerts.preprocess import check_preset
from acai_jax.alerts.sources import Paths, source_files
from acai_jax.datasets.gather import local
from acai_jax.datasets.gather.plan import BuildPlan, make_plan
from acai_jax.datasets.labels import COLUMNS, Labels, read_labels
from acai_jax.datasets.splits import PATCHES, RULE
from acai_jax.errors import DatasetError, RejectsError
from acai_jax.files import lock_folder
from acai_jax.surveys import DEFAULT, Preset
from acai_jax.surveys.base import Survey

from .features import record_features
from .formats import ARRAY_RECORD, ExampleWriter, to_tf_data
from .shards import write_shards

SplitBy = Literal["object", "alert", "position"]


@dataclasses.dataclass(eq=False, kw_only=True)
class AcaiConfig(tfds.core.BuilderConfig):
    """What the records of a dataset are.

    Attributes:
        preset: whose preprocessing makes the arrays, one of the survey's recipes.
        stamps: keep the raw stamps and the survey's fields instead of arrays.
        split_by: what is in one split: all alerts of an object, each alert for itself, or all of
            a patch of the sky.
        public_only: leave out what not everyone may have.
        count: how many alerts to simulate; 0: the user's own alerts are packaged.
        seed: of the simulation.
    """

    preset: Preset = "acai"
    stamps: bool = False
    split_by: SplitBy = "object"
    public_only: bool = True
    count: int = 0
    seed: int = 0

    def like(self, **options: Any) -> "AcaiConfig":
        """This config; or one of another name, where an option makes other records of it.

        Example:
            >>> AcaiConfig(name="simulated").like(preset=None, seed=3).name
            'simulated_seed_3'
        """
        changes = {
            n: value for n, value in options.items() if value not in (None, getattr(self, n))
        }
        suffixes = (
            "all_programs" if name == "public_only" else f"{name}_{value}"
            for name, value in changes.items()
        )
        if not changes:
            return self
        return dataclasses.replace(self, name="_".join([self.name, *suffixes]), **changes)


def standard_configs(survey: Survey) -> list[AcaiConfig]:
    """The configs that datasets of any survey have."""
    what: dict[str, Any] = {"preset": next(iter(survey.recipes)), "split_by": survey.split_by}
    return [
        AcaiConfig(name="alerts", description="Labelled alerts, as normalised arrays.", **what),
        AcaiConfig(
            name="alerts_stamps",
            description="Labelled alerts with their raw stamps: preprocessing can change later.",
            stamps=True,
            **what,
        ),
    ]


def simulated_config(survey: Survey) -> AcaiConfig:
    """The config of surveys whose alerts can be simulated."""
    return AcaiConfig(
        name="simulated",
        description="Simulated alerts of known class.",
        preset=cast(Preset, next(iter(survey.recipes))),
        split_by=survey.split_by,
        count=5000,
    )


class AcaiBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Builds a dataset of a survey's alerts.

    Args:
        sources: files, archives or folders of alerts; by default the manual folder.
        labels: their labels; by default `labels.csv` in the manual folder.
        weights: folder with braai's weights, which alerts without `drb` need under the preset
            "acai"; by default the cache.
        num_workers: decoding processes; by default one per core.
        **kwargs: as for every TFDS builder: `data_dir`, `config`, `version`, `file_format`.
    """

    survey: ClassVar[Survey]
    """Whose alerts it packages."""
    pkg_dir_path = tfds.core.Path(__file__).parent  # of README.md, CITATIONS.bib, TAGS.txt
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put the alerts (Avro files, .tar or .tar.gz archives, Parquet, JSON) and labels.csv, a table
    with the columns {", ".join(COLUMNS)}, into the manual folder. The config "simulated" needs
    nothing.
    """

    def __init__(
        self,
        *,
        sources: Paths | None = None,
        labels: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._sources = sources
        self._labels = labels
        self._weights = weights
        self._num_workers = num_workers
        super().__init__(**kwargs)
        own = {"sources": sources, "labels": labels, "weights": weights, "num_workers": num_workers}
        self._original_state |= own  # TFDS pickles a builder by its arguments

    @property
    def settings(self) -> AcaiConfig:
        """The config, by its own type."""
        assert isinstance(self.builder_config, AcaiConfig)
        return self.builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.settings
        check_preset(config.preset, self.survey)
        return self.dataset_info_from_configs(
            features=record_features(self.survey, stamps=config.stamps),
            supervised_keys=None if config.stamps else ("triplet", "label"),
            homepage="https://arxiv.org/abs/2111.12142",
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        """Gathers the records of each shard, then writes the shards."""
        config = download_config or tfds.download.DownloadConfig()
        if config.beam_options is not None and config.beam_runner is None:
            # `tfds build` gives options only, and TFDS would write the shards without Beam
            config = dataclasses.replace(config, beam_runner=_runner(config.beam_options))
        folder = Path(self.data_path)  # TFDS's incomplete folder, renamed at the end
        lock = lock_folder(folder)
        try:
            _remove_leftovers(folder)
            self._build(folder, dl_manager, config)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise DatasetError(
                f"no space for the dataset in {self._data_dir_root}: {error.strerror}. "
                "Nothing of it is kept"
            ) from error
        finally:
            os.close(lock)

    def _build(
        self,
        folder: Path,
        dl_manager: tfds.download.DownloadManager,
        config: tfds.download.DownloadConfig,
    ) -> None:
        with _progress() as bar, tempfile.TemporaryDirectory(dir=folder) as scratch:
            sources, labels_file = self._inputs(dl_manager, Path(scratch), bar)
            files, labels = self._without_own(source_files(sources)), read_labels(labels_file)
            plan = self._plan(Path(scratch) / "gathering", labels, files)
            rejects = folder / "rejects.csv"
            if config.beam_runner is not None:
                from acai_jax.datasets.gather import beam

                tally, digests = beam.gather(
                    plan, files, rejects, config.beam_runner, config.beam_options
                )
            else:
                size = sum(file.stat().st_size for file in files)
                task = bar.add_task("checking", total=size)
                digests = local.digests(files, functools.partial(bar.advance, task))
                task = bar.add_task("reading", total=size)
                tally = local.gather(
                    plan, files, rejects, self._num_workers, functools.partial(bar.advance, task)
                )
            if not _records(tally):
                rejected = sum(count for key, count in tally.items() if key[0] == "reject")
                labelled = tally["alerts",] - tally["unlabelled",]
                kind = RejectsError if rejected == labelled > 0 else DatasetError
                raise kind(_why_empty(labels_file, labels, tally))
            facts = self._facts(labels, tally)
            facts["sources"] = _write_digests(folder, files, digests, Path(scratch))
            assert self.info.metadata is not None
            self.info.metadata.update(facts)
            if config.beam_runner is not None:
                self._write_with_beam(plan, dl_manager, config)
            else:
                assert self.info.file_format is not None
                folders = plan.shard_folders()
                task = bar.add_task("writing", total=_records(tally))
                splits = write_shards(
                    folders,
                    {name: self._get_filename_template(split_name=name) for name in folders},
                    _records(tally),
                    survey=self.survey,
                    stamps=self.settings.stamps,
                    file_format=self.info.file_format,
                    num_workers=self._num_workers,
                    advance=functools.partial(bar.advance, task),
                )
                self.info.set_splits(tfds.core.SplitDict(splits))

    def _inputs(
        self, dl_manager: tfds.download.DownloadManager, scratch: Path, bar: Progress
    ) -> tuple[Paths, Path]:
        """The sources and the labels file."""
        config = self.settings
        if config.count:
            if self._sources is not None or self._labels is not None:
                raise DatasetError(f"the config {config.name} simulates: it takes no sources")
            from acai_jax.simulate import write_alerts

            task = bar.add_task("simulating", total=config.count)
            write_alerts(
                scratch,
                config.count,
                config.seed,
                survey=self.survey.name,
                num_workers=self._num_workers,
                progress=functools.partial(bar.advance, task),
            )
            return scratch / "alerts", scratch / "labels.csv"
        if self._sources is not None and self._labels is not None:
            return self._sources, Path(self._labels)
        try:
            manual = Path(dl_manager.manual_dir)
        except AssertionError as error:
            raise DatasetError(f"no sources, no labels: {error}") from None
        return self._sources or manual, Path(self._labels or manual / "labels.csv")

    def _without_own(self, files: list[Path]) -> list[Path]:
        """The files but those of the datasets themselves, which may lie in a folder of alerts."""
        own = (Path(self._data_dir_root) / self.name).absolute()
        return (
            files if self.settings.count else [f for f in files if own not in f.absolute().parents]
        )

    def _plan(self, folder: Path, labels: Labels, files: Sequence[Path]) -> BuildPlan:
        config, table = self.settings, labels.table
        if config.split_by == "object":
            keys = table["object_id"].to_list()
        elif config.split_by == "alert":
            keys = [str(alert_id) for alert_id in table["alert_id"]]
        else:
            patches = local.sky_patches(files, table["alert_id"].to_list(), self._num_workers)
            keys = [patches.get(alert_id, "") for alert_id in table["alert_id"]]
        return make_plan(
            self.survey,
            folder,
            labels,
            keys,
            preset=config.preset,
            stamps=config.stamps,
            public_only=config.public_only,
            weights=Path(self._weights) if self._weights is not None else None,
        )

    def _facts(self, labels: Labels, tally: local.Tally) -> dict[str, Any]:
        """What the dataset's `metadata.json` says of how it was made, but its sources."""
        config, survey = self.settings, self.survey
        counts = {
            name: tally[name,]
            for name in ("alerts", "unlabelled", "not_public", "duplicate", "label_not_found")
        }
        rejects = {key[1]: count for key, count in tally.items() if key[0] == "reject"}
        classes: dict[str, dict[str, int]] = {}
        for (kind, *names), count in sorted(tally.items()):
            if kind == "record":
                classes.setdefault(names[0], {})[names[1]] = count
        return {
            "acai_jax_version": metadata.version("acai_jax"),
            "preset": None if config.stamps else config.preset,
            "split_by": {"object": survey.object_id, "alert": survey.alert_id}.get(
                config.split_by, config.split_by
            ),
            "split_rule": RULE + (f". {PATCHES}" if config.split_by == "position" else ""),
            "public_only": config.public_only,
            "simulated": {"count": config.count, "seed": config.seed} if config.count else None,
            "records": _records(tally),
            "counts": counts,
            "rejects": dict(sorted(rejects.items())),
            "classes": classes,
            "labels": {
                "rows": len(labels.table) + labels.duplicates,
                "repeated": labels.duplicates,
                "extra_columns": list(labels.extra_columns),
                "sha256": labels.sha256,
            },
            **({f"{survey.record}_fields": list(survey.dataset_numbers)} if config.stamps else {}),
            **({"survey": survey.name} if survey is not DEFAULT else {}),
        }

    def _write_with_beam(
        self,
        plan: BuildPlan,
        dl_manager: tfds.download.DownloadManager,
        config: tfds.download.DownloadConfig,
    ) -> None:
        read = functools.partial(local.read_records, survey=self.survey)
        splits = []
        for split, folders in plan.shard_folders().items():
            # one at a time: TFDS would run the first split's pipeline again for the next
            self._shards = {split: [functools.partial(read, folder) for folder in folders]}
            super()._download_and_prepare(dl_manager, config)
            splits.append(self.info.splits[split])
        self.info.set_splits(tfds.core.SplitDict(splits))
        for path in Path(self.data_path).glob("*.shard_infos.json"):
            path.unlink()  # TFDS's notes

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[Callable[[], Any]]]:
        del dl_manager
        return self._shards

    def _example_writer(self) -> ExampleWriter:
        assert self.info.file_format is not None
        return ExampleWriter(self.info.file_format)

    def _as_dataset(
        self,
        split: Any,
        decoders: Any = None,
        read_config: tfds.ReadConfig | None = None,
        shuffle_files: bool = False,
    ) -> Any:
        if self.info.file_format is not ARRAY_RECORD:
            return super()._as_dataset(split, decoders, read_config, shuffle_files)
        return to_tf_data(self, split, decoders, read_config or tfds.ReadConfig(), shuffle_files)


def _runner(options: Any) -> str:
    from apache_beam.options.pipeline_options import StandardOptions

    return options.view_as(StandardOptions).runner or "DirectRunner"


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed builds of the same dataset left beside this one's folder."""
    prefix, _, name = folder.name.partition("_")
    for other in folder.parent.glob(f"{prefix.partition('.')[0]}.*_{name}"):
        if other != folder:
            os.close(lock_folder(other))  # raises if another build is alive
            shutil.rmtree(other)


def _records(tally: local.Tally) -> int:
    return sum(count for key, count in tally.items() if key[0] == "record")


def _why_empty(path: Path, labels: Labels, tally: local.Tally) -> str:
    fates = [f"{count} {': '.join(key)}" for key, count in tally.most_common()]
    labelled = f"none of the {len(labels.table)} labelled alerts of {path} gave a record"
    return f"{labelled}: {', '.join(fates)}"


def _write_digests(
    folder: Path, files: Sequence[Path], digests: Sequence[str], scratch: Path
) -> dict[str, Any]:
    """Writes `sources.sha256`, which `sha256sum --check` takes; returns what sums it up."""
    # simulated sources are gone by then
    names = [str(f.relative_to(scratch) if f.is_relative_to(scratch) else f) for f in files]
    lines = [f"{digest}  {name}\n" for name, digest in sorted(zip(names, digests, strict=True))]
    path = folder / "sources.sha256"
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    size = sum(file.stat().st_size for file in files)
    return {"files": len(files), "bytes": size, "sha256": local.digest(path)}


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
