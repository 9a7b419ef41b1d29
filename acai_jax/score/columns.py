"""Columns of score tables: names and types have their owner here."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Survey

BESIDE_SCORES: Final = ("_std", "_mi")
"""Ends of the names of columns that ensembles add to each score: the standard deviation of the
members' scores, and their mutual information [nat]."""


def score_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold scores, whatever heads the table is of.

    Example:
        >>> score_columns(["candid", "acai_h", "acai_h_std", "acai_h_version", "acai_tde"])
        ['acai_h', 'acai_tde']
    """
    beside = (*BESIDE_SCORES, "_version")
    return [name for name in columns if name.startswith("acai_") and not name.endswith(beside)]


def score_table_schema(
    classes: Iterable[str], survey: Survey = DEFAULT, *, ensembles: bool = False
) -> Mapping[str, Any]:
    """Column -> polars type of the score table for these classes and a survey's alerts.

    Args:
        classes: those that have scores.
        survey: whose alerts they are.
        ensembles: each score is that of an ensemble, and has `BESIDE_SCORES`.

    Example:
        >>> score_table_schema(["h"])["acai_h"]
        Float32
    """
    schema = pl.Schema({survey.alert_id: pl.Int64, survey.object_id: pl.String})
    for name in survey.table_fields:
        schema[name] = column_type(name, survey)
    for name in classes:
        for end in ("", *(BESIDE_SCORES if ensembles else ())):
            schema[f"acai_{name}{end}"] = pl.Float32()
        schema[f"acai_{name}_version"] = pl.String()
    for name in ("preset", "drb_source", "reason", "origin"):
        schema[name] = pl.String()
    return schema


def column_type(field: str, survey: Survey) -> Any:
    """Polars type of a field of an alert, in every table."""
    if field in survey.text_fields:
        return pl.String()
    if field in survey.integer_fields:
        return pl.Int64()
    return pl.Float64() if field in survey.double_fields else pl.Float32()
