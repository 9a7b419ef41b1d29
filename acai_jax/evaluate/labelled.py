"""Labelled alerts with their scores: out of a packaged dataset, or out of packets and labels.csv.

Alerts stream through; what stays in memory is a row of numbers for each labelled one. Stamps are
read again for those that are shown.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from acai_jax.alerts.lookup import read_stamps
from acai_jax.alerts.sources import Paths, source_files
from acai_jax.alerts.stamps import Images
from acai_jax.datasets.labels import Labels, read_labels
from acai_jax.datasets.records import Records, images_of, packet_of
from acai_jax.errors import EvaluationError
from acai_jax.score.columns import column_type, score_columns
from acai_jax.score.scorer import Scorer
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey

Report = Callable[[int, int], None]
"""Is told how much is done, and how much there is to do."""

_CHUNK_RECORDS: Final = 512


def _columns(survey: Survey) -> dict[str, Any]:
    """Column -> type of what is kept of each alert, but its scores."""
    fields = (survey.time, "ra", "dec", survey.band)
    features = (name for name in survey.key_fields if name in survey.inputs.features)
    return {
        survey.alert_id: pl.Int64(),
        survey.object_id: pl.String(),
        "label": pl.String(),
        **{name: column_type(name, survey) for name in (*fields, *features)},
        "reason": pl.String(),
        "origin": pl.String(),
    }


class DatasetSource:
    """One split of a packaged dataset.

    Args:
        directory: as for `open_dataset`.
        split: "train", "validation" or "test".
        labels: a labels file that takes the place of the dataset's own labels; alerts that are not
            in it are left out. The negatives that training dropped are evaluated like this.

    Raises:
        DatasetError: there is no such dataset or split.
        LabelsError: the labels cannot be read.

    Example:
        >>> source = DatasetSource("datasets", "test")  # doctest: +SKIP
        >>> source.scored(Scorer.load("published"))["acai_h"].mean()  # doctest: +SKIP
        0.141
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        split: str,
        labels: str | os.PathLike[str] | None = None,
    ) -> None:
        self._records = Records(directory, split)
        self._labels = _Labelling(labels)
        info = self._records.info
        self.facts: dict[str, Any] = {
            "dataset": info.full_name,
            "split": split,
            "preset": (info.metadata or {}).get("preset"),
            **self._labels.facts,
        }

    def scored(self, scorer: Scorer, report: Report = lambda *_: None) -> pl.DataFrame:
        """Reads and scores every labelled alert; `facts` then counts them.

        Args:
            scorer: of the heads.
            report: told how much is done, and how much there is.

        Returns:
            One row per alert: its identifiers, label, time [JD], ra, dec [deg], filter, the key
            features, the scores acai_*, and the reason where there are none.

        Raises:
            EvaluationError: there is no labelled alert, or the heads read those of another survey.
        """
        ours, theirs = self._records.survey, scorer.bank.survey
        if ours is not theirs:
            raise EvaluationError(
                f"the dataset holds alerts of {ours.title}, and the heads read {theirs.title}'s"
            )
        total = len(self._records)
        tables = []
        for start in range(0, total, _CHUNK_RECORDS):
            rows = range(start, min(start + _CHUNK_RECORDS, total))
            records = [self._records[row] for row in rows]
            table = _of_arrays if "triplet" in self._records.names else _of_packets
            where = pl.Series("origin", [str(row) for row in rows], pl.String())
            tables.append(self._labels.join(table(scorer, records).with_columns(where)))
            report(rows.stop, total)
        return self._labels.complete(tables, self.facts)

    def images(self, rows: pl.DataFrame) -> dict[int, Images]:
        """The stamps of some rows, by the alerts' identifiers."""
        places = rows.select(self._records.survey.alert_id, "origin").iter_rows()
        return {alert_id: images_of(self._records[int(row)]) for alert_id, row in places}


class AlertsSource:
    """Alert packets, labelled by a file.

    Args:
        paths: files, archives or directories; see `read_alerts`.
        labels: see `read_labels`.

    Raises:
        SourceError: a path does not exist.
        LabelsError: the labels cannot be read.

    Example:
        >>> source = AlertsSource("night.tar.gz", "labels.csv")  # doctest: +SKIP
        >>> source.scored(Scorer.load("published")).height  # doctest: +SKIP
        431
    """

    def __init__(self, paths: Paths, labels: str | os.PathLike[str]) -> None:
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        self._files = source_files(given)
        self._labels = _Labelling(labels)
        self.facts: dict[str, Any] = {
            "alerts": [os.fspath(path) for path in given],
            **self._labels.facts,
        }

    def scored(self, scorer: Scorer, report: Report = lambda *_: None) -> pl.DataFrame:
        """As `DatasetSource.scored`."""
        total = sum(file.stat().st_size for file in self._files)
        done, tables = 0, []
        for table, source_bytes in scorer.score_tables(self._files):
            tables.append(self._labels.join(table))
            done += source_bytes
            report(done, total)
        return self._labels.complete(tables, self.facts)

    def images(self, rows: pl.DataFrame) -> dict[int, Images]:
        """The stamps of some rows, by the alerts' identifiers; those files are read once more."""
        alert_ids = rows[survey_of_table(rows.columns).alert_id].to_list()
        return read_stamps(self._files, alert_ids, set(rows["origin"]))


Source = DatasetSource | AlertsSource


