"""Heads on labelled alerts: figures, intervals by object, groups, comparison."""

from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from evaluations import PROVENANCE, score_table, small_evaluation
from hostile import hostile
from hypothesis import given, settings
from sklearn.metrics import confusion_matrix, roc_auc_score

from acai_jax.classes import CLASSES
from acai_jax.errors import CheckpointError, EvaluationError
from acai_jax.evaluate.labelled import AlertsSource, DatasetSource
from acai_jax.evaluate.run import Model, evaluate, evaluate_table, positive_labels
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer


def targets_of(table: pl.DataFrame, name: str) -> np.ndarray:
    return np.isin(table["label"].to_numpy(), ["h"] if name == "h" else ["v", "rr"])


@pytest.mark.parametrize("name", ["h", "v"])
def test_figures_are_those_of_the_table(name):
    found = small_evaluation()
    head, scores = found.heads[name], found.table[f"acai_{name}"].to_numpy()
    targets = targets_of(found.table, name)
    assert head.figures.auc == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)
    (tn, fp), (fn, tp) = confusion_matrix(targets, scores >= head.threshold)
    assert head.confusion == (tp, fp, tn, fn)
    assert head.ranking.positives == targets.sum()
    assert head.positives == (("h",) if name == "h" else ("v", "rr"))


@pytest.mark.parametrize("name", ["h", "v"])
def test_intervals_hold_the_figures(name):
    head = small_evaluation(draws=200).heads[name]
    for figure in ("auc", "average_precision", "balanced_fnr", "balanced_fpr", "brier"):
        low, middle, high = (getattr(e, figure) for e in (head.low, head.figures, head.high))
        assert low < middle < high
    assert (head.low.fnr <= head.figures.fnr).all()
    assert (head.high.fpr >= head.figures.fpr).all()
    for groups in head.groups.values():
        assert sum(group.n_positive for group in groups) == head.ranking.positives
        for group in groups:
            for low, middle, high in zip(group.low, group.rates, group.high, strict=True):
                assert low <= middle <= high or np.isnan([low, middle, high]).any()


def test_groups_are_judged_by_the_threshold_of_all():
    found = small_evaluation()
    head, table = found.heads["h"], found.table
    for group, fid in zip(head.groups["filter"], (1, 2, 3), strict=True):
        part = table.filter(pl.col("fid") == fid)
        targets, called = targets_of(part, "h"), part["acai_h"].to_numpy() >= head.threshold
        assert group.name == "gri"[fid - 1]
        expected = (np.mean(~called[targets]), np.mean(called[~targets]))
        assert group.rates == pytest.approx(expected, abs=1e-12)


def test_copies_of_an_objects_alerts_make_no_figure_surer():
    table = score_table()
    copies = pl.concat(
        [table, table.with_columns(candid=pl.col("candid") + 1000)], rechunk=True
    ).sort("objectId", maintain_order=True)
    one, two = (evaluate_table(t, PROVENANCE, draws=60).heads["h"] for t in (table, copies))
    assert one.figures.auc == pytest.approx(two.figures.auc, abs=1e-12)
    assert one.low.auc == pytest.approx(two.low.auc, abs=1e-12)
    np.testing.assert_allclose(one.high.fnr, two.high.fnr, atol=1e-12)
    as_objects = table.with_columns(objectId=pl.col("candid").cast(pl.String))
    alone = evaluate_table(as_objects, PROVENANCE, draws=60).heads["h"]
    assert alone.low.auc != one.low.auc


def test_the_seed_decides_the_draws():
    one, again, other = (
        evaluate_table(score_table(), PROVENANCE, draws=30, seed=seed) for seed in (1, 1, 2)
    )
    assert one.heads["h"].low[2:9] == again.heads["h"].low[2:9]
    assert one.heads["h"].low.auc != other.heads["h"].low.auc


