"""What an evaluation finds, as values: pages and tables read them without JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from acai_jax.evaluate.examples import ChosenAlert
from acai_jax.evaluate.figures import Confusion, Figures, Ranking, ScoreState
from acai_jax.evaluate.judged import (
    Agreement,
    Comparison,
)
from acai_jax.evaluate.strata import Breakdown
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Group:
    """How one head does on one group of alerts, at its threshold.

    Attributes:
        name: of the group.
        n_positive: alerts.
        n_negative: alerts.
        rates: FNR and FPR.
        low: their lower ends.
        high: their upper ends.
    """

    name: str
    n_positive: int
    n_negative: int
    rates: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class HeadEvaluation:
    """One head's figures.

    Attributes:
        name: of the head.
        version: of its model.
        positives: labels that are positives of it; all others are negatives.
        state: its scores and targets.
        ranking: the same, sorted.
        figures: of all scored alerts.
        low: lower ends of their intervals.
        high: upper ends of their intervals.
        threshold: the balanced one; 0.5 where there is none.
        confusion: at the threshold.
        groups: by property, such as "filter", then by group.
    """

    name: str
    version: str
    positives: tuple[str, ...]
    state: ScoreState
    ranking: Ranking
    figures: Figures
    low: Figures
    high: Figures
    threshold: float
    confusion: Confusion
    groups: Mapping[str, Sequence[Group]]

    @property
    def lacks(self) -> str | None:
        """The kind, "positive" or "negative", that no scored alert is of; None if there are both.

        Its error rate is NaN then, and so are all figures that need both kinds.
        """
        if self.ranking.positives and self.ranking.negatives:
            return None
        return "negative" if self.ranking.positives else "positive"

    @property
    def rates(self) -> tuple[float, float]:
        """FNR and FPR at the threshold; NaN where no alert could raise it."""
        found, false, kept, missed = self.confusion
        nan = float("nan")
        return (
            missed / (found + missed) if found + missed else nan,
            false / (false + kept) if false + kept else nan,
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Heads on labelled alerts.

    Attributes:
        model: what the user called the heads.
        against: what the user called the other model, if there is one.
        source: facts about the alerts.
        table: one row per labelled alert; see `DatasetSource.scored`.
        breakdowns: how the alerts are divided, by property.
        heads: by name.
        agreement: how the heads go together.
        comparisons: by head; empty without another model.
        draws: of the bootstrap.
        seed: of the bootstrap.
        examples: the worst misses, and where two models disagree most.
    """

    model: str
    against: str | None
    source: Mapping[str, Any]
    table: pl.DataFrame
    breakdowns: Mapping[str, Breakdown]
    heads: Mapping[str, HeadEvaluation]
    agreement: Agreement
    comparisons: Mapping[str, Comparison]
    draws: int
    seed: int
    examples: Sequence[ChosenAlert]

    @property
    def survey(self) -> Survey:
        """Of the alerts."""
        return survey_of_table(self.table.columns)
