"""Filters over score tables: SQL expressions, checked and explained before they run.

An expression sees every column of a score table, and derived ones: those that the survey of the
table's alerts names, of ZTF the first three below, and the others. `filters.sql` says
what it may hold. A comparison with null is null, and an alert passes only where the whole
expression is true. An alert without scores never passes, whatever the expression says, unless it is
asked for.

| derived column | meaning |
| --- | --- |
| `n_detections` | `ndethist` |
| `is_positive_subtraction` | `isdiffpos` says science minus reference |
| `is_known_ss_object` | a known solar-system object within 12 arcsec |
| `max_score` | the largest score |
| `n_confident` | how many scores are above `CONFIDENT` |
| `galactic_l`, `galactic_b` | galactic longitude, 0 to 360, and latitude [deg] |
"""

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl
from sqlglot import exp

from acai_jax.coordinates import galactic
from acai_jax.errors import FilterError
from acai_jax.filters import sql
from acai_jax.score.columns import score_columns
from acai_jax.surveys import DEFAULT, survey_of_table
from acai_jax.surveys.base import Derived, NamedFilter, Survey

CONFIDENT: Final = 0.8
"""A score above this is a confident one, as in the paper's filter."""


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """A checked expression over a score table.

    Attributes:
        where: as the user wrote it.
        stages: its parts, joined by AND at the top: (text, expression) each.
        expression: the whole: true where an alert passes.
    """

    where: str
    stages: tuple[tuple[str, pl.Expr], ...]
    expression: pl.Expr


def with_derived_columns(table: pl.LazyFrame) -> pl.LazyFrame:
    """Adds the derived columns that filters may use, where the table has what they need.

    NaN becomes null: polars would take it for more than every number.

    Raises:
        TableError: as for `survey_of_table`.

    Example:
        >>> table = pl.LazyFrame({"candid": [1, 2, 3], "ssdistnr": [-999.0, 3.0, 40.0]})
        >>> with_derived_columns(table).collect()["is_known_ss_object"].to_list()
        [False, True, False]
    """
    schema = table.collect_schema()
    names = schema.names()
    scores = score_columns(names)
    derived: list[pl.Expr] = []
    table = table.with_columns(
        pl.col(name).fill_nan(None) for name, kind in schema.items() if kind.is_float()
    )
    derived += [_derived(each) for each in survey_of_table(names).derived if each.column in names]
    if {"ra", "dec"} <= set(names):
        longitude, latitude = galactic()
        derived += [longitude.alias("galactic_l"), latitude.alias("galactic_b")]
    if scores:
        derived.append(pl.max_horizontal(scores).alias("max_score"))
        confident = pl.sum_horizontal(pl.col(n) > CONFIDENT for n in scores)
        scored = pl.all_horizontal(pl.col(n).is_not_null() for n in scores)
        derived.append(pl.when(scored).then(confident).alias("n_confident"))
    return table.with_columns(derived)


def _derived(derived: Derived) -> pl.Expr:
    column = pl.col(derived.column)
    if derived.values is not None:
        column = column.replace_strict(derived.values, default=None, return_dtype=pl.Boolean)
    elif derived.between is not None:
        column = column.is_between(*derived.between)
    return column.alias(derived.name)


def compile_filter(where: str, schema: Mapping[str, Any]) -> Filter:
    """Checks an expression against a table's columns, before it meets any row.

    Args:
        where: SQL, what would follow WHERE.
        schema: column -> type, as `LazyFrame.collect_schema()` gives it, derived ones included.

    Raises:
        FilterError: it does not parse, names an unknown column or function, or is not true or
            false; the message points at the place.

    Example:
        >>> compile_filter("acai_h > 0.5 AND magpsf < 18", {"acai_h": pl.Float32})
        Traceback (most recent call last):
        acai_jax.errors.FilterError: no column magpsf
          acai_h > 0.5 AND magpsf < 18
                           ^^^^^^
    """
    tree = sql.parse(where)
    written = list(tree.flatten()) if isinstance(tree, exp.And) else [tree]
    stages = tuple((part.sql(), sql.condition(part, where, schema)) for part in written)
    return Filter(where, stages, sql.condition(tree, where, schema))


