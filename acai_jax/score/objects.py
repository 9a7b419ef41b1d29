"""Objects, not alerts: what all alerts of an object say of it, model by model."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from acai_jax.errors import TableError
from acai_jax.score.columns import ALERTS, score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey

SCORED: Final = "n_scored"
_ROW: Final = "\n row"  # no table has such columns
_ALERT: Final = "\n alert"
_IS: Final = "\n is scored"


def objects(table: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """One row for each object, and for each model and preset that scored it: these never mix.

    A row is that of the object's newest scored alert, with every column of the table, so that
    whatever reads tables of alerts, filters among them, reads it, too; where no alert is scored, it
    is that of the newest alert, with its `reason`. Beside it stand, of all alerts of the object:
    `first_jd` and `last_jd`, their dates; `n_alerts`, and `n_scored` of them that have scores; and
    `acai_h_mean`, `acai_h_max` and `acai_h_spread`, mean, maximum and standard deviation of the
    scores, the last of which is `acai_h`.

    An alert counts once, however often the table has it. Alerts of which no object is known, such
    as damaged packets, have a row without an object's name: nothing is left out.

    Args:
        table: of scores, of any survey: a file's, `scan_tables(FOLDER)` of a stream, or several
            nights' in one. One that is lazy is read twice, and has its rows in the same order both
            times; only what is kept of an alert is in memory.

    Returns:
        The rows, in the order of the objects' names.

    Raises:
        TableError: it is no table of scores.

    Example:
        >>> alerts = {"candid": [1, 2, 3], "objectId": ["a", "a", "b"], "jd": [2.5, 1.5, 2.5]}
        >>> scores = {"acai_h": [0.5, 0.25, None], "reason": [None, None, "null stamp"]}
        >>> table = pl.DataFrame({**alerts, **scores, "acai_h_version": "1", "preset": "acai"})
        >>> objects(table).select("objectId", "first_jd", "n_scored", "acai_h", "acai_h_max").rows()
        [('a', 1.5, 2, 0.5, 0.5), ('b', 2.5, 0, None, None)]
    """
    table = table.lazy()
    names = table.collect_schema().names()
    survey, scores = _checked(names)
    time, model = survey.time, _model(names, survey)
    numbered = table.with_row_index(_ROW)
    scored = [pl.col(score).fill_nan(None).is_not_null() for score in scores]
    alerts = numbered.select(
        _ROW,
        *model,
        pl.col(time, *scores).fill_nan(None),
        (pl.col("reason").is_null() if "reason" in names else pl.all_horizontal(scored)).alias(_IS),
        # of what has no identifier nothing says that it is there twice
        pl.coalesce(survey.alert_id, -1 - pl.col(_ROW).cast(pl.Int64)).alias(_ALERT),
    ).collect(engine="streaming")
    # of one alert's rows the first with scores; then of each object's alerts the newest is the last
    order = {_IS: False, time: False, _ALERT: False, _ROW: True}
    alerts = alerts.sort(*order, descending=[*order.values()])
    alerts = alerts.unique([*model, _ALERT], keep="last", maintain_order=True)
    found = alerts.group_by(model).agg(
        pl.col(_ROW).last(),
        pl.col(time).min().alias(f"first_{time}"),
        pl.col(time).max().alias(f"last_{time}"),
        pl.len().cast(pl.Int64).alias(ALERTS),
        pl.col(_IS).sum().cast(pl.Int64).alias(SCORED),
        *(number for score in scores for number in _numbers(score)),
    )
    newest = numbered.filter(pl.col(_ROW).is_in(found[_ROW].implode()))
    found = newest.join(found.lazy().drop(model), on=_ROW, how="inner").sort(model, nulls_last=True)
    return found.select(_columns(names, survey)).collect(engine="streaming")


def _checked(names: list[str]) -> tuple[Survey, list[str]]:
    """Whose alerts a table of scores holds, and its scores."""
    survey, scores = survey_of_table(names), score_columns(names)
    if ALERTS in names:
        raise TableError("it is a table of objects already")
    if not scores:
        raise TableError("not a table of scores: it has no column acai_...")
    versions = (f"{score}_version" for score in scores)
    needed = (survey.alert_id, survey.object_id, survey.time, *versions, "preset")
    if missing := [name for name in needed if name not in names]:
        raise TableError(f"not a table of scores: it has no column {missing[0]}")
    return survey, scores


def _model(names: list[str], survey: Survey) -> list[str]:
    """Columns that are alike in all alerts of a row: its object, its models, its preset."""
    versions = (f"{score}_version" for score in score_columns(names))
    return [survey.object_id, *versions, "preset"]


def _numbers(score: str) -> Iterator[pl.Expr]:
    """What all scores of an object say together."""
    exact = pl.col(score).cast(pl.Float64)
    numbers = {"mean": exact.mean(), "max": exact.max(), "spread": exact.std(ddof=0)}
    for name, number in numbers.items():
        yield number.cast(pl.Float32).alias(f"{score}_{name}")


def _columns(names: list[str], survey: Survey) -> Iterator[str]:
    """The table's columns in their order, with those of objects after the ones that they are of."""
    identifiers = [survey.alert_id, survey.object_id]
    yield from reversed(identifiers)
    yield from (f"first_{survey.time}", f"last_{survey.time}", ALERTS, SCORED)
    scores = score_columns(names)
    for name in names:
        if name not in identifiers:
            yield name
        if name in scores:
            yield from (f"{name}_{number}" for number in ("mean", "max", "spread"))
