"""The card of a packaged dataset: what is in it, as numbers."""

import collections
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from acai_jax.alerts.stamps import Images
from acai_jax.classes import CLASS_NAMES, CLASSES
from acai_jax.datasets.records import Records, dataset_survey, images_of, open_dataset
from acai_jax.datasets.splits import SPLITS, stable_hash
from acai_jax.errors import DatasetError
from acai_jax.surveys.base import Survey
from acai_jax.times import DATES, utc

_TYPES: Final = {"text": pl.String, "integer": pl.Int64}
_CHUNK_RECORDS: Final = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """A dataset in numbers.

    Attributes:
        folder: where it lies.
        name: such as "ztf_acai".
        version: of the dataset.
        config: how it was built, such as "alerts".
        description: of the config.
        size_bytes: of its files.
        metadata: what its builder wrote down: rejects, sources, preset and so on.
        survey: of the alerts.
        alerts: one row per alert: split, index in it, label, and by the survey's names its
            identifiers, required fields (time, position, filter, ...) and magnitude; drb_source.
    """

    folder: Path
    name: str
    version: str
    config: str
    description: str
    size_bytes: int
    metadata: Mapping[str, Any]
    survey: Survey
    alerts: pl.DataFrame

    @property
    def title(self) -> str:
        """Name, config and version, as TFDS writes them."""
        return "/".join(part for part in (self.name, self.config, self.version) if part)

    @property
    def summary(self) -> str:
        """How much there is, in a sentence."""
        objects = self.alerts[self.survey.object_id].n_unique()
        return f"{len(self.alerts):,} alerts of {objects:,} objects in {len(self.labels)} classes."

    @property
    def labels(self) -> list[str]:
        """The classes, the five of ACAI first."""
        found = self.alerts["label"].unique().to_list()
        return sorted(found, key=lambda label: (_rank(CLASSES, label), label))

    @property
    def splits(self) -> list[str]:
        """The splits, in the usual order."""
        found = self.alerts["split"].unique().to_list()
        return sorted(found, key=lambda split: (_rank(SPLITS, split), split))


@dataclasses.dataclass(frozen=True, slots=True)
class CardExample:
    """One alert of a gallery.

    Attributes:
        object_id: name of its object.
        magnitude: [mag]; None where the alert has none.
        band: name of the filter.
        images: science, template and difference stamps; None where one cannot be read.
    """

    object_id: str
    magnitude: float | None
    band: str
    images: Images


def read_card(
    directory: str | os.PathLike[str], *, report: Callable[[int, int], None] = lambda *_: None
) -> Card:
    """Reads through a dataset; keeps numbers only, so that memory stays small.

    Args:
        directory: as for `open_dataset`.
        report: told (records read, records in all) now and then.

    Raises:
        DatasetError: there is no dataset, or no record in it.

    Example:
        >>> card = read_card("datasets")  # doctest: +SKIP
        >>> card.title, len(card.alerts)  # doctest: +SKIP
        ('ztf_acai/simulated/1.0.0', 5000)
    """
    info = open_dataset(directory).info
    total = sum(split.num_examples for split in info.splits.values())
    if not total:
        raise DatasetError(f"no records in {info.data_dir}")
    folder, survey = Path(info.data_dir), dataset_survey(info)
    columns = {
        "split": pl.String,
        "index": pl.Int64,
        "label": pl.String,
        survey.alert_id: pl.Int64,
        survey.object_id: pl.String,
        **{name: _TYPES.get(survey.kinds[name], pl.Float64) for name in survey.required_fields},
        survey.magnitude: pl.Float64,
        "drb_source": pl.String,
    }
    tables = []
    done = 0
    for split in info.splits:
        records = Records(folder, split)
        for start in range(0, len(records), _CHUNK_RECORDS):
            stop = min(start + _CHUNK_RECORDS, len(records))
            rows = [(split, i, *_row(records[i], survey)) for i in range(start, stop)]
            tables.append(pl.DataFrame(rows, schema=columns, orient="row"))
            done += len(rows)
            report(done, total)
    return Card(
        folder=folder,
        name=info.name,
        version=str(info.version),
        config=info.config_name or "",
        description=info.config_description or "",
        size_bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        metadata=dict(info.metadata or {}),
        survey=survey,
        alerts=pl.concat(tables),
    )


def _row(record: Mapping[str, Any], survey: Survey) -> tuple[Any, ...]:
    raw = record.get(survey.record)  # only where stamps are kept raw
    values = raw or dict(zip(survey.inputs.features, record["features"].tolist(), strict=True))
    names = ("label", survey.alert_id, survey.object_id, *survey.required_fields)
    magnitude = values.get(survey.magnitude)
    return *(record[name] for name in names), magnitude, record.get("drb_source")


