"""Alerts to look at: each head's worst misses, and where two models disagree most."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl

from acai_jax.alerts.stamps import Images
from acai_jax.surveys import survey_of_table

AGAINST: Final = "_against"
"""Suffix of the columns of another model's scores."""

_MAX_EXAMPLES: Final = 150  # in a whole report, so that it stays below 10 MB
_MOST_PER_HEAD: Final = 12  # of each kind


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ChosenAlert:
    """An alert to look at.

    Attributes:
        head: whose mistake it is.
        kind: "missed", "false alarm" or "disagreement".
        row: of the table of scores.
        images: its stamps; None where they cannot be had.
    """

    head: str
    kind: str
    row: Mapping[str, Any]
    images: Images


def choose_examples(
    table: pl.DataFrame,
    heads: Mapping[str, tuple[Sequence[str], float]],
    compared: Sequence[str],
    images: Callable[[pl.DataFrame], Mapping[int, Images]],
) -> list[ChosenAlert]:
    """The alerts that heads get most wrong, one of each object, the worst first.

    Args:
        table: of scores, with the alerts' identifiers, label and acai_*.
        heads: name -> its positive labels, and its threshold.
        compared: heads of which there are another model's scores, in columns acai_*_against.
        images: reads the stamps of some rows, by the alerts' identifiers.

    Example:
        >>> rows = {"candid": [1, 2], "objectId": ["a", "b"], "label": ["h", "o"]}
        >>> table = pl.DataFrame({**rows, "acai_h": [0.1, 0.05]})
        >>> found = choose_examples(table, {"h": (["h"], 0.2)}, [], lambda rows: {})
        >>> [(each.kind, each.row["candid"]) for each in found]
        [('missed', 1)]
    """
    survey = survey_of_table(table.columns)
    kinds = 2 * len(heads) + len(compared)
    most = max(1, min(_MOST_PER_HEAD, _MAX_EXAMPLES // kinds))
    chosen = list(_worst(table, heads, compared, most, survey.object_id))
    if not chosen:
        return []
    rows = pl.DataFrame([row for _, _, row in chosen], schema=table.schema)
    found = images(rows.unique(survey.alert_id, maintain_order=True))
    missing: Images = (None, None, None)
    return [
        ChosenAlert(head, kind, row, found.get(row[survey.alert_id], missing))
        for head, kind, row in chosen
    ]


def _worst(
    table: pl.DataFrame,
    heads: Mapping[str, tuple[Sequence[str], float]],
    compared: Sequence[str],
    most: int,
    object_id: str,
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, (positives, threshold) in heads.items():
        score = pl.col(f"acai_{name}").cast(pl.Float64)  # as the threshold is
        positive = pl.col("label").is_in(positives)
        missed = table.filter(positive, score < threshold).sort(score)
        false = table.filter(~positive, score >= threshold).sort(score, descending=True)
        for kind, rows in (("missed", missed), ("false alarm", false)):
            for row in _one_of_each_object(rows, most, object_id):
                yield name, kind, row
    for name in compared:
        distance = (pl.col(f"acai_{name}") - pl.col(f"acai_{name}{AGAINST}")).abs()
        rows = table.filter(distance > 0).sort(distance, descending=True)
        for row in _one_of_each_object(rows, most, object_id):
            yield name, "disagreement", row


def _one_of_each_object(rows: pl.DataFrame, most: int, object_id: str) -> list[dict[str, Any]]:
    unique = rows.unique(object_id, keep="first", maintain_order=True)
    return unique.head(most).to_dicts()
