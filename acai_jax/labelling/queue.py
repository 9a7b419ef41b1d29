"""Queues of alerts to be labelled: what their tables hold, and where they come from."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from acai_jax.alerts.sources import Paths, read_alerts
from acai_jax.errors import Reject, TableError
from acai_jax.labelling.store import Asked
from acai_jax.score.columns import column_type, score_columns
from acai_jax.stream.tables import scan_tables
from acai_jax.surveys import SURVEYS, survey_of_table
from acai_jax.surveys.base import Survey

PICKED: Final = {
    "why": pl.String,
    "rank": pl.Int64,
    "probability": pl.Float64,
    "head": pl.String,
    "score": pl.Float64,
    "round": pl.Int64,
    "split": pl.String,
    "model": pl.String,
}
"""Columns of a queue beside those of the alerts: the reason; the place among those of the same
reason and head, from 1; the probability of a random pick; the head that the reason is about, its
score and version; the round of labelling; and the split of the object."""


def alert_columns(survey: Survey) -> dict[str, Any]:
    """Column -> type of what a queue keeps of each alert, but its scores."""
    names = (survey.alert_id, survey.object_id, survey.time, "ra", "dec", survey.band)
    return {name: column_type(name, survey) for name in (*names, survey.magnitude, "origin")}


def read_scores(paths: Iterable[str | os.PathLike[str]]) -> pl.DataFrame:
    """The alerts of score tables that have scores, each once, by identifier.

    Args:
        paths: Parquet files of `acai-jax score`, or output folders of `acai-jax stream`.

    Returns:
        Identifiers, position, time, band, magnitude and origin, and of each head the score, its
        version, and an ensemble's mutual information; a table without heads has none of these.

    Raises:
        TableError: a table is none of scored alerts, or they are of several surveys, models or
            presets; the message names the table.

    Example:
        >>> read_scores([])
        Traceback (most recent call last):
        acai_jax.errors.TableError: no score table given
    """
    tables: list[pl.DataFrame] = []
    first: tuple[Path, Survey, list[str]] | None = None
    for path in map(Path, paths):
        found = scan_tables(path) if path.is_dir() else pl.scan_parquet(path)
        survey = _one_survey(path, found.collect_schema())
        heads = score_columns(found.collect_schema())
        first = first or (path, survey, heads)
        if survey is not first[1]:
            titles = f"{first[1].title} in {first[0]}, {survey.title} in {path}"
            raise TableError(f"tables of two surveys: {titles}; pick for each by itself")
        if heads != first[2]:
            before, now = (", ".join(each) or "none" for each in (first[2], heads))
            raise TableError(f"tables of different heads: {before} in {first[0]}, {now} in {path}")
        tables.append(_scored(path, found, survey, heads))
    if first is None:
        raise TableError("no score table given")
    _, survey, heads = first
    table = pl.concat(tables).unique(survey.alert_id, keep="first").sort(survey.alert_id)
    for column in ("preset", *(f"{head}_version" for head in heads)):
        if column in table.columns and table[column].n_unique() > 1:
            values = ", ".join(map(str, table[column].unique(maintain_order=True).head(3)))
            raise TableError(f"scores that do not compare: {column} is {values}")
    return table


def read_unscored(paths: Paths) -> pl.DataFrame:
    """As `read_scores`, of packets, without scores: the first ones are picked by chance alone.

    Raises:
        SourceError: as for `read_alerts`.
        TableError: there is no sound alert, or they are of several surveys.

    Example:
        >>> read_unscored("night.tar.gz").columns[:2]  # doctest: +SKIP
        ['candid', 'objectId']
    """
    rows: list[dict[str, Any]] = []
    surveys: dict[str, Survey] = {}
    for alert in read_alerts(paths):
        if isinstance(alert, Reject):
            continue
        survey = surveys.setdefault(alert.survey.name, alert.survey)
        ids = {survey.alert_id: alert.alert_id, survey.object_id: alert.object_id}
        told = {**alert.fields, **ids, "origin": alert.origin}
        rows.append({name: told.get(name) for name in alert_columns(survey)})
    if len(surveys) != 1:
        titles = " and ".join(survey.title for survey in surveys.values()) or "no survey"
        raise TableError(f"the alerts are of {titles}: pick from one survey's")
    (survey,) = surveys.values()
    table = pl.DataFrame(rows, alert_columns(survey), orient="row", strict=False)
    return table.unique(survey.alert_id, keep="first").sort(survey.alert_id)


def _one_survey(path: Path, schema: Mapping[str, Any]) -> Survey:
    try:
        survey = survey_of_table(schema)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    names = set(schema)
    both = [each.title for each in SURVEYS.values() if names > {each.alert_id, each.object_id}]
    if len(both) > 1:
        raise TableError(f"{path} mixes alerts of {' and '.join(both)}")
    for name in (survey.alert_id, survey.object_id):
        if schema.get(name) != column_type(name, survey):
            wanted = column_type(name, survey)
            what = f"{schema[name]}, not {wanted}" if name in schema else "missing"
            raise TableError(f"{path}: column {name} is {what}")
    return survey


def _scored(path: Path, found: pl.LazyFrame, survey: Survey, heads: list[str]) -> pl.DataFrame:
    schema = found.collect_schema()
    beside = [f"{head}{end}" for head in heads for end in ("_mi", "_version")]
    kinds = alert_columns(survey)
    present = [pl.col(name).cast(kind) for name, kind in kinds.items() if name in schema]
    absent = [pl.lit(None, kind).alias(name) for name, kind in kinds.items() if name not in schema]
    more = [name for name in (*heads, *beside, "preset") if name in schema]
    told = pl.all_horizontal(pl.col(survey.alert_id, survey.object_id, *heads).is_not_null())
    table = found.filter(told).select(*present, *absent, *more).collect()
    for head in heads:
        low, high = table[head].min(), table[head].max()
        if not table[head].dtype.is_float() or (len(table) and not _is_share(low, high)):
            raise TableError(f"{path}: {head} holds no scores from 0 to 1")
    return table.select(*kinds, *more)


def _is_share(low: object, high: object) -> bool:
    if not (isinstance(low, float) and isinstance(high, float)):
        return False
    return math.isfinite(low + high) and low >= 0 and high <= 1


def read_queue(path: str | os.PathLike[str]) -> pl.DataFrame:
    """A queue that `acai-jax pick` has written.

    Raises:
        TableError: it is none.

    Example:
        >>> read_queue("queue.parquet").columns[:2]  # doctest: +SKIP
        ['candid', 'objectId']
    """
    try:
        queue = pl.read_parquet(Path(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path} is no queue: {error}") from None
    survey = _one_survey(Path(path), queue.schema)
    kinds = {**alert_columns(survey), **PICKED}
    if missing := [name for name in kinds if name not in queue.columns]:
        raise TableError(f"{path} is no queue of `acai-jax pick`: it has no {missing[0]}")
    if queue[survey.alert_id].has_nulls() or queue[survey.alert_id].is_duplicated().any():
        raise TableError(f"{path} is no queue: {survey.alert_id} is not there, or there twice")
    return queue


def asked_of(queue: pl.DataFrame) -> dict[int, Asked]:
    """What the history of labels keeps of each row, by the alert's identifier."""
    alert_ids = queue[survey_of_table(queue.columns).alert_id]
    names = ("why", "head", "score", "probability", "round", "model")
    rows = queue.select(names).iter_rows(named=True)
    return {alert_id: Asked(**row) for alert_id, row in zip(alert_ids, rows, strict=True)}
