"""Columns of score tables: names and types have their owner here."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from jaxtyping import Float32

from acai_jax.classes import BESIDE_SCORES
from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Survey

OF_ENSEMBLES: Final = ("_std", "_mi")
"""Those of `BESIDE_SCORES` that ensembles add to each score, in the order of their numbers."""
ALERTS: Final = "n_alerts"
"""In a table of objects: how many alerts stand behind a row."""
NOT_A_NUMBER: Final = "score is not a number"
"""The reason of an alert whose scores are not all numbers, where it has no other."""
REASON_KIND: Final = pl.col("reason").str.split(":").list.first()
"""What a row's reason is counted as, as `Reject.kind`; null where the alert was scored."""
_TEXTS: Final = ("label", "preset", "drb_source", "reason", "origin")


def score_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold scores, whatever heads the table is of.

    Example:
        >>> score_columns(["candid", "acai_h", "acai_h_std", "acai_h_version", "acai_tde"])
        ['acai_h', 'acai_tde']
    """
    beside = tuple(BESIDE_SCORES)
    return [name for name in columns if name.startswith("acai_") and not name.endswith(beside)]


def score_table_schema(
    classes: Iterable[str], survey: Survey = DEFAULT, *, ensembles: bool = False
) -> Mapping[str, Any]:
    """Column -> polars type of the score table for these classes and a survey's alerts.

    Args:
        classes: those that have scores.
        survey: whose alerts they are.
        ensembles: each score is that of an ensemble, and has `OF_ENSEMBLES`.

    Example:
        >>> score_table_schema(["h"])["acai_h"]
        Float32
    """
    fields = (survey.alert_id, survey.object_id, *survey.table_fields)
    schema = pl.Schema({name: column_type(name, survey) for name in fields})
    for name in classes:
        for end in ("", *(OF_ENSEMBLES if ensembles else ())):
            schema[f"acai_{name}{end}"] = pl.Float32()
        schema[f"acai_{name}_version"] = pl.String()
    for name in ("preset", "drb_source", "reason", "origin"):
        schema[name] = column_type(name, survey)
    return schema


def column_type(field: str, survey: Survey) -> Any:
    """Polars type of a field of an alert, or of what is known of it, in every table."""
    if field == survey.object_id or field in survey.text_fields or field in _TEXTS:
        return pl.String()
    if field == survey.alert_id or field in survey.integer_fields:
        return pl.Int64()
    return pl.Float64() if field in survey.double_fields else pl.Float32()


def score_table(
    columns: Mapping[str, Any],
    scores: Float32[np.ndarray, "n m"],
    versions: Mapping[str, str],
    preset: str,
    survey: Survey = DEFAULT,
) -> pl.DataFrame:
    """The score table of some alerts: what every table of scores is made by.

    An alert has all its scores, or none and a reason.

    Args:
        columns: of the alerts, by name, "reason" among them; null where they are left out.
        scores: of k classes; then, of ensembles, the columns of each of `OF_ENSEMBLES`. NaN where
            there is none.
        versions: class -> version of its head, in the order of the scores.
        preset: of the preprocessing.
        survey: whose alerts they are.

    Example:
        >>> scores = np.array([[0.5], [np.nan]], np.float32)
        >>> table = score_table({"reason": [None, None]}, scores, {"h": "1"}, "acai")
        >>> table.select("acai_h", "acai_h_version", "reason").rows()
        [(0.5, '1', None), (None, '1', 'score is not a number')]
    """
    schema = score_table_schema(versions, survey, ensembles=scores.shape[1] > len(versions))
    rows = len(columns["reason"])
    unscored = np.logical_or.reduce(~np.isfinite(scores), axis=1)
    data: dict[str, Any] = {**dict.fromkeys(schema), **columns, "preset": [preset] * rows}
    data["reason"] = list(data["reason"])
    for row in np.flatnonzero(unscored):
        data["reason"][row] = data["reason"][row] or NOT_A_NUMBER
    scores = np.where(unscored[:, None], np.float32(np.nan), scores)
    names = (f"acai_{name}{end}" for end in ("", *OF_ENSEMBLES) for name in versions)
    for name, column in zip(names, scores.T, strict=False):
        data[name] = pl.Series(column).fill_nan(None)
    for name, version in versions.items():
        data[f"acai_{name}_version"] = [version] * rows
    return pl.DataFrame({name: data[name] for name in schema}, schema=schema)
