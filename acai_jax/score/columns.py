"""Columns of score tables: names and types have their owner here."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from acai_jax.surveys.ztf import DOUBLE_FIELDS, INTEGER_FIELDS, TABLE_FIELDS, TEXT_FIELDS


def score_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that hold scores, whatever heads the table is of.

    Example:
        >>> score_columns(["candid", "acai_h", "acai_h_version", "acai_tde"])
        ['acai_h', 'acai_tde']
    """
    return [name for name in columns if name.startswith("acai_") and not name.endswith("_version")]


def score_table_schema(classes: Iterable[str]) -> Mapping[str, Any]:
    """Column -> polars type of the score table for these classes.

    Example:
        >>> score_table_schema(["h"])["acai_h"]
        Float32
    """
    schema = pl.Schema({"candid": pl.Int64, "objectId": pl.String})
    for name in TABLE_FIELDS:
        schema[name] = column_type(name)
    for name in classes:
        schema[f"acai_{name}"] = pl.Float32()
        schema[f"acai_{name}_version"] = pl.String()
    for name in ("preset", "drb_source", "reason", "origin"):
        schema[name] = pl.String()
    return schema


def column_type(field: str) -> Any:
    """Polars type of a field of `candidate`, in every table."""
    if field in TEXT_FIELDS:
        return pl.String()
    if field in INTEGER_FIELDS:
        return pl.Int64()
    return pl.Float64() if field in DOUBLE_FIELDS else pl.Float32()
