"""Draws are of whole objects, and the same on every machine."""

import loky
import numpy as np
import pytest
from evaluations import score_table
from sklearn.metrics import average_precision_score, roc_auc_score

from acai_jax.evaluate import bootstrap
from acai_jax.evaluate.judged import Judged, figures_of


@pytest.fixture(scope="module")
def judged() -> Judged:
    table = score_table()
    objects = np.arange(len(table)) // 4
    return Judged.of(table["acai_h"], table["label"].to_numpy() == "h", objects)


def test_draws_do_not_depend_on_the_number_of_threads(monkeypatch):
    found = []
    for cores in (1, 5):
        monkeypatch.setattr(loky, "cpu_count", lambda cores=cores: cores)
        found.append(bootstrap.resample(7, lambda counts: counts, 20, seed=3))
    np.testing.assert_array_equal(*found)
    assert (found[0].sum(axis=1) == 7).all()
    assert len(np.unique(found[0], axis=0)) > 10
    other = bootstrap.resample(7, lambda counts: counts, 20, seed=4)
    assert (other != found[0]).any()


def test_a_draw_is_what_scikit_learn_makes_of_the_copied_alerts(judged):
    drawn = bootstrap.resample(100, lambda c: np.append(c, judged.drawn(c)), 5, seed=0)
    for row in drawn:
        counts, figures = row[:100].astype(int), figures_of(row[100:], judged.figures)
        copies = np.repeat(np.arange(400), counts[np.arange(400) // 4])
        scores, targets = judged.scores[copies], judged.targets[copies]
        assert figures.auc == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)
        precision = average_precision_score(targets, scores)
        assert figures.average_precision == pytest.approx(precision, abs=1e-12)
        assert figures.fnr[100] == pytest.approx(np.mean(scores[targets] < 0.5), abs=1e-12)


def test_progress_is_told():
    told = []
    bootstrap.resample(3, lambda counts: counts, 6, 0, lambda *done: told.append(done))
    assert told == [(n, 6) for n in range(1, 7)]


def test_an_error_in_a_draw_is_raised():
    def fail(counts):
        raise ValueError("no such figure")

    with pytest.raises(ValueError, match="no such figure"):
        bootstrap.resample(3, fail, 100, 0)


def test_intervals_leave_out_draws_without_a_figure():
    values = np.array([[np.nan, np.nan], [1.0, np.nan], [3.0, np.nan]])
    low, high = bootstrap.interval(values, share=1.0)
    assert (low[0], high[0]) == (1, 3)
    assert np.isnan([low[1], high[1]]).all()
