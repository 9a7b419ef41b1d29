"""The protocol: choice, order and weights of the data, and when a head slows down and stops."""

import math

import numpy as np
import pytest

from acai_jax.errors import DatasetError
from acai_jax.surveys.ztf import SENTINEL
from acai_jax.training import Config, protocol
from acai_jax.training.members import members_of


def member(head="h", **changes):
    """The only member of a run."""
    (found,) = members_of(Config(heads=(head,), **changes))
    return found


def task(positives=1, negatives=1, **changes):
    """The task of a member with so many positives and negatives in both splits."""
    labels = np.array(["h"] * positives + ["b"] * negatives)
    return protocol.task_of(member(**changes), labels, labels, labels)


# --- data ------------------------------------------------------------------------------------


def test_all_positives_and_a_share_of_the_negatives():
    targets = np.arange(1000) % 10 == 0
    rows, dropped = protocol.select_rows(member(balance=2.5), targets)
    assert targets[rows].sum() == 100
    assert (~targets[rows]).sum() == 250
    assert sorted([*rows, *dropped]) == list(range(1000))
    everything, nothing = protocol.select_rows(member(balance=20.0), targets)
    assert (len(everything), len(nothing)) == (1000, 0)


def test_the_choice_follows_name_and_seed():
    targets = np.arange(1000) % 10 == 0
    first, again, other, seeded = (
        protocol.select_rows(member(name, seed=seed), targets)[0]
        for name, seed in (("h", 0), ("h", 0), ("o", 0), ("h", 1))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, seeded)


@pytest.mark.parametrize(("labels", "kind"), [(["b", "v"], "positive"), (["h"] * 3, "negative")])
def test_a_member_needs_both_kinds_in_both_splits(labels, kind):
    both = np.array(["h", "b"])
    for split, labels_of_splits in (("train", (labels, both)), ("validation", (both, labels))):
        with pytest.raises(DatasetError, match=f"head h: no {kind} alert in the split {split}"):
            protocol.task_of(
                member(), *map(np.array, labels_of_splits), np.array(labels_of_splits[0])
            )


def test_a_task_follows_the_members_labels():
    real = member("real", positives={"real": ("h", "v")}, balance=1.0)
    labels = np.array(["h", "b", "v", "b", "b"])
    found = protocol.task_of(real, labels, labels[:2], labels)
    assert found.targets.tolist() == [True, False, True, False, False]
    assert found.validation_targets.tolist() == [True, False]
    assert (len(found.rows), len(found.dropped)) == (4, 1)


def test_each_object_is_held_out_by_one_fold():
    objects = np.array([f"ZTF{number // 3}" for number in range(300)])
    labels = np.array(["h", "b", "v", "b", "b"] * 60)
    whole = protocol.task_of(member(), labels, labels, objects)
    assert len(whole.held_out) == 0
    members = members_of(Config(heads=("h",), folds=3, ensemble=2, seed=4))
    assert [each.fold for each in members] == [(0, 3), (1, 3), (2, 3)] * 2
    assert [each.seed for each in members] == [4, 5, 6, 7, 8, 9]
    tasks = [protocol.task_of(each, labels, labels, objects) for each in members]
    for of_one in (tasks[:3], tasks[3:]):
        assert sorted(np.concatenate([each.held_out for each in of_one])) == list(range(300))
    for found in tasks:
        assert 50 < len(found.held_out) < 150
        everything = np.concatenate([found.rows, found.dropped, found.held_out])
        assert sorted(everything) == list(range(300))
        assert not set(objects[found.held_out]) & set(objects[found.rows])
        positives = (labels[found.rows] == "h").sum()
        assert len(found.rows) == positives + round(2.5 * positives)
        control = protocol.first_control(member(class_weights="frequency"), found)
        assert control.positive_weight == pytest.approx(2.5, rel=0.02)


