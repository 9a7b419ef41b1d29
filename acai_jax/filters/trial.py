"""A filter tried on a score table: what passes, of how many, by stage, night and class."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from acai_jax.errors import FilterError
from acai_jax.filters.expressions import compile_filter, drop_unused, passing, with_derived_columns
from acai_jax.score.columns import ALERTS, score_columns
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
        stages: how many are left after each part of the filter: `stage` (its text; first "all
            alerts" and "scored"), `alerts` (of a table of objects, those behind its rows),
            `objects`.
        passed: the rows that pass, as of `apply_filter`.
        judged: of every row, what groups are made of, for how many alerts it stands, and whether it
            `passes`.
        survey: of the alerts.
    """

    where: str
    include_unscored: bool
    heads: tuple[str, ...]
    stages: pl.DataFrame
    passed: pl.DataFrame
    judged: pl.DataFrame
    survey: Survey

    @functools.cached_property
    def groups(self) -> Mapping[str, pl.DataFrame]:
        """Counts by "night" (UTC date), "class" (of the largest score) and, if there, "label".

        Columns: group, objects, objects_passed, alerts, alerts_passed. An object counts in every
        group that one of its alerts is in.

        Raises:
            FilterError: a column is missing.
        """
        judged = self._with_groups(self.judged)
        by = [name for name in ("night", "class", "label") if name in judged.columns]
        return {name: _counts(judged, name, self.survey.object_id) for name in by}

    @functools.cached_property
    def newest(self) -> pl.DataFrame:
        """The newest passing alert of each object, the newest first.

        Further columns: night, class and passing (how many alerts of the object pass).

        Raises:
            FilterError: a column is missing.
        """
        survey = self.survey
        return (
            self._with_groups(self.passed)
            .filter(pl.col(survey.object_id).is_not_null())
            .with_columns(passing=_alerts(self.passed.columns).sum().over(survey.object_id))
            .sort(survey.time, survey.alert_id, descending=True, nulls_last=True)
            .unique(survey.object_id, keep="first", maintain_order=True)
        )

    @functools.cached_property
    def presets(self) -> tuple[str, ...]:
        """Of the scores."""
        found = self.judged["preset"].unique() if "preset" in self.judged.columns else ()
        return tuple(sorted(filter(None, found)))

    def _with_groups(self, alerts: pl.DataFrame) -> pl.DataFrame:
        """Adds night and class; a label that is missing gets a name."""
        if missing := [name for name in _needed(self.survey) if name not in alerts.columns]:
            raise FilterError(f"a report needs a score table, with a column {missing[0]}")
        return alerts.with_columns(
            _night(self.survey).alias("night"),
            _best_class(score_columns(alerts.columns)).alias("class"),
            pl.col("^label$").cast(pl.String).fill_null(UNKNOWN),
        )


def try_filter(
    table: pl.LazyFrame | pl.DataFrame, where: str, *, include_unscored: bool = False
) -> Trial:
    """Tries a filter on a table, every row of which is judged once.

    Args:
        table: as for `apply_filter`, with names of objects; groups need times and filters, too. One
            that is lazy is read twice, and has its rows in the same order both times.
        where: as for `apply_filter`.
        include_unscored: as for `apply_filter`.

    Raises:
        FilterError: as for `compile_filter`.
        TableError: as for `survey_of_table`.

    Example:
        >>> rows = {"candid": [1, 2], "objectId": ["a", "a"], "jd": [2458295.7, 2458296.8]}
        >>> scores = {"acai_h": [0.9, 0.1], "acai_b": [0.0, 0.6]}
        >>> table = pl.DataFrame({**rows, "fid": [1, 2], **scores})
        >>> trial = try_filter(table, "acai_h > 0.5")
        >>> trial.stages["alerts"].to_list()
        [2, 2, 1]
        >>> trial.groups["class"].rows()
        [('b', 1, 0, 1, 0), ('h', 1, 1, 1, 1)]
        >>> trial.newest["night"].to_list()
        ['2018-06-26']
    """
    table = table.lazy()
    frame = with_derived_columns(table)
    names = frame.collect_schema().names()
    found = compile_filter(where, frame.collect_schema())
    survey, scores = survey_of_table(names), score_columns(names)
    stages = [("all alerts", pl.lit(True))]
    if not include_unscored:
        stages.append(("scored", passing(frame, pl.lit(True), include_unscored)))
    stages += found.stages
    kept = [n for n in (*_needed(survey), "label", "preset", *scores) if n in names]
    verdicts = {str(n): stage.fill_null(False) for n, (_, stage) in enumerate(stages)}
    judged = frame.select(*kept, _alerts(names), **verdicts).collect()
    counts = []
    passes = judged["0"]
    for place, (text, _) in enumerate(stages):
        passes &= judged[str(place)]
        objects = judged[survey.object_id].filter(passes).drop_nulls().n_unique()
        counts.append((text, judged[ALERTS].filter(passes).sum(), objects))
    row = "_" + max(names, key=len)  # longer than all names, so none of them
    numbered = with_derived_columns(table.with_row_index(row))
    passed = numbered.filter(pl.col(row).is_in(passes.arg_true().implode())).drop(row)
    return Trial(
        where=where,
        include_unscored=include_unscored,
        heads=tuple(name.removeprefix("acai_") for name in scores),
        stages=pl.DataFrame(counts, ["stage", "alerts", "objects"], orient="row"),
        passed=drop_unused(passed, table, found).collect(),
        judged=judged.select(*kept, ALERTS, passes.alias("passes")),
        survey=survey,
    )


def _needed(survey: Survey) -> tuple[str, ...]:
    return survey.alert_id, survey.object_id, survey.time, survey.band


def _alerts(names: Iterable[str]) -> pl.Expr:
    """How many alerts each row stands for: one, unless the table is of objects."""
    return pl.col(ALERTS) if ALERTS in names else pl.repeat(1, pl.len()).alias(ALERTS)


def _night(survey: Survey) -> pl.Expr:
    """The UTC date, by which the public archive names its nights."""
    time = pl.col(survey.time)
    dated = pl.when(time.is_between(*DATES)).then(time)
    days = (dated - UNIX_EPOCH_JD).floor().cast(pl.Int32)
    return days.cast(pl.Date).cast(pl.String).fill_null(UNKNOWN)


def _best_class(scores: list[str]) -> pl.Expr:
    if not scores:
        return pl.lit(UNSCORED)
    scored = pl.all_horizontal(pl.col(name).is_not_null() for name in scores)
    best = pl.max_horizontal(scores)
    named = pl.coalesce(
        pl.when(pl.col(name) == best).then(pl.lit(name.removeprefix("acai_"))) for name in scores
    )
    return pl.when(scored).then(named).otherwise(pl.lit(UNSCORED))


def _counts(judged: pl.DataFrame, column: str, object_id: str) -> pl.DataFrame:
    objects = pl.col(object_id).drop_nulls()
    passed = pl.col(object_id).filter(pl.col("passes")).drop_nulls()
    return (
        judged.group_by(pl.col(column).alias("group"))
        .agg(
            objects.n_unique().alias("objects"),
            passed.n_unique().alias("objects_passed"),
            pl.col(ALERTS).sum().alias("alerts"),
            pl.col(ALERTS).filter(pl.col("passes")).sum().alias("alerts_passed"),
        )
        .sort("group")
    )
