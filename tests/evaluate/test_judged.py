"""Heads held to labels, alone and together."""

import numpy as np
import polars as pl
import pytest
from evaluations import score_table
from scipy.stats import spearmanr

from acai_jax.evaluate.bootstrap import resample
from acai_jax.evaluate.judged import COMPARED, Judged, agreement, compare, figures_of, flat


def judge(column: str, label: str = "h", table: pl.DataFrame | None = None) -> Judged:
    table = score_table(against=True) if table is None else table
    objects = np.arange(len(table)) // 4
    return Judged.of(table[column], table["label"].to_numpy() == label, objects)


def test_figures_survive_a_row():
    figures = judge("acai_h").figures
    back = figures_of(flat(figures), figures)
    for one, other in zip(figures, back, strict=True):
        np.testing.assert_array_equal(np.ravel(one), np.ravel(other))


def test_without_positives_the_threshold_is_a_half():
    judged = judge("acai_h", label="no such label")
    assert judged.threshold == 0.5
    assert np.isnan(judged.figures.balanced_threshold)


def test_a_head_is_as_good_as_itself():
    judged = judge("acai_h")
    draws = resample(100, judged.drawn, 20, 0)
    found = compare(judged, judged, ("1", "1"), draws, draws)
    assert found.first == found.second
    assert list(found.first) == list(COMPARED)
    assert set(found.low.values()) == set(found.high.values()) == {0.0}
    assert (found.only_first_right, found.only_second_right, found.p_value) == (0, 0, 1.0)


def test_a_noisy_head_is_worse():
    first, second = judge("acai_h"), judge("acai_h_against")
    draws = [resample(100, each.drawn, 100, 0) for each in (first, second)]
    found = compare(first, second, ("1", "2"), *draws)
    assert found.low["auc"] > 0
    assert found.high["brier"] < 0
    assert found.low["auc"] < found.first["auc"] - found.second["auc"] < found.high["auc"]
    assert found.p_value < 0.01
    right = [(each.called == each.targets) for each in (first, second)]
    assert found.only_first_right == (right[0] & ~right[1]).sum()
    assert found.only_second_right == (right[1] & ~right[0]).sum()
    middle = (first.figures.balanced_fnr + first.figures.balanced_fpr) / 2
    assert found.first["balanced_error"] == pytest.approx(middle)


def test_agreement_is_that_of_scipy():
    table = score_table().with_columns(
        acai_v=pl.when(pl.int_range(pl.len()) % 9 > 0).then(pl.col("acai_v").round(1))
    )
    heads = {"h": judge("acai_h", "h", table), "v": judge("acai_v", "v", table)}
    found = agreement(heads)
    both = table.drop_nulls(["acai_h", "acai_v"])
    expected = spearmanr(both["acai_h"], both["acai_v"]).statistic
    np.testing.assert_allclose(found.correlation, [[1, expected], [expected, 1]], atol=1e-12)
    calls = [
        both[f"acai_{name}"].cast(pl.Float64).to_numpy() >= heads[name].threshold for name in heads
    ]
    assert found.overlap[0, 1] == pytest.approx(np.mean(calls[1][calls[0]]))
    assert found.overlap[1, 0] == pytest.approx(np.mean(calls[0][calls[1]]))
    assert found.calls == tuple(np.bincount(np.sum(calls, axis=0), minlength=3))


def test_agreement_of_constant_scores_is_unknown():
    table = score_table().with_columns(acai_v=pl.lit(0.0))
    heads = {"h": judge("acai_h", "h", table), "v": judge("acai_v", "no such label", table)}
    found = agreement(heads)
    assert np.isnan(found.correlation[0, 1])
    assert np.isnan(found.overlap[1]).all()
