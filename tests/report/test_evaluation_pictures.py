"""Pictures of an evaluation are drawn for whatever heads there are, with words for each."""

import numpy as np
import polars as pl
import pytest
from evaluations import PROVENANCE, score_table, small_evaluation

from acai_jax.evaluate.run import evaluate_table
from acai_jax.report import evaluation_pictures as report_pictures
from tests.report.test_card_pictures import is_drawn, pixels

DRAWERS = (
    report_pictures.draw_error_rates,
    report_pictures.draw_roc,
    report_pictures.draw_precision,
    report_pictures.draw_calibration,
    report_pictures.draw_correlation,
    report_pictures.draw_overlap,
)


@pytest.mark.parametrize("draw", DRAWERS)
def test_pictures_come_in_light_and_dark_with_words(draw):
    picture = draw(small_evaluation())
    assert is_drawn(picture)
    assert "hosted" in picture.alt
    assert "variable star" in picture.alt
    assert picture.caption
    assert pixels(picture.light).shape[1] < 1100  # readable on a phone


@pytest.mark.parametrize("breakdown", ["filter", "magnitude", "latitude", "year", "ndethist"])
def test_breakdowns_are_drawn(breakdown):
    found = small_evaluation()
    picture = report_pictures.draw_groups(found, breakdown)
    assert is_drawn(picture)
    assert all(name in picture.alt for name in found.breakdowns[breakdown].names)


def test_comparisons_are_drawn():
    picture = report_pictures.draw_comparison(small_evaluation(against=True))
    assert is_drawn(picture)
    assert "hosted AUC +" in picture.alt


@pytest.mark.parametrize("draw", [*DRAWERS, lambda e: report_pictures.draw_groups(e, "year")])
def test_odd_evaluations_are_drawn_too(draw):
    alone = score_table(40).with_columns(acai_h=(pl.col("label") == "h").cast(pl.Float32))
    assert is_drawn(draw(evaluate_table(alone, {"h": {"version": "all right"}}, draws=3)))
    # no positives at all for most of many heads
    names = [f"head {n}" for n in range(11)]
    many = score_table(40).with_columns(pl.col("acai_h").alias(f"acai_{name}") for name in names)
    provenance = {name: {"version": "test", "positives": name[-1]} for name in names}
    assert is_drawn(draw(evaluate_table(many, provenance | PROVENANCE, draws=3)))


def test_the_words_give_the_figures():
    found = small_evaluation()
    head = found.heads["h"]
    alt = report_pictures.draw_error_rates(found).alt
    assert f"hosted {head.threshold:.3f}: {100 * head.figures.balanced_fnr:.2f} %" in alt
    assert f"hosted {head.figures.auc:.4f}" in report_pictures.draw_roc(found).alt


def test_fnr_is_solid_and_fpr_dashed_in_the_colours_of_the_classes():
    shown = pixels(report_pictures.draw_error_rates(small_evaluation()).light)
    for colour in ("#0072B2", "#CC79A7"):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(shown - wanted).max(axis=-1) < 0.02).sum() > 300