def open_source(
    *,
    dataset: str | os.PathLike[str] | None = None,
    split: str | None = None,
    alerts: Sequence[str | os.PathLike[str]] = (),
    labels: str | os.PathLike[str] | None = None,
) -> Source:
    """The source that a user names: a dataset, or alerts and their labels.

    Args:
        dataset: as for `DatasetSource`.
        split: of the dataset; "test" by default.
        alerts: as for `AlertsSource`.
        labels: needed for alerts; for a dataset, in place of its own.

    Raises:
        EvaluationError: neither is named, or both.

    Example:
        >>> open_source()
        Traceback (most recent call last):
        acai_jax.errors.EvaluationError: name a dataset, or alerts and a file of labels
    """
    if dataset is not None and not alerts:
        return DatasetSource(dataset, split or "test", labels)
    if dataset is not None:
        raise EvaluationError("name a dataset or alerts, not both")
    if not alerts or labels is None:
        raise EvaluationError("name a dataset, or alerts and a file of labels")
    if split is not None:
        raise EvaluationError("alerts have no splits: only a dataset has")
    return AlertsSource(alerts, labels)


def _of_arrays(scorer: Scorer, records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    features = np.stack([record["features"] for record in records])
    triplets = np.stack([record["triplet"] for record in records])
    scores, survey = scorer.score_arrays(features, triplets), scorer.bank.survey
    fields = {name: features[:, index] for index, name in enumerate(survey.inputs.features)}
    columns: dict[str, Any] = {}
    for name, kind in _columns(survey).items():
        if name in records[0]:  # exact there, float32 among the features
            columns[name] = pl.Series([record[name] for record in records], dtype=kind)
        elif name in fields:
            columns[name] = pl.Series(fields[name]).cast(kind, strict=False)
    unscored = np.logical_or.reduce(~np.isfinite(scores), axis=1)
    reasons = ["score is not a number" if none else None for none in unscored]
    columns["reason"] = pl.Series(reasons, dtype=pl.String())
    scores = np.where(unscored[:, None], np.float32(np.nan), scores)
    for index, name in enumerate(scorer.bank.classes):
        columns[f"acai_{name}"] = pl.Series(scores[:, index]).fill_nan(None)
    return pl.DataFrame(columns)


def _of_packets(scorer: Scorer, records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    table = scorer.score_packets([packet_of(record) for record in records])
    labels = pl.Series("label", [record["label"] for record in records], pl.String())
    return table.with_columns(labels)


class _Labelling:
    """Joins alerts to the labels of a file, if there is one, and counts what it meets."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._labels: Labels | None = None if path is None else read_labels(path)
        self._path = None if path is None else Path(path)
        self._counts: Counter[str] = Counter()
        self.facts: dict[str, Any] = {}
        if self._labels is not None:
            self.facts = {"labels": str(self._path), "labels_sha256": self._labels.sha256}

    def join(self, table: pl.DataFrame) -> pl.DataFrame:
        """The labelled rows of a table, in its order, with the columns that are kept."""
        survey = survey_of_table(table.columns)
        self._counts["alerts_read"] += len(table)
        self._counts["unreadable"] += table[survey.alert_id].null_count()
        if self._labels is not None:
            table = self._relabel(table, survey)
        kept = {name: kind for name, kind in _columns(survey).items() if name in table.columns}
        scores = score_columns(table.columns)
        return table.select(*(pl.col(name).cast(kind) for name, kind in kept.items()), *scores)

    def _relabel(self, table: pl.DataFrame, survey: Survey) -> pl.DataFrame:
        assert self._labels is not None
        alert_id, object_id = survey.alert_id, survey.object_id
        named = self._labels.table.rename({"alert_id": alert_id, "object_id": "named"})
        joined = table.drop("label", strict=False).join(
            named, alert_id, "inner", maintain_order="left"
        )
        self._counts["unlabelled"] += len(table) - len(joined) - table[alert_id].null_count()
        # the label may be meant for another alert: it is not evaluated
        other = pl.col(object_id) != pl.col("named")
        scores = score_columns(table.columns)
        return joined.with_columns(
            *(pl.when(other).then(None).otherwise(pl.col(name)).alias(name) for name in scores),
            pl.coalesce(object_id, "named"),
            reason=pl.when(other)
            .then(pl.format("other object: the labels name {}", pl.col("named")))
            .otherwise(pl.col("reason")),
        )

    def complete(self, tables: list[pl.DataFrame], facts: dict[str, Any]) -> pl.DataFrame:
        """All rows, each alert once; the counts go into `facts`.

        Raises:
            EvaluationError: no alert has a label.
        """
        counts, self._counts = self._counts, Counter()
        if not counts["alerts_read"]:
            raise EvaluationError("no alerts to evaluate: the source is empty")
        table = pl.concat(tables)
        alert_id = survey_of_table(table.columns).alert_id
        # of two copies, one that has scores
        scored_first = table.with_row_index("row").sort(pl.col("reason").is_not_null(), "row")
        unique = scored_first.unique(alert_id, keep="first", maintain_order=True)
        unique = unique.sort("row").drop("row")
        if not len(unique):
            assert self._labels is not None
            first = self._labels.table["alert_id"][0]
            raise EvaluationError(
                f"no alert is labelled by {self._path}: its {alert_id} {first} is not there, "
                f"nor any other of its {len(self._labels.table):,}"
            )
        counts["repeated"] = len(table) - len(unique)
        if self._labels is not None:
            counts["labels_without_alert"] = len(self._labels.table) - len(unique)
        facts["counts"] = dict(counts)
        return unique
