"""The keys of metrics.json stay: others read them."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from evaluations import PROVENANCE, score_table, small_evaluation

from acai_jax.evaluate.examples import ChosenAlert
from acai_jax.evaluate.run import evaluate_table
from acai_jax.report.evaluation_json import metrics_of

INTERVALS = ("auc", "average_precision", "balanced_threshold", "ece", "brier")


def strict(found) -> dict:
    return json.loads(json.dumps(metrics_of(found), allow_nan=False))


def test_the_keys_are_stable():
    found = strict(small_evaluation(against=True))
    assert {"format", "model", "source", "alerts", "objects", "labels", "unscored"} < set(found)
    assert found["format"] == "acai_jax evaluation 1"
    assert found["bootstrap"] == {"by": "objectId", "draws": 40, "seed": 0, "share": 0.95}
    head = found["heads"]["h"]
    for name in ("fnr", "fpr", *INTERVALS, "balanced_fnr", "balanced_fpr"):
        assert {name, f"{name}_low", f"{name}_high"} <= set(head)
    assert {"version", "positives", "n_positive", "n_negative", "n_unscored"} <= set(head)
    assert len(head["thresholds"]) == len(head["fnr"]) == len(head["fpr_high"]) == 201
    assert {"filter", "magnitude", "latitude", "year", "ndethist"} == set(head["groups"])
    assert {"edges", "counts", "mean_scores", "positive_shares"} < set(head["calibration"])
    other = found["against"]["heads"]["h"]
    assert set(other["auc"]) == {"first", "second", "difference", "low", "high"}
    assert set(other["mcnemar"]) == {"only_first_right", "only_second_right", "p_value"}


def test_the_numbers_are_those_of_the_evaluation():
    evaluation = small_evaluation(against=True)
    found, head = strict(evaluation), evaluation.heads["h"]
    shown = found["heads"]["h"]
    for name in INTERVALS:
        assert shown[name] == getattr(head.figures, name)
        assert shown[f"{name}_low"] == getattr(head.low, name)
    assert shown["fnr"] == head.figures.fnr.tolist()
    assert shown["confusion"] == {"threshold": head.threshold, **head.confusion._asdict()}
    assert shown["n_positive"] + shown["n_negative"] == found["alerts"] == 400
    assert found["objects"] == 100
    assert sum(found["labels"].values()) == 400
    assert sum(found["agreement"]["calls"]) == 400
    group = shown["groups"]["filter"][1]
    assert (group["name"], group["fpr"]) == ("r", head.groups["filter"][1].rates[1])


def test_figures_that_do_not_exist_are_null():
    table = score_table().with_columns(acai_n=pl.col("acai_h"))
    found = strict(evaluate_table(table, {**PROVENANCE, "n": {"version": "test"}}, draws=3))
    head = found["heads"]["n"]
    assert (head["auc"], head["auc_low"], head["balanced_threshold"]) == (None, None, None)
    assert set(head["fnr"]) == {None}
    assert head["n_positive"] == 0
    assert "against" not in found


def test_candids_keep_their_digits():
    evaluation = small_evaluation()
    row = evaluation.table.row(7, named=True)
    example = ChosenAlert("h", "missed", row, (None, None, None))
    found = strict(dataclasses.replace(evaluation, examples=[example]))
    (shown,) = found["heads"]["h"]["missed"]
    assert shown["candid"] == "1000000000000000007"
    assert shown["score"] == pytest.approx(row["acai_h"])
    assert found["heads"]["h"]["false_alarms"] == []


def test_reasons_of_missing_scores_are_counted():
    table = score_table()
    gone = pl.int_range(pl.len()) < 3
    table = table.with_columns(
        pl.when(gone).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("acai_h", "acai_v")
    ).with_columns(reason=pl.when(gone).then(pl.lit("null feature: scorr")))
    found = strict(evaluate_table(table, PROVENANCE, draws=3))
    assert found["unscored"] == {"null feature": 3}
    assert [head["n_unscored"] for head in found["heads"].values()] == [3, 3]
    assert np.isfinite(found["heads"]["h"]["auc"])