def count_table(card: Card) -> tuple[list[str], list[list[str | int]]]:
    """Alerts of each class in each split, and objects of each class: a header, and rows.

    The last row is of all classes; an object can have alerts of several.
    """
    header = ["class", *card.splits, "all alerts", "objects"]
    rows: list[list[str | int]] = []
    for label in [*card.labels, None]:
        alerts = card.alerts if label is None else card.alerts.filter(pl.col("label") == label)
        sizes = collections.Counter(alerts["split"])
        name = "all" if label is None else class_name(label)
        counts = [sizes[split] for split in card.splits]
        rows.append([name, *counts, len(alerts), alerts[card.survey.object_id].n_unique()])
    return header, rows


def class_name(label: str) -> str:
    """A class as tables name it.

    Example:
        >>> class_name("h"), class_name("moving")
        ('hosted (h)', 'moving')
    """
    return f"{CLASS_NAMES[label]} ({label})" if label in CLASS_NAMES else label


def fact_table(card: Card) -> list[list[str]]:
    """What else there is to know: rows of a name and a value."""
    metadata, alerts, survey = card.metadata, card.alerts, card.survey
    times = alerts[survey.time]
    dates = times.filter(times.is_between(*DATES)).to_numpy()
    ends = (f"{utc(float(end)):%Y-%m-%d}" for end in (dates.min(), dates.max()))
    undated = len(alerts) - len(dates)
    straddling = straddling_objects(card)
    facts = {
        "dates": f"{' to '.join(ends)} (UTC)" if len(dates) else None,
        "alerts without a date": f"{undated:,}" if undated else None,
        "objects in several splits": f"{straddling:,}" + (": test leaks" if straddling else ""),
        "split by": metadata.get("split_by"),
        "split rule": metadata.get("split_rule"),
        "preset": metadata.get("preset"),
        "drb from": _shares(alerts["drb_source"]),
        **{name: _shares(alerts[name]) for name in survey.public},
        "size": f"{card.size_bytes / 1e6:,.0f} MB",
        "folder": str(card.folder),
    }
    if simulated := metadata.get("simulated"):
        facts["simulated"] = f"{simulated['count']:,} alerts, seed {simulated['seed']}"
    if sources := metadata.get("sources"):
        facts["sources"] = f"files: {sources['files']:,}; {sources['bytes'] / 1e6:,.1f} MB"
        facts["sources' digest"] = f"SHA-256 {sources['sha256']} of sources.sha256"
    if labels := metadata.get("labels"):
        facts["labels"] = f"{labels['rows']:,} rows, {labels['repeated']:,} of them repeated"
        facts["further columns of labels"] = ", ".join(labels["extra_columns"])
        facts["labels' digest"] = f"SHA-256 {labels['sha256']}"
    if built_with := metadata.get("acai_jax_version"):
        facts["built with"] = f"acai_jax {built_with}"
    return [[name, value] for name, value in facts.items() if value]


def _shares(values: pl.Series) -> str:
    sizes = collections.Counter(values.drop_nulls())
    return "; ".join(f"{name}: {size:,}" for name, size in sizes.most_common())


def left_out_table(card: Card) -> list[list[str | int]]:
    """What the builder read and left out, and why: rows of a name and a count."""
    counts = dict(card.metadata.get("counts", {}))
    rows: list[list[str | int]] = [["alerts read", counts.pop("alerts")]] if counts else []
    rows += [[name.replace("_", " "), count] for name, count in counts.items()]
    rejects = card.metadata.get("rejects", {})
    return rows + [[f"rejected: {reason}", count] for reason, count in rejects.items()]


def straddling_objects(card: Card) -> int:
    """How many objects have alerts in more than one split: each lets the test set leak."""
    splits = card.alerts.group_by(card.survey.object_id).agg(pl.col("split").n_unique())
    return len(splits.filter(pl.col("split") > 1))


def choose_examples(card: Card, count: int) -> dict[str, list[CardExample]]:
    """Alerts to look at, for each class: always the same ones, of different objects if it can.

    Args:
        card: of the dataset that they are read from.
        count: how many per class, where there are so many.
    """
    survey, alerts = card.survey, card.alerts
    hashes = alerts.with_columns(
        _hashes("object_hash", alerts[survey.object_id]),
        _hashes("alert_hash", alerts[survey.alert_id].cast(pl.String)),
    ).with_columns(
        pl.col("alert_hash").rank("ordinal").over("label", survey.object_id).alias("rank"),
    )
    chosen = hashes.sort("rank", "object_hash").group_by("label", maintain_order=True).head(count)
    records = {split: Records(card.folder, split) for split in chosen["split"].unique()}
    examples: dict[str, list[CardExample]] = {label: [] for label in card.labels}
    for row in chosen.iter_rows(named=True):
        record = records[row["split"]][row["index"]]
        example = CardExample(
            row[survey.object_id],
            row[survey.magnitude],
            survey.band_name(row[survey.band]),
            images_of(record),
        )
        examples[row["label"]].append(example)
    return examples


def _hashes(name: str, keys: pl.Series) -> pl.Series:
    return pl.Series(name, [stable_hash(key) for key in keys], dtype=pl.UInt64)


def _rank(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