def test_a_fold_that_leaves_no_positive_is_refused():
    labels, objects = np.array(["b", "h", "b"]), np.array(["1", "2", "3"])
    (number,) = protocol.fold_of(objects[1:2], 2)
    (bad,) = (m for m in members_of(Config(heads=("h",), folds=2)) if m.fold == (number, 2))
    with pytest.raises(DatasetError, match=rf"no positive .* without its fold {number + 1} of 2"):
        protocol.task_of(bad, labels, labels, objects)


def test_each_epoch_takes_every_row_once_in_its_own_order():
    rows = np.arange(100, 170)
    epochs = [protocol.epoch_batches(member(), rows, epoch, 32) for epoch in (0, 1, 0)]
    other = protocol.epoch_batches(member("o"), rows, 0, 32)
    for batches in (*epochs, other):
        assert batches.shape == (3, 32)
        assert sorted(batches[batches >= 0]) == rows.tolist()
        assert (batches[:2] >= 0).all()
    assert np.array_equal(epochs[0], epochs[2])
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], other)


def test_validation_counts_negatives_as_the_subsample_would():
    targets = np.arange(100) < 10
    weights = protocol.validation_weights(targets, 2.5)
    assert weights[targets].sum() == 10
    assert weights[~targets].sum() == pytest.approx(25)
    assert protocol.validation_weights(targets, 50.0)[~targets].sum() == 90


def test_the_norm_leaves_sentinels_out():
    rng = np.random.default_rng(0)
    column = rng.normal(20, 3, 10_000)
    spoilt = np.where(rng.random(10_000) < 0.3, SENTINEL, column)
    constant, unknown = np.full(10_000, 7.0), np.full(10_000, SENTINEL)
    outlier = np.where(np.arange(10_000) < 9_000, 1.0, 5.0)
    columns = [column, spoilt, constant, unknown, outlier]
    norm = protocol.norm_statistics(np.stack(columns, axis=1).astype(np.float32), 8.0, SENTINEL)
    np.testing.assert_allclose(norm["centre"], [20, 20, 7, 0, 1], atol=0.2)
    np.testing.assert_allclose(norm["scale"], [3, 3, 1, 1, 1.2], rtol=0.05)
    assert norm["limit"].tolist() == [8] * 5
    assert norm["sentinel"].tolist() == [-8] * 5
    assert norm["floor"].tolist() == [0] * 5


def test_positive_features_with_a_long_tail_are_taken_as_logarithms():
    rng = np.random.default_rng(0)
    counts = np.exp(rng.normal(3, 2, 10_000))
    spoilt = np.where(rng.random(10_000) < 0.3, SENTINEL, counts)
    columns = [counts, spoilt, counts - counts.min(), -counts, 1000 - counts.clip(max=900)]
    features = np.stack(columns, axis=1).astype(np.float32)
    norm = protocol.norm_statistics(features, 8.0, SENTINEL)
    measured = features[:, 1][features[:, 1] != SENTINEL]
    assert norm["floor"].tolist() == [features[:, 0].min(), measured.min(), 0, 0, 0]
    np.testing.assert_allclose(norm["centre"][:2], 3, atol=0.1)
    np.testing.assert_allclose(norm["scale"][:2], 2, rtol=0.05)


# --- judging ---------------------------------------------------------------------------------


def test_an_epoch_is_judged_by_weighted_loss_precision_and_recall():
    logits = np.array([2.0, -1.0, 0.5, -3.0, 1.0], np.float32)
    targets = np.array([True, True, False, False, False])
    weights = np.array([1.0, 1.0, 0.5, 0.5, 0.5])
    found = protocol.judge(logits, targets, weights)
    scores = 1 / (1 + np.exp(-logits.astype(float)))
    losses = -np.log(np.where(targets, scores, 1 - scores))
    assert found.loss == pytest.approx((losses * weights).sum() / weights.sum())
    assert found.precision == pytest.approx(1 / 2)  # one true of two by weight
    assert found.recall == pytest.approx(1 / 2)
    assert found.balanced_accuracy == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_without_a_called_positive_precision_is_no_obstacle():
    found = protocol.judge(np.array([-1.0, -1.0]), np.array([True, False]), np.ones(2))
    assert (found.precision, found.recall) == (1.0, 0.0)


