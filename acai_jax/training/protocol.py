"""The paper's protocol for one member: choice and order of the data, class weights, stopping.

Everything follows from the member's own values: which others are trained beside it makes no
difference.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64

from acai_jax.datasets.splits import stable_hash
from acai_jax.errors import DatasetError
from acai_jax.training.members import Member

_LARGEST_RATIO = 4.0  # of class weights that adjust themselves: more would spoil the calibration
_SPREAD = (16, 50, 84)  # percentiles
_LONG_TAIL = 2.0  # above the median, in units of what is below it
_CHOICE, _ORDER = 0, 1  # streams of random numbers


def _random(member: Member, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([member.seed, stable_hash(member.head), *purpose])


# --- data ------------------------------------------------------------------------------------


class Task(NamedTuple):
    """What a member learns, and what it is judged by.

    Attributes:
        targets: True for the positives of the training split.
        rows: of the training split, those that it trains on.
        dropped: the negatives kept aside.
        held_out: the rows of the fold that it leaves out.
        validation_targets: True for the positives of the validation split.
        validation_weights: of the alerts in the validation loss.
    """

    targets: Bool[np.ndarray, " n"]
    rows: Int64[np.ndarray, " m"]
    dropped: Int64[np.ndarray, " d"]
    held_out: Int64[np.ndarray, " o"]
    validation_targets: Bool[np.ndarray, " v"]
    validation_weights: Float64[np.ndarray, " v"]


def task_of(
    member: Member, labels: np.ndarray, validation_labels: np.ndarray, objects: np.ndarray
) -> Task:
    """A member's task.

    Args:
        member: whose task.
        labels: of the training split.
        validation_labels: of the validation split.
        objects: names of the training split's objects; a fold holds all alerts of its objects.

    Raises:
        DatasetError: there are no positives, or no negatives, in one of the splits.

    Example:
        >>> from acai_jax.training.config import Config
        >>> from acai_jax.training.members import members_of
        >>> (member,) = members_of(Config(heads=("h",)))
        >>> labels, objects = np.array(["h", "b", "b", "v"]), np.array(["1", "2", "3", "4"])
        >>> task = task_of(member, labels, np.array(["b", "h"]), objects)
        >>> len(task.rows), len(task.dropped), task.validation_weights.tolist()
        (3, 1, [1.0, 1.0])
    """
    targets = np.isin(labels, member.labels)
    validation_targets = np.isin(validation_labels, member.labels)
    seen, where = np.ones(len(targets), bool), "train"
    if member.fold is not None:
        number, count = member.fold
        seen = fold_of(objects, count) != number
        where = f"train without its fold {number + 1} of {count}"
    for split, found in (("validation", validation_targets), (where, targets[seen])):
        for kind, missing in (("positive", not found.any()), ("negative", found.all())):
            if missing:
                raise DatasetError(f"head {member.head}: no {kind} alert in the split {split}")
    weights = validation_weights(validation_targets, member.balance)
    rows, dropped = select_rows(member, targets, seen)
    return Task(targets, rows, dropped, np.flatnonzero(~seen), validation_targets, weights)


def fold_of(objects: np.ndarray, count: int) -> Int64[np.ndarray, " n"]:
    """The fold of each alert, by a hash of its object's name: no object is in two.

    Example:
        >>> fold_of(np.array(["ZTF20aaaaaaa", "ZTF20aaaaaac", "ZTF20aaaaaaa"]), 5).tolist()
        [4, 4, 4]
    """
    names, places = np.unique(objects, return_inverse=True)
    folds = [stable_hash(f"fold of {name}") % count for name in names]
    return np.array(folds, np.int64)[places]


def select_rows(
    member: Member, targets: Bool[np.ndarray, " n"], seen: Bool[np.ndarray, " n"] | None = None
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " d"]]:
    """All positives, and `balance` negatives for each of them, drawn at random; and the rest.

    Only rows that are `seen` count; by default all.
    """
    seen = np.ones(len(targets), bool) if seen is None else seen
    positives, negatives = np.flatnonzero(targets & seen), np.flatnonzero(~targets & seen)
    kept = min(len(negatives), round(member.balance * len(positives)))
    shuffled = _random(member, _CHOICE).permutation(negatives)
    return np.sort(np.concatenate([positives, shuffled[:kept]])), np.sort(shuffled[kept:])


def epoch_batches(
    member: Member, rows: Int64[np.ndarray, " m"], epoch: int, batch_size: int
) -> Int32[np.ndarray, "s b"]:
    """The rows in this epoch's order, batch by batch; -1 fills up the last one.

    Example:
        >>> from acai_jax.training.config import Config
        >>> from acai_jax.training.members import members_of
        >>> (member,) = members_of(Config(heads=("h",)))
        >>> batches = epoch_batches(member, np.arange(5), epoch=3, batch_size=2)
        >>> batches.shape, sorted(batches.ravel().tolist())
        ((3, 2), [-1, 0, 1, 2, 3, 4])
    """
    return fill_up(_random(member, _ORDER, epoch).permutation(rows), batch_size)


def fill_up(rows: Int[np.ndarray, " m"], size: int) -> Int32[np.ndarray, "s b"]:
    """Rows in batches of `size`, the last one filled up with -1."""
    missing = -len(rows) % size
    return np.pad(rows, (0, missing), constant_values=-1).astype(np.int32).reshape(-1, size)


def validation_weights(
    targets: Bool[np.ndarray, " n"], balance: float
) -> Float64[np.ndarray, " n"]:
    """Weights under which all negatives together count as much as those of a subsample.

    The mean over all of them has less noise than a subsample would have.
    """
    positives = targets.sum()
    share = min(1.0, balance * positives / max(1, len(targets) - positives))
    return np.where(targets, 1.0, share)


def norm_statistics(
    features: Float[np.ndarray, "n f"], limit: float, sentinel: float
) -> dict[str, Float32[np.ndarray, " f"]]:
    """The numbers of a `FeatureNorm`; centre: the median, scale: half of the central 68 %.

    Values of `sentinel` are no measurements: they are left out, and normalised they get -`limit`,
    the end of the range. A feature that hardly varies falls back on its standard deviation; a
    constant one keeps the scale 1. Positive ones with a long tail, such as counts, distances and
    signal to noise, are taken as logarithms: the difference between one detection and three is
    nothing beside the spread of hundreds.

    Example:
        >>> norm = norm_statistics(np.array([[1.0], [2.0], [3.0], [-999.0]]), 10.0, sentinel=-999.0)
        >>> float(norm["centre"][0]), float(norm["sentinel"][0]), float(norm["floor"][0])
        (2.0, -10.0, 0.0)
    """
    count = features.shape[1]
    floor, centre, scale = np.zeros(count), np.zeros(count), np.ones(count)
    for index, column in enumerate(features.T):
        measured = column[column != sentinel].astype(np.float64)
        if len(measured):
            low, middle, high = np.percentile(measured, _SPREAD)
            if measured.min() > 0 and high - middle > _LONG_TAIL * (middle - low):
                floor[index], measured = measured.min(), np.log(measured)
                low, middle, high = np.percentile(measured, _SPREAD)
            centre[index] = middle
            scale[index] = (high - low) / 2 or measured.std() or 1.0
    ends = {"limit": np.full(count, limit), "sentinel": np.full(count, -limit)}
    numbers = {"floor": floor, "centre": centre, "scale": scale, **ends}
    return {name: array.astype(np.float32) for name, array in numbers.items()}


# --- judging an epoch ------------------------------------------------------------------------


class Quality(NamedTuple):
    """How a member did on the validation split, at the threshold 0.5."""

    loss: float
    precision: float
    recall: float
    balanced_accuracy: float


def judge(
    logits: Float[np.ndarray, " n"],
    targets: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
) -> Quality:
    """Weighted binary cross-entropy, precision and recall; balanced accuracy.

    Class weights play no part in it, so that epochs can be compared while they change.
    """
    losses = _losses(logits, targets)
    called = logits > 0
    true = weights[targets & called].sum()
    all_called, all_true = weights[called].sum(), weights[targets].sum()
    rates = [np.mean(called[targets]), np.mean(~called[~targets])]
    return Quality(
        loss=float(np.average(losses, weights=weights)),
        precision=float(true / all_called) if all_called else 1.0,
        recall=float(true / all_true),
        balanced_accuracy=float(np.mean(rates)),
    )


def _losses(
    logits: Float[np.ndarray, " n"], targets: Bool[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    exact = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a head that has diverged has no loss
        return np.logaddexp(0, np.where(targets, -exact, exact))


def influence(
    logits: Float[np.ndarray, " n"],
    targets: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """How far each alert moves the loss of `judge` from where the others have it; the sum is 0."""
    losses = _losses(logits, targets)
    return weights * (losses - np.average(losses, weights=weights)) / weights.sum()


def clustered_error(influences: Float64[np.ndarray, " n"], objects: np.ndarray) -> float:
    """Standard error of a mean, from the influence of each alert; objects are independent.

    Example:
        >>> influences = np.array([0.01, 0.01, -0.02])
        >>> round(clustered_error(influences, np.array(["1", "1", "2"])), 4)
        0.0283

    Source: Liang & Zeger 1986, Biometrika 73, 13.
    """
    names, places = np.unique(objects, return_inverse=True)
    return float(np.sqrt((np.bincount(places, influences, len(names)) ** 2).sum()))


class Control(NamedTuple):
    """Where a member stands; k of them with a leading axis.

    Attributes:
        learning_rate: at present.
        positive_weight: weight of a positive, in units of a negative's.
        best_loss: lowest validation loss so far.
        best_epoch: when that was; -1 before.
        best_rate: the learning rate at that time.
        since_best: epochs since then, in this round.
        since_cut: epochs since then, or since the learning rate last fell.
        stopped: True once it trains no more.
    """

    learning_rate: float
    positive_weight: float
    best_loss: float
    best_epoch: int
    best_rate: float
    since_best: int
    since_cut: int
    stopped: bool


def first_control(member: Member, task: Task) -> Control:
    """The control of a member that has not trained yet."""
    weight = member.positive_weight
    if member.class_weights == "frequency":
        positives = int(task.targets[task.rows].sum())
        weight = (len(task.rows) - positives) / positives
    rate = member.learning_rate
    return Control(rate, weight, np.inf, -1, rate, 0, 0, False)


def next_control(
    control: Control, member: Member, quality: Quality, epoch: int, epochs_in_round: int
) -> Control:
    """The control after an epoch; it was the best one if `best_epoch` is its number.

    A loss that is not a number is no improvement.

    Args:
        control: before the epoch, of a member that has not stopped.
        member: whose patience and factors these are.
        quality: of the epoch.
        epoch: its number.
        epochs_in_round: how many there were in this round, this one included.
    """
    rate, weight = control.learning_rate, control.positive_weight
    if quality.loss < control.best_loss:
        best = {"best_loss": quality.loss, "best_epoch": epoch, "best_rate": rate}
        control = control._replace(**best, since_best=0, since_cut=0)
    else:
        waited = {"since_best": control.since_best + 1, "since_cut": control.since_cut + 1}
        control = control._replace(**waited)
    excess = quality.precision - quality.recall
    if member.class_weights == "balanced" and np.isfinite(excess):
        # too many missed positives make them weigh more
        weight = np.clip(weight * np.exp(excess), 1 / _LARGEST_RATIO, _LARGEST_RATIO)
        control = control._replace(positive_weight=weight)
    if control.since_best >= member.patience or epochs_in_round >= member.max_epochs:
        return control._replace(stopped=True)
    if control.since_cut >= member.plateau_patience:
        return control._replace(learning_rate=rate * member.plateau_factor, since_cut=0)
    return control


def round_two_control(control: Control, *, more: bool) -> Control:
    """The control at the start of round two: with more data a member goes on from its best."""
    rate = control.best_rate
    return control._replace(learning_rate=rate, since_best=0, since_cut=0, stopped=not more)


def class_weights(
    positive_weight: float, positives: int, negatives: int
) -> Float32[np.ndarray, "2"]:
    """Weights of a negative and a positive, with the mean 1 over the training rows.

    Example:
        >>> class_weights(3.0, positives=10, negatives=30).tolist()
        [0.6666666865348816, 2.0]
    """
    negative = (positives + negatives) / (negatives + positive_weight * positives)
    return np.array([negative, positive_weight * negative], np.float32)


def misclassified(
    logits: Float[np.ndarray, " n"], dropped: Int64[np.ndarray, " d"]
) -> Int64[np.ndarray, " m"]:
    """Rows of dropped negatives that a member calls positives, at the threshold 0.5."""
    return dropped[logits[dropped] > 0]
