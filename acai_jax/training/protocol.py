"""The paper's protocol, head by head: choice and order of the data, class weights, stopping.

Everything about a head follows from its own name, its own labels and the seed: which other heads
are trained beside it makes no difference.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64

from acai_jax.errors import DatasetError
from acai_jax.schema import SENTINEL
from acai_jax.splits import stable_hash
from acai_jax.training.config import Config

_LARGEST_RATIO = 4.0  # of class weights that adjust themselves: more would spoil the calibration
_CHOICE, _ORDER = 0, 1  # streams of random numbers


def _random(seed: int, name: str, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, stable_hash(name), *purpose])


# --- data ------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """Rows of the training split that a head trains on, and the negatives kept aside."""

    rows: Int64[np.ndarray, " m"]
    dropped: Int64[np.ndarray, " d"]


def select_rows(name: str, targets: Bool[np.ndarray, " n"], balance: float, seed: int) -> Selection:
    """All positives, and `balance` negatives for each of them, drawn at random.

    Raises:
        DatasetError: there are no positives, or no negatives.

    Example:
        >>> rows, dropped = select_rows("h", np.arange(10) < 2, balance=2.5, seed=0)
        >>> len(rows), len(dropped)
        (7, 3)
    """
    check_both_kinds(name, targets, "train")
    positives, negatives = np.flatnonzero(targets), np.flatnonzero(~targets)
    kept = min(len(negatives), round(balance * len(positives)))
    shuffled = _random(seed, name, _CHOICE).permutation(negatives)
    return Selection(
        np.sort(np.concatenate([positives, shuffled[:kept]])), np.sort(shuffled[kept:])
    )


def check_both_kinds(name: str, targets: Bool[np.ndarray, " n"], split: str) -> None:
    """Raises a `DatasetError` where a head has no positives in a split, or no negatives."""
    for kind, found in (("positive", targets.any()), ("negative", not targets.all())):
        if not found:
            raise DatasetError(f"head {name}: no {kind} alert in the split {split}")


def epoch_batches(
    name: str, rows: Int64[np.ndarray, " m"], seed: int, epoch: int, batch_size: int
) -> Int32[np.ndarray, "s b"]:
    """The rows in this epoch's order, batch by batch; -1 fills up the last one.

    Example:
        >>> batches = epoch_batches("h", np.arange(5), seed=0, epoch=3, batch_size=2)
        >>> batches.shape, sorted(batches.ravel().tolist())
        ((3, 2), [-1, 0, 1, 2, 3, 4])
    """
    order = _random(seed, name, _ORDER, epoch).permutation(rows)
    return fill_up(order, batch_size)


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


class NormStatistics(NamedTuple):
    """The numbers of a `FeatureNorm`."""

    centre: Float32[np.ndarray, " f"]
    scale: Float32[np.ndarray, " f"]
    limit: Float32[np.ndarray, " f"]
    sentinel: Float32[np.ndarray, " f"]


def norm_statistics(features: Float[np.ndarray, "n f"], limit: float) -> NormStatistics:
    """Robust centre and scale of each feature: the median, and half of the central 68 %.

    Sentinels are no measurements: they are left out, and normalised they get -`limit`, the end of
    the range. A feature that hardly varies falls back on its standard deviation; a constant one
    keeps the scale 1.

    Example:
        >>> norm = norm_statistics(np.array([[1.0], [2.0], [3.0], [-999.0]]), limit=10.0)
        >>> float(norm.centre[0]), float(norm.sentinel[0])
        (2.0, -10.0)
    """
    centre, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    for index, column in enumerate(features.T):
        measured = column[column != SENTINEL].astype(np.float64)
        if len(measured):
            low, centre[index], high = np.percentile(measured, [16, 50, 84])
            scale[index] = (high - low) / 2 or measured.std() or 1.0
    count = features.shape[1]
    numbers = (centre, scale, np.full(count, limit), np.full(count, -limit))
    return NormStatistics(*(array.astype(np.float32) for array in numbers))


# --- judging an epoch ------------------------------------------------------------------------


class Quality(NamedTuple):
    """How one head did on the validation split, at the threshold 0.5."""

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
    logits = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a head that has diverged has no loss
        losses = np.logaddexp(0, np.where(targets, -logits, logits))
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


class Control(NamedTuple):
    """Where each of k heads stands.

    Attributes:
        learning_rate: at present.
        positive_weight: weight of a positive, in units of a negative's.
        best_loss: lowest validation loss so far.
        best_epoch: when that was; -1 before.
        best_rate: the learning rate at that time.
        since_best: epochs since then, in this round.
        since_cut: epochs since then, or since the learning rate last fell.
        stopped: True once a head trains no more.
    """

    learning_rate: Float64[np.ndarray, " k"]
    positive_weight: Float64[np.ndarray, " k"]
    best_loss: Float64[np.ndarray, " k"]
    best_epoch: Int64[np.ndarray, " k"]
    best_rate: Float64[np.ndarray, " k"]
    since_best: Int64[np.ndarray, " k"]
    since_cut: Int64[np.ndarray, " k"]
    stopped: Bool[np.ndarray, " k"]


def first_control(config: Config, ratios: Float[np.ndarray, " k"]) -> Control:
    """The control of heads that have not trained yet; `ratios` are negatives per positive."""
    count = len(config.heads)
    if config.class_weights == "fixed":
        weights = np.array([config.positive_weights[name] for name in config.heads])
    else:
        weights = ratios if config.class_weights == "frequency" else np.ones(count)
    rate = np.full(count, config.learning_rate)
    return Control(
        learning_rate=rate,
        positive_weight=weights.astype(np.float64),
        best_loss=np.full(count, np.inf),
        best_epoch=np.full(count, -1),
        best_rate=rate.copy(),
        since_best=np.zeros(count, np.int64),
        since_cut=np.zeros(count, np.int64),
        stopped=np.zeros(count, bool),
    )


def next_control(
    control: Control, config: Config, qualities: list[Quality], epoch: int, epochs_in_round: int
) -> tuple[Control, Bool[np.ndarray, " k"]]:
    """The control after an epoch, and which heads got better than ever.

    A loss that is not a number is no improvement.

    Args:
        control: before the epoch.
        config: patience and factors.
        qualities: one for each head; those of stopped heads are not looked at.
        epoch: number of the epoch.
        epochs_in_round: how many there were in this round, this one included.
    """
    active = ~control.stopped
    losses = np.array([quality.loss for quality in qualities])
    better = active & (losses < control.best_loss)
    since_best = np.where(better, 0, control.since_best + active)
    since_cut = np.where(better, 0, control.since_cut + active)
    stopped = control.stopped | (active & (since_best >= config.patience))
    stopped |= epochs_in_round >= config.max_epochs
    cut = active & ~stopped & (since_cut >= config.plateau_patience)
    excess = np.array([quality.precision - quality.recall for quality in qualities])
    weight = control.positive_weight
    if config.class_weights == "balanced":
        # too many missed positives make them weigh more
        adjusted = np.clip(weight * np.exp(excess), 1 / _LARGEST_RATIO, _LARGEST_RATIO)
        weight = np.where(active & np.isfinite(excess), adjusted, weight)
    rate = control.learning_rate
    control = Control(
        learning_rate=np.where(cut, rate * config.plateau_factor, rate),
        positive_weight=weight,
        best_loss=np.where(better, losses, control.best_loss),
        best_epoch=np.where(better, epoch, control.best_epoch),
        best_rate=np.where(better, rate, control.best_rate),
        since_best=since_best,
        since_cut=np.where(cut, 0, since_cut),
        stopped=stopped,
    )
    return control, better


def round_two_control(control: Control, more: Bool[np.ndarray, " k"]) -> Control:
    """The control at the start of round two: heads that got more data go on from their best."""
    return control._replace(
        learning_rate=control.best_rate.copy(),
        since_best=np.zeros_like(control.since_best),
        since_cut=np.zeros_like(control.since_cut),
        stopped=~more,
    )


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
    """Rows of dropped negatives that a head calls positives, at the threshold 0.5."""
    return dropped[logits[dropped] > 0]


def describe(control: Control, index: int) -> dict[str, Any]:
    """One head's control, JSON-ready."""
    return {
        "learning_rate": float(control.learning_rate[index]),
        "positive_weight": float(control.positive_weight[index]),
        "best_val_loss": float(control.best_loss[index]),
        "best_epoch": int(control.best_epoch[index]),
        "stopped": bool(control.stopped[index]),
    }