class Plain:
    """The rules for one member, written out once more with plain numbers."""

    def __init__(self, config, weight):
        self.config, self.rate, self.weight = config, config.learning_rate, weight
        self.best, self.best_epoch, self.best_rate = math.inf, -1, config.learning_rate
        self.waited = self.waited_for_cut = 0
        self.stopped = False

    def see(self, epoch, loss, precision, recall):
        if loss < self.best:
            self.best, self.best_epoch, self.best_rate = loss, epoch, self.rate
            self.waited = self.waited_for_cut = 0
        else:
            self.waited += 1
            self.waited_for_cut += 1
        if self.config.class_weights == "balanced":
            self.weight *= math.exp(precision - recall)
            self.weight = min(4.0, max(0.25, self.weight))
        if self.waited == self.config.patience or epoch + 1 == self.config.max_epochs:
            self.stopped = True
        elif self.waited_for_cut == self.config.plateau_patience:
            self.rate *= self.config.plateau_factor
            self.waited_for_cut = 0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("class_weights", ["none", "balanced", "frequency"])
def test_control_follows_the_rules(seed, class_weights):
    rng = np.random.default_rng(seed)
    settings = {"plateau_patience": 2, "patience": 5, "max_epochs": 25}
    config = Config(heads=("h",), class_weights=class_weights, **settings)
    (one,) = members_of(config)
    control = protocol.first_control(one, task(10, 7, class_weights=class_weights))
    expected = Plain(config, 0.7 if class_weights == "frequency" else 1.0)
    epoch = 0
    while not control.stopped:
        loss = np.nan if rng.random() < 0.05 else rng.normal(1 / (1 + epoch / 3), 0.1)
        rates = rng.random(2).tolist()
        quality = protocol.Quality(loss, *rates, 0.5)
        control = protocol.next_control(control, one, quality, epoch, epoch + 1)
        expected.see(epoch, loss, *rates)
        epoch += 1
        assert (control.best_epoch, control.stopped) == (expected.best_epoch, expected.stopped)
        found = (control.learning_rate, control.best_rate, control.best_loss)
        assert found == (expected.rate, expected.best_rate, expected.best)
        assert control.positive_weight == pytest.approx(expected.weight)
    assert 5 <= epoch <= 25


@pytest.mark.parametrize("more", [True, False])
def test_round_two_goes_on_from_the_best_with_patience_anew(more):
    control = protocol.first_control(member(), task())
    control = control._replace(best_rate=1e-4, since_best=9, since_cut=3, stopped=True)
    control = protocol.round_two_control(control, more=more)
    assert control.stopped is not more
    assert (control.learning_rate, control.since_best, control.since_cut) == (1e-4, 0, 0)


def test_fixed_class_weights_are_each_heads_own():
    weights = {"o": 3.0, "h": 0.5}
    config = Config(heads=("h", "o"), class_weights="fixed", positive_weights=weights)
    missed = protocol.Quality(0.5, 0.9, 0.1, 0.5)
    for one in members_of(config):
        control = protocol.first_control(one, task())
        assert control.positive_weight == weights[one.head]
        control = protocol.next_control(control, one, missed, 0, 1)
        assert control.positive_weight == weights[one.head]


def test_class_weights_have_the_mean_one():
    negative, positive = protocol.class_weights(2.0, positives=100, negatives=250)
    assert positive == pytest.approx(2 * negative)
    assert (100 * positive + 250 * negative) / 350 == pytest.approx(1)


def test_misclassified_are_dropped_rows_above_the_threshold():
    logits = np.array([1.0, 1.0, -1.0, 0.1], np.float32)
    assert protocol.misclassified(logits, np.array([1, 2, 3])).tolist() == [1, 3]
