"""A filter tried on a score table: what passes, of how many, by stage, night and class."""

import dataclasses
from collections.abc import Mapping
from typing import Final

import polars as pl

from acai_jax.errors import FilterError
from acai_jax.filters.expressions import compile_filter, pass_rates, passing, with_derived_columns
from acai_jax.score.columns import score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey
from acai_jax.times import DATES, UNIX_EPOCH_JD

UNKNOWN: Final = "unknown"
UNSCORED: Final = "not scored"


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What a filter does to a table.

    Attributes:
        where: the filter.
        include_unscored: whether alerts without scores may pass.
        heads: names of the table's heads.
        stages: as `pass_rates` gives them.
        groups: by "night" (UTC date), by "class" (that with the largest score) and, if the table
            has one, by "label": group, objects, objects_passed, alerts, alerts_passed. An object
            counts in every group that one of its alerts is in.
        passed: the newest passing alert of each object, the newest first; its columns are the
            table's, and night, class and passing (how many alerts of the object pass).
        presets: of the scores.
        survey: of the alerts.
    """

    where: str
    include_unscored: bool
    heads: tuple[str, ...]
    stages: pl.DataFrame
    groups: Mapping[str, pl.DataFrame]
    passed: pl.DataFrame
    presets: tuple[str, ...]
    survey: Survey


def try_filter(
    table: pl.LazyFrame | pl.DataFrame, where: str, *, include_unscored: bool = False
) -> Trial:
    """Tries a filter on a table.

    Args:
        table: as for `apply_filter`, with the alerts' identifiers, times and filters.
        where: as for `apply_filter`.
        include_unscored: as for `apply_filter`.

    Raises:
        FilterError: as for `compile_filter`, or a column is missing.
        TableError: as for `survey_of_table`.

    Example:
        >>> rows = {"candid": [1, 2], "objectId": ["a", "a"], "jd": [2458295.7, 2458296.8]}
        >>> scores = {"acai_h": [0.9, 0.1], "acai_b": [0.0, 0.6]}
        >>> table = pl.DataFrame({**rows, "fid": [1, 2], **scores})
        >>> trial = try_filter(table, "acai_h > 0.5")
        >>> trial.groups["class"].rows()
        [('b', 1, 0, 1, 0), ('h', 1, 1, 1, 1)]
        >>> trial.passed["night"].to_list()
        ['2018-06-26']
    """
    frame = with_derived_columns(table.lazy())
    names = frame.collect_schema().names()
    survey = survey_of_table(names)
    needed = (survey.alert_id, survey.object_id, survey.time, survey.band)
    if missing := [name for name in needed if name not in names]:
        raise FilterError(f"a report needs a score table, with a column {missing[0]}")
    scores = score_columns(names)
    stages = pass_rates(table, where, include_unscored=include_unscored)
    expression = compile_filter(where, frame.collect_schema()).expression
    judged = frame.with_columns(
        _night(survey).alias("night"),
        _best_class(scores).alias("class"),
        passing(frame, expression, include_unscored).fill_null(False).alias("_passes"),
    )
    by = ["night", "class"]
    if "label" in names:
        judged = judged.with_columns(pl.col("label").cast(pl.String).fill_null(UNKNOWN))
        by.append("label")
    groups = pl.collect_all([_counts(judged, column, survey.object_id) for column in by])
    passed = (
        judged.filter("_passes", pl.col(survey.object_id).is_not_null())
        .drop("_passes")
        .with_columns(passing=pl.len().over(survey.object_id))
        .sort(survey.time, survey.alert_id, descending=True, nulls_last=True)
        .unique(survey.object_id, keep="first", maintain_order=True)
        .collect()
    )
    presets = (
        frame.select(pl.col("preset").unique()).collect()["preset"] if "preset" in names else ()
    )
    return Trial(
        where=where,
        include_unscored=include_unscored,
        heads=tuple(name.removeprefix("acai_") for name in scores),
        stages=stages,
        groups=dict(zip(by, groups, strict=True)),
        passed=passed,
        presets=tuple(sorted(filter(None, presets))),
        survey=survey,
    )


def _night(survey: Survey) -> pl.Expr:
    """The UTC date, by which the public archive names its nights."""
    time = pl.col(survey.time)
    dated = pl.when(time.is_between(*DATES)).then(time)
    days = (dated - UNIX_EPOCH_JD).floor().cast(pl.Int32)
    return days.cast(pl.Date).cast(pl.String).fill_null(UNKNOWN)


def _best_class(scores: list[str]) -> pl.Expr:
    if not scores:
        return pl.lit(UNSCORED)
    names = pl.Series([name.removeprefix("acai_") for name in scores])
    best = pl.concat_list(scores).list.arg_max()
    scored = pl.all_horizontal(pl.col(name).is_not_null() for name in scores)
    named = best.replace_strict(range(len(names)), names, default=None, return_dtype=pl.String)
    return pl.when(scored).then(named).otherwise(pl.lit(UNSCORED))


def _counts(judged: pl.LazyFrame, column: str, object_id: str) -> pl.LazyFrame:
    objects = pl.col(object_id).drop_nulls()
    passed = pl.col(object_id).filter(pl.col("_passes")).drop_nulls()
    return (
        judged.group_by(pl.col(column).alias("group"))
        .agg(
            objects.n_unique().alias("objects"),
            passed.n_unique().alias("objects_passed"),
            pl.len().alias("alerts"),
            pl.col("_passes").sum().alias("alerts_passed"),
        )
        .sort("group")
    )
