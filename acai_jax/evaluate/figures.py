"""How well the scores of one head tell its positives from its negatives, in exact figures.

Scores and targets go into a state; a state gives a ranking, and a ranking gives
figures under any weights of its alerts. With weights of 1 they are the figures themselves; with
random ones, a draw of a bootstrap. An alert is called positive where its score is at or above the
threshold. A figure that needs positives (or negatives) where there are none is NaN.
"""

import bisect
import dataclasses
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from scipy import sparse
from scipy.stats import binomtest

from acai_jax.errors import EvaluationError

THRESHOLDS: Final = np.arange(201) / 200
"""Where FNR and FPR are given: 0, 0.005, ... 1."""
CALIBRATION_BINS: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ScoreState:
    """Scores of one head and what they should have been.

    Attributes:
        scores: in 0..1, of the alerts that have one.
        targets: whether each of them is a positive.
        unscored_positives: positives without a score.
        unscored_negatives: negatives without a score.

    Example:
        >>> scores, targets = np.array([0.9, np.nan, 0.2]), np.array([True, False, False])
        >>> state = ScoreState.from_values(scores, targets)
        >>> state.scores.tolist(), state.unscored_negatives, state.ranking().figures().auc
        ([0.9, 0.2], 1, 1.0)
    """

    scores: Float64[np.ndarray, " n"]
    targets: Bool[np.ndarray, " n"]
    unscored_positives: int
    unscored_negatives: int

    @classmethod
    def from_values(
        cls, scores: Float[np.ndarray, " m"], targets: Bool[np.ndarray, " m"]
    ) -> "ScoreState":
        """The state of some alerts.

        Args:
            scores: NaN where an alert has none: it is counted, and never taken for a negative.
            targets: True for positives.

        Raises:
            EvaluationError: a score lies outside 0..1.
        """
        scored = ~np.isnan(scores)
        found = scores[scored].astype(np.float64)
        if len(found) and not 0 <= found.min() <= found.max() <= 1:
            raise EvaluationError(f"scores lie in 0..1, not {found.min():g}..{found.max():g}")
        positives = int(targets[~scored].sum())
        return cls(found, targets[scored], positives, int((~scored).sum()) - positives)

    def ranking(self) -> "Ranking":
        """The alerts in the order of their scores.

        Raises:
            EvaluationError: no alert has a score.
        """
        return Ranking(self.scores, self.targets)


class ReliabilityCurve(NamedTuple):
    """Scores beside the share of positives among them, in equal bins of the score.

    Attributes:
        counts: alerts in each bin.
        mean_scores: of them; NaN in an empty bin.
        positive_shares: of them; NaN in an empty bin.
    """

    counts: Float64[np.ndarray, " bins"]
    mean_scores: Float64[np.ndarray, " bins"]
    positive_shares: Float64[np.ndarray, " bins"]


class Figures(NamedTuple):
    r"""The figures of one head.

    With scores :math:`s_i` and targets :math:`t_i \in \{0, 1\}` of :math:`n` alerts, and
    :math:`s^+`, :math:`s^-` those of a positive and a negative drawn at random,

    .. math::

        \mathrm{AUC} = P(s^+ > s^-) + \tfrac{1}{2} P(s^+ = s^-), \quad
        \mathrm{Brier} = \frac{1}{n} \sum_i (s_i - t_i)^2, \quad
        \mathrm{ECE} = \sum_k \frac{n_k}{n} \left| \bar{s}_k - \bar{t}_k \right|

    where bin :math:`k` of the score has :math:`n_k` alerts, :math:`\bar{s}_k` is their mean score
    and :math:`\bar{t}_k` the share of positives among them.

    Attributes:
        fnr: false-negative rate at each of `THRESHOLDS`: missed positives, as a share of all.
        fpr: false-positive rate at each of them: negatives called positive, as a share of all.
        auc: area under the ROC curve; a tie counts one half.
        average_precision: mean of the precision over the recall, without interpolation.
        balanced_threshold: where FNR and FPR come closest to each other.
        balanced_fnr: FNR there.
        balanced_fpr: FPR there.
        ece: expected calibration error: mean distance of `ReliabilityCurve`'s two columns.
        brier: mean squared difference of score and target.
        calibration: what `ece` is made from.
    """

    fnr: Float64[np.ndarray, " t"]
    fpr: Float64[np.ndarray, " t"]
    auc: float
    average_precision: float
    balanced_threshold: float
    balanced_fnr: float
    balanced_fpr: float
    ece: float
    brier: float
    calibration: ReliabilityCurve


