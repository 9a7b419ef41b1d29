"""Our figures are scikit-learn's, to 1e-12, for scores of every kind."""

import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn import calibration, metrics

from acai_jax.errors import EvaluationError
from acai_jax.evaluate.figures import CALIBRATION_BINS, THRESHOLDS, Ranking, ScoreState, mcnemar

EXACT = 1e-12


def random_scores(kind: str, seed: int, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.random(count) < 0.3
    scores = np.where(targets, rng.beta(4, 2, count), rng.beta(1, 4, count))
    if kind == "ties":
        scores = np.round(scores, 1)
    elif kind == "float32":
        scores = scores.astype(np.float32).astype(np.float64)
    elif kind == "saturated":  # as sigmoids are
        scores = np.where(rng.random(count) < 0.4, np.round(scores), scores)
    elif kind == "constant":
        scores = np.full(count, 0.25)
    elif kind == "reversed":
        scores = 1 - scores
    return scores, targets


KINDS = ("distinct", "ties", "float32", "saturated", "constant", "reversed")


def rates(scores, targets, threshold) -> tuple[float, float]:
    """Shares of positives that are missed, and of negatives that are called."""
    return np.mean(scores[targets] < threshold), np.mean(scores[~targets] >= threshold)


def expected_calibration_error(scores, targets, weights=None) -> float:
    weights = np.ones(len(scores)) if weights is None else weights
    bins = np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], scores)
    gaps = [
        abs(np.sum(weights[bins == b] * (scores[bins == b] - targets[bins == b])))
        for b in range(CALIBRATION_BINS)
    ]
    return float(np.sum(gaps) / weights.sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_scikit_learn(kind, seed):
    scores, targets = random_scores(kind, seed)
    figures = ScoreState.from_values(scores, targets).ranking().figures()
    assert figures.auc == pytest.approx(metrics.roc_auc_score(targets, scores), abs=EXACT)
    precision = metrics.average_precision_score(targets, scores)
    assert figures.average_precision == pytest.approx(precision, abs=EXACT)
    brier = metrics.brier_score_loss(targets, scores)
    assert figures.brier == pytest.approx(brier, abs=EXACT)
    error = expected_calibration_error(scores, targets)
    assert figures.ece == pytest.approx(error, abs=EXACT)
    expected = [rates(scores, targets, threshold) for threshold in THRESHOLDS]
    np.testing.assert_allclose(np.transpose([figures.fnr, figures.fpr]), expected, atol=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_figures_are_those_of_scikit_learn(kind):
    scores, targets = random_scores(kind, 7)
    weights = np.random.default_rng(1).poisson(1.0, len(scores)).astype(np.float64)
    figures = Ranking(scores, targets).figures(weights)
    auc = metrics.roc_auc_score(targets, scores, sample_weight=weights)
    assert figures.auc == pytest.approx(auc, abs=EXACT)
    precision = metrics.average_precision_score(targets, scores, sample_weight=weights)
    assert figures.average_precision == pytest.approx(precision, abs=EXACT)
    brier = metrics.brier_score_loss(targets, scores, sample_weight=weights)
    assert figures.brier == pytest.approx(brier, abs=EXACT)
    error = expected_calibration_error(scores, targets, weights)
    assert figures.ece == pytest.approx(error, abs=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_counts_an_alert_so_many_times(kind):
    scores, targets = random_scores(kind, 3)
    weights = np.random.default_rng(2).integers(0, 4, len(scores))
    weighted = Ranking(scores, targets).figures(weights.astype(np.float64))
    repeated = Ranking(np.repeat(scores, weights), np.repeat(targets, weights)).figures()
    # an alert of weight 0 is still a place for a threshold: only what it calls is the same
    for one, other in zip(weighted, repeated._replace(balanced_threshold=None), strict=True):
        if other is not None:
            np.testing.assert_allclose(np.ravel(one), np.ravel(other), atol=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_curves_are_those_of_scikit_learn(kind):
    scores, targets = random_scores(kind, 5)
    curve = Ranking(scores, targets).curve()
    fpr, recall, thresholds = metrics.roc_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_array_equal(curve.thresholds, thresholds[1:])
    np.testing.assert_allclose(curve.fpr, fpr[1:], atol=EXACT)
    np.testing.assert_allclose(curve.recall, recall[1:], atol=EXACT)
    precision, _, thresholds = metrics.precision_recall_curve(targets, scores)
    np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1], atol=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_is_that_of_scikit_learn(kind):
    scores, targets = random_scores(kind, 9)
    found = Ranking(scores, targets).figures().calibration
    shares, means = calibration.calibration_curve(targets, scores, n_bins=CALIBRATION_BINS)
    filled = found.counts > 0
    np.testing.assert_allclose(found.mean_scores[filled], means, atol=EXACT)
    np.testing.assert_allclose(found.positive_shares[filled], shares, atol=EXACT)
    assert np.isnan(found.mean_scores[~filled]).all()
    assert found.counts.sum() == len(scores)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_confusion_is_that_of_scikit_learn(kind, threshold):
    scores, targets = random_scores(kind, 4)
    found = Ranking(scores, targets).confusion(threshold)
    (tn, fp), (fn, tp) = metrics.confusion_matrix(targets, scores >= threshold)
    assert found == (tp, fp, tn, fn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_balanced(kind, seed):
    scores, targets = random_scores(kind, seed, count=60)
    figures = Ranking(scores, targets).figures()
    assert (figures.balanced_fnr, figures.balanced_fpr) == pytest.approx(
        rates(scores, targets, figures.balanced_threshold), abs=EXACT
    )
    gap = abs(figures.balanced_fnr - figures.balanced_fpr)
    gaps = [abs(np.subtract(*rates(scores, targets, value))) for value in np.unique(scores)]
    assert gap == pytest.approx(min(gaps), abs=EXACT)


def test_neighbouring_floats_are_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    figures = Ranking(np.array([low, high]), np.array([False, True])).figures()
    assert (figures.balanced_fnr, figures.balanced_fpr) == (0, 0)
    assert low < figures.balanced_threshold <= high


@pytest.mark.parametrize("positive", [True, False])
def test_one_class_alone_has_no_rates_of_the_other(positive):
    scores = np.array([0.2, 0.7, 0.7])
    figures = Ranking(scores, np.full(3, positive)).figures()
    assert math.isnan(figures.auc)
    assert math.isnan(figures.balanced_threshold)
    assert np.isnan(figures.fpr if positive else figures.fnr).all()
    assert not np.isnan(figures.fnr if positive else figures.fpr).any()
    assert math.isnan(figures.average_precision) is not positive
    assert figures.brier == pytest.approx(np.mean((scores - positive) ** 2), abs=EXACT)


def test_a_draw_without_positives_has_no_figures_of_them():
    ranking = Ranking(np.array([0.2, 0.7]), np.array([False, True]))
    figures = ranking.figures(np.array([3.0, 0.0]))
    assert math.isnan(figures.auc)
    assert figures.fpr[0] == 1
    assert math.isnan(Ranking(np.array([0.5]), np.array([True])).figures(np.zeros(1)).brier)


def test_nothing_to_evaluate_is_a_clear_error():
    empty = ScoreState.from_values(np.array([]), np.array([], bool))
    with pytest.raises(EvaluationError, match="no alert has a score"):
        empty.ranking()
    unscored = ScoreState.from_values(np.array([np.nan]), np.array([True]))
    assert unscored.unscored_positives == 1
    with pytest.raises(EvaluationError, match="no alert has a score"):
        unscored.ranking()


@pytest.mark.parametrize("score", [-0.1, 1.5, np.inf])
def test_what_is_no_probability_is_refused(score):
    with pytest.raises(EvaluationError, match=r"scores lie in 0\.\.1"):
        ScoreState.from_values(np.array([0.5, score]), np.array([True, False]))


def test_missing_scores_are_counted_and_change_nothing():
    scores, targets = random_scores("ties", 0)
    gone = np.arange(len(scores)) % 7 == 0
    state = ScoreState.from_values(np.where(gone, np.nan, scores), targets)
    assert state.unscored_positives == (gone & targets).sum()
    assert state.unscored_negatives == (gone & ~targets).sum()
    expected = metrics.roc_auc_score(targets[~gone], scores[~gone])
    assert state.ranking().figures().auc == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (8, 2), (0, 7), (1200, 1100)])
def test_mcnemar_is_an_exact_binomial_test(first, second):
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    expected = min(1.0, float(Fraction(2 * tail, 2**total)))
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == pytest.approx(expected, rel=1e-9)