def test_alerts_without_scores_are_counted_and_left_out():
    table = score_table()
    gone = pl.int_range(pl.len()) % 5 == 0
    some = table.with_columns(acai_h=pl.when(gone).then(None).otherwise(pl.col("acai_h")))
    found = evaluate_table(some, PROVENANCE, draws=5)
    state = found.heads["h"].state
    assert state.unscored_positives + state.unscored_negatives == 80
    assert found.heads["v"].state.unscored_negatives == 0
    expected = evaluate_table(table.filter(~gone), PROVENANCE, draws=5)
    assert found.heads["h"].figures.auc == expected.heads["h"].figures.auc
    assert sum(found.agreement.calls) == 320
    np.testing.assert_allclose(found.agreement.correlation, expected.agreement.correlation)


def test_a_head_without_positives_has_rates_of_negatives_only():
    provenance = {**PROVENANCE, "n": {"version": "test"}}
    table = score_table().with_columns(acai_n=pl.col("acai_h"))
    head = evaluate_table(table, provenance, draws=5).heads["n"]
    assert np.isnan([head.figures.auc, head.low.auc, head.figures.balanced_threshold]).all()
    assert head.threshold == 0.5
    assert head.confusion.true_positives == head.confusion.false_negatives == 0
    assert head.lacks == "positive"
    assert np.isnan(head.rates[0])


def test_rates_are_those_of_the_threshold():
    for head in small_evaluation().heads.values():
        assert head.lacks is None
        expected = (head.figures.balanced_fnr, head.figures.balanced_fpr)
        assert head.rates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("label", "lacks"), [("nova", "positive"), ("h", "negative")])
def test_one_head_alone_may_be_held_to_one_kind_of_alert(label, lacks):
    table = score_table().with_columns(label=pl.lit(label))
    head = evaluate_table(table, {"h": PROVENANCE["h"]}, draws=5).heads["h"]
    called = (table["acai_h"].to_numpy() >= 0.5).mean()
    rate = called if lacks == "positive" else 1 - called
    assert head.lacks == lacks
    assert np.nanmax(head.rates) == pytest.approx(rate, abs=1e-12)
    assert np.isnan(head.figures.auc)
    curve = head.figures.fpr if lacks == "positive" else head.figures.fnr
    assert curve[100] == pytest.approx(rate, abs=1e-12)


def test_positive_labels_of_new_and_of_early_checkpoints():
    assert positive_labels("fast", {"positives": ["SN Ia", "kilonova"]}) == ("SN Ia", "kilonova")
    assert positive_labels("fast", {"positives": "kilonova gw"}) == ("kilonova", "gw")
    assert positive_labels("AM CVn", {"version": "test"}) == ("AM CVn",)


def test_labels_that_no_head_knows_are_a_clear_error():
    table = score_table().with_columns(label=pl.lit("nova"))
    with pytest.raises(EvaluationError, match="labels are nova; heads are h, v"):
        evaluate_table(table, PROVENANCE, draws=5)


def test_without_any_score_there_is_a_clear_error():
    table = score_table().with_columns(acai_h=pl.lit(None, pl.Float32))
    with pytest.raises(EvaluationError, match="no alert has a score"):
        evaluate_table(table, PROVENANCE, draws=5)


def test_the_better_of_two_models_is_found():
    found = small_evaluation(against=True, draws=100)
    assert list(found.comparisons) == ["h", "v"]
    for each in found.comparisons.values():
        assert each.alerts == 400
        assert each.versions == ("test", "other")
        assert each.low["auc"] > 0
        assert each.p_value < 0.01


def test_models_are_compared_where_both_have_scores():
    table = score_table(against=True)
    gone = pl.int_range(pl.len()) % 4 == 0
    column = "acai_h_against"
    table = table.with_columns(pl.when(gone).then(None).otherwise(pl.col(column)).alias(column))
    other = {"h": {"version": "other"}}
    found = evaluate_table(table, PROVENANCE, other, draws=5).comparisons
    assert list(found) == ["h"]
    assert found["h"].alerts == 300
    both = table.drop_nulls(column)
    expected = roc_auc_score(targets_of(both, "h"), both["acai_h"].to_numpy())
    assert found["h"].first["auc"] == pytest.approx(expected, abs=1e-12)


