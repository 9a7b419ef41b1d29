"""A science module as Fink's broker calls them: columns of alerts in, a column of scores out.

Example:
    >>> stamps = [f"cutout{name}.stampData" for name in ("Science", "Template", "Difference")]
    >>> df.withColumn("acai", acai("candid", "objectId", "candidate", *stamps))  # doctest: +SKIP
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

from acai_jax.alerts.packet import packet_or_reject
from acai_jax.score.columns import score_columns
from acai_jax.spark.worker import cached_scorer


def _scores(
    candid: pd.Series,
    objectId: pd.Series,  # noqa: N803 - ZTF's own name
    candidate: pd.DataFrame,
    science: pd.Series,
    template: pd.Series,
    difference: pd.Series,
    model: pd.Series = None,  # pyright: ignore[reportArgumentType]
    preset: pd.Series = None,  # pyright: ignore[reportArgumentType]
) -> pd.Series:
    """Scores of ZTF's alerts, in the order of the model's classes: h, o, n, v, b.

    Args:
        candid: of each alert.
        objectId: of each alert.
        candidate: all its fields.
        science: bytes of its stamp, as are `template` and `difference`.
        template: likewise.
        difference: likewise.
        model: a literal column, as for `Scorer.load`; by default "published".
        preset: a literal column, as for `Scorer.score`.

    Returns:
        A list of scores for each alert; null where it cannot be scored.
    """
    name = "published" if model is None or model.empty else str(model.iloc[0])
    scorer = cached_scorer(name, None)
    # pandas has one value for null and NaN: an alert has no score with either
    fields = candidate.astype(object).where(candidate.notna(), None).to_dict("records")
    rows = zip(candid, objectId, fields, science, template, difference, strict=True)
    alerts = [packet_or_reject(_record(*row)) for row in rows]
    chosen: Any = None if preset is None or preset.empty else preset.iloc[0]
    table = scorer.score_packets(alerts, chosen)
    scores = table.select(score_columns(table.columns)).rows()
    found = [None if None in row else list(row) for row in scores]
    return pd.Series(found, dtype=object)


def _record(
    candid: int, name: str, fields: Mapping[Any, Any], *stamps: bytes | None
) -> dict[str, Any]:
    cutouts = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    return {
        "candid": candid,
        "objectId": name,
        "candidate": fields,
        **dict(zip(cutouts, stamps, strict=True)),
    }


# workers import `_scores` by its name: the model is then kept from call to call
acai = pandas_udf(ArrayType(FloatType()))(_scores)  # pyright: ignore[reportCallIssue]
"""As `_scores`, for columns of a data frame."""