class Confusion(NamedTuple):
    """How many alerts were called what."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


class Curve(NamedTuple):
    """Figures at every threshold that makes a difference, from the highest to the lowest."""

    thresholds: Float64[np.ndarray, " m"]
    fpr: Float64[np.ndarray, " m"]
    recall: Float64[np.ndarray, " m"]
    precision: Float64[np.ndarray, " m"]


class Ranking:
    """Alerts in the order of their scores: sorted once, then weighed as often as one likes.

    Args:
        scores: in 0..1.
        targets: True for positives.

    Raises:
        EvaluationError: there are none.

    Example:
        >>> ranking = Ranking(np.array([0.1, 0.8, 0.6]), np.array([False, True, False]))
        >>> figures = ranking.figures()
        >>> figures.auc, figures.balanced_threshold
        (1.0, 0.7)
        >>> ranking.confusion(0.5)
        Confusion(true_positives=1, false_positives=1, true_negatives=1, false_negatives=0)
    """

    def __init__(self, scores: Float64[np.ndarray, " n"], targets: Bool[np.ndarray, " n"]) -> None:
        if not len(scores):
            raise EvaluationError("no alert has a score: there is nothing to evaluate")
        self.targets = targets
        order = np.argsort(scores, kind="stable")
        of_positive = targets[order]
        self._positives, self._negatives = order[of_positive], order[~of_positive]
        self.positives, self.negatives = len(self._positives), len(self._negatives)
        high, low = scores[self._positives], scores[self._negatives]
        self._scores_of_positives, self._scores_of_negatives = high, low
        self._values = np.unique(scores)
        # how many positives, or negatives, lie below each value
        self._below = self._places(self._values)
        self._at_grid = self._places(THRESHOLDS)
        # negatives below each positive, and those not above it; positives below it
        self._negatives_below = np.searchsorted(low, high, "left")
        self._negatives_upto = np.searchsorted(low, high, "right")
        self._positives_below = np.searchsorted(high, high, "left")
        self._squares = (scores - targets) ** 2
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
        bins = np.searchsorted(edges, scores)
        starts = np.searchsorted(bins[order], np.arange(CALIBRATION_BINS + 1))
        # times weights, it gives the sum of the scores in each bin
        self._sum_scores = sparse.csr_array(
            (scores[order], order, starts), shape=(CALIBRATION_BINS, len(scores))
        )
        self._bin_ends = tuple(np.searchsorted(each, edges, "right") for each in (high, low))

    def _places(
        self, thresholds: Float64[np.ndarray, " t"]
    ) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]:
        return (
            np.searchsorted(self._scores_of_positives, thresholds, "left"),
            np.searchsorted(self._scores_of_negatives, thresholds, "left"),
        )

    def figures(self, weights: Float64[np.ndarray, " n"] | None = None) -> Figures:
        """The figures of all alerts, each counted as often as its weight says.

        Args:
            weights: whole numbers from 0 up; by default, all are 1.
        """
        if weights is None:
            weights = np.ones(len(self.targets))
        # sums of whole numbers are exact, in any order
        of_positives = weights[self._positives]
        missed, passed = _running_sum(of_positives), _running_sum(weights[self._negatives])
        positives, negatives = int(missed[-1]), int(passed[-1])
        nan = float("nan")
        auc = average_precision = threshold = balanced_fnr = balanced_fpr = nan
        if positives and negatives:
            below, upto = passed[self._negatives_below], passed[self._negatives_upto]
            auc = _dot(of_positives, below + upto) / (2 * positives * negatives)
            threshold, false_negatives, false_positives = self._balance(missed, passed)
            balanced_fnr = false_negatives / positives
            balanced_fpr = false_positives / negatives
        if positives:
            found = positives - missed[self._positives_below]
            called = found + negatives - passed[self._negatives_below]
            # a positive of weight 0 may stand where nothing is called
            precision = found / np.maximum(called, 1)
            average_precision = _dot(of_positives, precision) / positives
        calibration = self._calibration(weights, missed, passed)
        total = positives + negatives
        gaps = np.abs(calibration.mean_scores - calibration.positive_shares)
        return Figures(
            fnr=_share(missed[self._at_grid[0]], positives),
            fpr=_share(negatives - passed[self._at_grid[1]], negatives),
            auc=auc,
            average_precision=average_precision,
            balanced_threshold=threshold,
            balanced_fnr=balanced_fnr,
            balanced_fpr=balanced_fpr,
            ece=float(np.nansum(gaps * calibration.counts)) / total if total else nan,
            brier=_dot(weights, self._squares) / total if total else nan,
            calibration=calibration,
        )

    def _balance(
        self, missed: Float64[np.ndarray, " p"], passed: Float64[np.ndarray, " q"]
    ) -> tuple[float, int, int]:
        """The balanced threshold, and false negatives and positives there."""
        positives, negatives = int(missed[-1]), int(passed[-1])

        def errors(index: int) -> tuple[int, int]:
            below, above = self._below
            return int(missed[below[index]]), negatives - int(passed[above[index]])

        def excess(index: int) -> int:
            """FNR - FPR, times both numbers; it never falls as the threshold rises."""
            false_negatives, false_positives = errors(index)
            return false_negatives * negatives - false_positives * positives

        last = len(self._values) - 1
        index = min(bisect.bisect_left(range(last + 1), 0, key=excess), last)

        def distance(index: int) -> tuple[int, int]:
            false_negatives, false_positives = errors(index)
            larger = max(false_negatives * negatives, false_positives * positives)
            return abs(excess(index)), larger

        if index and distance(index - 1) <= distance(index):
            index -= 1
        return self._threshold(index), *errors(index)

    def _threshold(self, index: int) -> float:
        """A threshold between a value and the one below it."""
        value = float(self._values[index])
        if not index:
            return value
        below = float(self._values[index - 1])
        middle = below + (value - below) / 2
        return middle if middle > below else value

    def _calibration(
        self,
        weights: Float64[np.ndarray, " n"],
        missed: Float64[np.ndarray, " p"],
        passed: Float64[np.ndarray, " q"],
    ) -> ReliabilityCurve:
        of_bins = [
            np.diff(sums[ends], prepend=0, append=sums[-1])
            for sums, ends in zip((missed, passed), self._bin_ends, strict=True)
        ]
        counts = of_bins[0] + of_bins[1]
        mean_scores = _share(self._sum_scores @ weights, counts)
        return ReliabilityCurve(counts, mean_scores, _share(of_bins[0], counts))

    def confusion(self, threshold: float) -> Confusion:
        """How many alerts are called what at a threshold."""
        (missed,), (passed,) = self._places(np.array([threshold], np.float64))
        found, called = self.positives - missed, self.negatives - passed
        return Confusion(int(found), int(called), int(passed), int(missed))

    def curve(self) -> Curve:
        """The ROC and precision-recall curves, at every value that a score has."""
        missed, passed = (each[::-1] for each in self._below)
        found, false = self.positives - missed, self.negatives - passed
        return Curve(
            self._values[::-1],
            _share(false, self.negatives),
            _share(found, self.positives),
            _share(found, found + false),
        )


def _running_sum(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n+1"]:
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _dot(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " n"]) -> float:
    # a BLAS would wake its threads, which takes longer
    return float(np.einsum("i,i->", a, b))


def _share(
    part: Shaped[np.ndarray, " n"], whole: Shaped[np.ndarray, " n"] | int
) -> Float64[np.ndarray, " n"]:
    """`part / whole`, NaN where there is no whole."""
    none = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=none, where=np.asarray(whole) > 0)


def mcnemar(first_right: int, second_right: int) -> float:
    r"""McNemar's exact test: could two classifiers that differ be equally good?

    Of :math:`n = a + b` alerts on which they differ, :math:`a` and :math:`b` right each,

    .. math:: p = \min\left(1, 2^{1-n} \sum_{i=0}^{\min(a, b)} \binom{n}{i}\right)

    Args:
        first_right: alerts that only the first calls right.
        second_right: alerts that only the second calls right.

    Returns:
        The two-sided probability of a split as uneven as this one, if both were equally good.

    Example:
        >>> round(mcnemar(8, 2), 6)
        0.109375

    Source: McNemar 1947, Psychometrika 12, 153; the exact form is a binomial test.
    """
    if not first_right + second_right:
        return 1.0
    return float(binomtest(first_right, first_right + second_right).pvalue)