def apply_filter(
    table: pl.LazyFrame | pl.DataFrame, where: str, *, include_unscored: bool = False
) -> pl.DataFrame:
    """The rows of a score table that pass.

    Args:
        table: a score table, such as `pl.scan_parquet("scores.parquet")`.
        where: SQL, what would follow WHERE.
        include_unscored: let alerts without scores pass too, if the expression is true for them.

    Returns:
        Them with the derived columns, galactic coordinates only where the expression has them.

    Raises:
        FilterError: as for `compile_filter`.
        TableError: as for `survey_of_table`.

    Example:
        >>> scores = {"acai_h": [0.9, 0.2, None], "magpsf": [19.0, 18.0, 17.0]}
        >>> table = pl.DataFrame({"candid": [1, 2, 3], **scores})
        >>> apply_filter(table, "acai_h > 0.5 OR magpsf < 17.5")["magpsf"].to_list()
        [19.0]
    """
    frame = with_derived_columns(table.lazy())
    found = compile_filter(where, frame.collect_schema())
    passed = frame.filter(passing(frame, found.expression, include_unscored))
    return drop_unused(passed, table.lazy(), found).collect()


def drop_unused(passed: pl.LazyFrame, table: pl.LazyFrame, found: Filter) -> pl.LazyFrame:
    """Drops galactic coordinates that neither table nor filter has: they would take longest."""
    own = {*table.collect_schema().names(), *found.expression.meta.root_names()}
    return passed.drop({"galactic_l", "galactic_b"} - own, strict=False)


def named_filter(
    name: str, path: str | os.PathLike[str] | None = None, survey: Survey = DEFAULT
) -> NamedFilter:
    """A filter by its name: of the file, if one is given and has it, or one of the survey's.

    Raises:
        FilterError: there is no such filter, or the file is no file of filters.

    Example:
        >>> named_filter("early_hosted").where[:12]
        'acai_h > 0.8'
    """
    known = {**survey.filters, **(read_filters(path) if path is not None else {})}
    if name not in known:
        raise FilterError(f"no filter {name!r}; known: {', '.join(known)}")
    return known[name]


def read_filters(path: str | os.PathLike[str]) -> dict[str, NamedFilter]:
    r"""Filters of a TOML file: a table for each, with `where` and, for people, `why`.

    Raises:
        FilterError: it cannot be read, or is no such file.

    Example:
        >>> import tempfile; path = Path(tempfile.mkdtemp(), "filters.toml")
        >>> _ = path.write_text("[bright]\nwhere = 'magpsf < 16'")
        >>> read_filters(path)["bright"].where
        'magpsf < 16'
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FilterError(f"cannot read filters from {path}: {error}") from None
    found = {}
    for name, table in content.items():
        if not isinstance(table, dict) or not isinstance(table.get("where"), str):
            raise FilterError(f"{path}: [{name}] needs where = 'EXPRESSION'")
        if unknown := table.keys() - {"where", "why"}:
            raise FilterError(f"{path}: [{name}] has an unknown key {sorted(unknown)[0]!r}")
        found[name] = NamedFilter(table["where"], str(table.get("why", "")))
    return found


def as_toml(name: str, where: str) -> str:
    """A filter as `read_filters` takes it, to be kept in a file.

    Example:
        >>> print(as_toml("bright", "magpsf < 16"))
        [bright]
        where = "magpsf < 16"
    """
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    quoted = [json.dumps(text, ensure_ascii=False) for text in (name, where)]
    return f"[{name if bare else quoted[0]}]\nwhere = {quoted[1]}"


def passing(frame: pl.LazyFrame, expression: pl.Expr, include_unscored: bool) -> pl.Expr:
    """Where alerts pass: an expression, and scores that are there, unless they need not be."""
    names = frame.collect_schema().names()
    scores = score_columns(names)
    if include_unscored or not scores:
        return expression
    return pl.all_horizontal(pl.col(n).is_not_null() for n in scores) & expression
