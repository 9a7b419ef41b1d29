"""Heads held to labels: one alone, two models' side by side, and all heads of a model together."""

import dataclasses
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata

from acai_jax.evaluate.bootstrap import interval
from acai_jax.evaluate.figures import Figures, Ranking, ReliabilityCurve, ScoreState, mcnemar

COMPARED: Final = {
    "auc": "AUC",
    "average_precision": "average precision",
    "balanced_error": "balanced error",
    "ece": "ECE",
    "brier": "Brier score",
}
"""Figures of which two models' differences are given, with their names for people; the first two
are better when larger. The balanced error is the mean of FNR and FPR at the balanced threshold."""
THRESHOLD: Final = 0.5
"""Of a head that has no balanced threshold, for want of positives or negatives."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One head's scores beside what they should have been, of n alerts, m of them scored.

    Attributes:
        state: scores and targets.
        ranking: the same, sorted.
        figures: of all scored alerts.
        threshold: the balanced one, or `THRESHOLD`.
        scores: NaN where there is none.
        scored: whether there is one.
        targets: True for positives.
        called: whether the score is at or above the threshold.
        objects: numbers of the scored alerts' objects, in the order of `ranking`'s.

    Example:
        >>> scores = pl.Series([0.1, 0.9, None])
        >>> judged = Judged.of(scores, np.array([False, True, True]), np.arange(3))
        >>> judged.threshold, judged.called.tolist(), judged.state.unscored_positives
        (0.5, [False, True, False], 1)
    """

    state: ScoreState
    ranking: Ranking
    figures: Figures
    threshold: float
    scores: Float64[np.ndarray, " n"]
    scored: Bool[np.ndarray, " n"]
    targets: Bool[np.ndarray, " n"]
    called: Bool[np.ndarray, " n"]
    objects: Int64[np.ndarray, " m"]

    @classmethod
    def of(
        cls, scores: pl.Series, targets: Bool[np.ndarray, " n"], objects: Int64[np.ndarray, " n"]
    ) -> "Judged":
        """Judges a column of scores.

        Args:
            scores: null where there is none.
            targets: True for positives.
            objects: the number of each alert's object.

        Raises:
            EvaluationError: no alert has a score, or one lies outside 0..1.
        """
        values = scores.cast(pl.Float64).to_numpy()  # null becomes NaN
        scored = ~np.isnan(values)
        state = ScoreState.from_values(values, targets)
        # neighbours in memory, as the ranking goes through them
        order = np.lexsort((state.scores, state.targets))
        ranking = Ranking(state.scores[order], state.targets[order])
        figures = ranking.figures()
        balanced = figures.balanced_threshold
        threshold = THRESHOLD if np.isnan(balanced) else balanced
        called = values >= threshold
        return cls(
            state,
            ranking,
            figures,
            threshold,
            values,
            scored,
            targets,
            called,
            objects[scored][order],
        )

    def drawn(self, counts: Float64[np.ndarray, " objects"]) -> Float64[np.ndarray, " f"]:
        """The figures, in a row, of a draw of objects."""
        return flat(self.ranking.figures(counts[self.objects]))


def flat(figures: Figures) -> Float64[np.ndarray, " f"]:
    """All figures in a row."""
    return np.concatenate([np.ravel(each) for each in figures])


def figures_of(row: Float64[np.ndarray, " f"], like: Figures) -> Figures:
    """The figures that `flat` put in a row, of the lengths of others."""
    ends = np.cumsum([np.size(each) for each in like])[:-1]
    fnr, fpr, *numbers, calibration = np.split(row, ends)
    auc, precision, threshold, fnr_there, fpr_there, ece, brier = (float(n[0]) for n in numbers)
    bins = ReliabilityCurve(*calibration.reshape(3, -1))
    rates = (threshold, fnr_there, fpr_there)
    return Figures(fnr, fpr, auc, precision, *rates, ece, brier, bins)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One head of two models, on the alerts that both scored.

    Attributes:
        alerts: how many there are.
        versions: of this model's head and the other's.
        first: this model's figures, by the names of `COMPARED`.
        second: the other's.
        low: lower ends of the intervals of first - second.
        high: upper ends of them.
        only_first_right: alerts that only this model calls right, each at its balanced threshold.
        only_second_right: alerts that only the other calls right.
        p_value: of McNemar's exact test.
    """

    alerts: int
    versions: tuple[str, str]
    first: Mapping[str, float]
    second: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    only_first_right: int
    only_second_right: int
    p_value: float


def compare(
    first: Judged,
    second: Judged,
    versions: tuple[str, str],
    first_draws: Float64[np.ndarray, "draws f"],
    second_draws: Float64[np.ndarray, "draws f"],
) -> Comparison:
    """Compares two heads on the same alerts, in the same draws."""
    only_first = int(((first.called == first.targets) & (second.called != first.targets)).sum())
    only_second = int(((first.called != first.targets) & (second.called == first.targets)).sum())

    def in_draws(draws: Float64[np.ndarray, "draws f"]) -> Float64[np.ndarray, "draws c"]:
        return np.array([list(_compared(figures_of(row, first.figures)).values()) for row in draws])

    low, high = (
        dict(zip(COMPARED, map(float, end), strict=True))
        for end in interval(in_draws(first_draws) - in_draws(second_draws))
    )
    return Comparison(
        alerts=len(first.targets),
        versions=versions,
        first=_compared(first.figures),
        second=_compared(second.figures),
        low=low,
        high=high,
        only_first_right=only_first,
        only_second_right=only_second,
        p_value=mcnemar(only_first, only_second),
    )


def _compared(figures: Figures) -> dict[str, float]:
    balanced_error = (figures.balanced_fnr + figures.balanced_fpr) / 2
    known = {**figures._asdict(), "balanced_error": balanced_error}
    return {name: float(known[name]) for name in COMPARED}


class Agreement(NamedTuple):
    """How k heads of a model go together, on the alerts that all of them scored.

    Attributes:
        correlation: Spearman's, of their scores.
        overlap: of the alerts that the head of the row calls positive, the share that the head of
            the column does, too.
        calls: how many alerts are called positive by no head, by one, by two, ...
    """

    correlation: Float64[np.ndarray, "k k"]
    overlap: Float64[np.ndarray, "k k"]
    calls: tuple[int, ...]


def agreement(heads: Mapping[str, Judged]) -> Agreement:
    """How the heads go together.

    Example:
        >>> scores, targets = [0.1, 0.2, 0.9], np.array([False, False, True])
        >>> judged = Judged.of(pl.Series(scores), targets, np.arange(3))
        >>> agreement({"h": judged, "n": judged}).calls
        (2, 0, 1)
    """
    everywhere = np.all([each.scored for each in heads.values()], axis=0)
    count = len(heads)
    correlation, overlap = np.full((2, count, count), np.nan)
    ranks = np.array([rankdata(each.scores[everywhere]) for each in heads.values()])
    centred = ranks - ranks.mean(axis=1, keepdims=True) if ranks.size else ranks
    products = np.einsum("in,jn->ij", centred, centred)
    spread = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    np.divide(products, spread, out=correlation, where=spread > 0)
    called = np.array([each.called[everywhere] for each in heads.values()], np.float64)
    both = np.einsum("in,jn->ij", called, called)
    alone = np.broadcast_to(np.diag(both)[:, None], both.shape)
    np.divide(both, alone, out=overlap, where=alone > 0)
    calls = np.bincount(called.sum(axis=0).astype(np.int64), minlength=count + 1)
    return Agreement(correlation, overlap, tuple(map(int, calls)))