# --- whole models ----------------------------------------------------------------------------


def model(name: str, classes: tuple[str, ...], seed: int) -> Model:
    heads = create_heads(HeadConfig(), len(classes), jax.random.key(seed))
    return Model(name, Scorer(HeadBank(heads, classes, {c: {"version": name} for c in classes})))


def test_models_on_a_dataset(simulated_dataset):
    told: list[str] = []

    def report(what: str):
        told.append(what)
        return lambda done, total: None

    source = DatasetSource(simulated_dataset, "train")
    first, second = model("one", CLASSES, 0), model("two", ("o", "h"), 1)
    found = evaluate(first, source, second, draws=10, report=report)
    assert told == ["scoring", "scoring, two", "drawing objects"]
    assert list(found.heads) == list(CLASSES)
    assert list(found.comparisons) == ["h", "o"]
    assert found.comparisons["o"].versions == ("one", "two")
    assert found.source["dataset"] == "ztf_acai/alerts/1.0.0"
    assert {each.kind for each in found.examples} == {"missed", "false alarm", "disagreement"}
    assert all(image is not None for each in found.examples for image in each.images)
    scores = second.scorer.score_arrays(
        *(np.stack([np.array(r[n]) for r in source._records]) for n in ("features", "triplet"))
    )
    np.testing.assert_allclose(found.table["acai_h_against"], scores[:, 1], atol=1e-6)


def test_models_without_a_common_head_are_a_clear_error(simulated_dataset):
    source = DatasetSource(simulated_dataset, "train")
    with pytest.raises(EvaluationError, match="one and two share no head: h and v, b"):
        evaluate(model("one", ("h",), 0), source, model("two", ("v", "b"), 1))
    with pytest.raises(EvaluationError, match="draws is 0"):
        evaluate(model("one", ("h",), 0), source, draws=0)


def test_a_broken_checkpoint_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Model.load(str(tmp_path))


def test_published_heads_find_their_own_classes(real_data, tmp_path):
    golden = pl.read_csv(real_data / "golden" / "scores.csv").filter(pl.col("preset") == "acai")
    golden = golden.unique("candid", keep="first", maintain_order=True)
    top = golden.select(pl.concat_list(f"acai_{name}" for name in CLASSES).list.arg_max())
    labels = golden.select(pl.col("objectId").alias("oid"), "candid").with_columns(
        label=pl.Series([CLASSES[index] for index in top.to_series()])
    )
    labels.write_csv(tmp_path / "labels.csv")
    chosen = Model.load("published", weights_dir=real_data / "acai_h5")
    source = AlertsSource(Path(real_data, "alerts"), tmp_path / "labels.csv")
    found = evaluate(chosen, source, draws=20)
    assert source.facts["counts"]["labels_without_alert"] > 0  # those of the Parquet file
    for name, head in found.heads.items():
        state = head.state
        assert state.unscored_positives + state.unscored_negatives == 0
        assert head.figures.auc > 0.9 or np.isnan(head.figures.auc), name
    joined = found.table.join(golden, "candid", suffix="_golden")
    for name in CLASSES:
        ours, theirs = joined[f"acai_{name}"], joined[f"acai_{name}_golden"]
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@settings(max_examples=15)
@given(table=hostile(score_table(80), sound=("label", "acai_h", "acai_v", "candid")))
def test_no_row_keeps_others_from_their_figures(table):
    found = evaluate_table(table, PROVENANCE, draws=5)
    sound = evaluate_table(score_table(80), PROVENANCE, draws=5)
    for name, head in found.heads.items():
        assert head.figures.auc == sound.heads[name].figures.auc
        for groups in head.groups.values():
            assert sum(group.n_positive for group in groups) == head.ranking.positives
