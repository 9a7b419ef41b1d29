"""The two-sample test: can anything tell real alerts from simulated ones, and by what?

Judges are trained on some objects and asked about others; 0.5 is the AUC of one that cannot tell.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from acai_jax.network.head import Head
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.separable import cpu_compiler_options
from acai_jax.surveys.ztf import FEATURE_NAMES
from benchmarks.samples import Sample

FOLDS = 5
_EPOCHS, _BATCH = 20, 32
_SHOWN = 6
_OPTIMIZER = optax.adam(2e-3)


def folds(truth: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) rows; no group is in both."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(truth)), truth, groups))


def joined(real: Sample, simulated: Sample) -> tuple[np.ndarray, np.ndarray]:
    """(truth, objects) of real alerts followed by simulated ones."""
    truth = np.repeat((1, 0), (len(real.objects), len(simulated.objects)))
    return truth, np.concatenate([real.objects, simulated.objects])


def trees(
    values: np.ndarray, truth: np.ndarray, groups: np.ndarray, *, importances: bool = False
) -> tuple[float, np.ndarray]:
    """Gradient-boosted trees: (AUC, how much it falls when each column is shuffled)."""
    scores, losses = np.zeros(len(truth)), []
    for train, test in folds(truth, groups):
        judge = HistGradientBoostingClassifier(
            max_iter=80 if values.shape[1] > 1 else 30,
            learning_rate=0.1,
            class_weight="balanced",
            random_state=0,
        )
        judge.fit(values[train], truth[train])
        scores[test] = judge.predict_proba(values[test])[:, 1]
        if importances:
            found = permutation_importance(
                judge,
                values[test],
                truth[test],
                scoring="roc_auc",
                n_repeats=3,
                random_state=0,
            )
            losses.append(found["importances_mean"])
    return float(roc_auc_score(truth, scores)), np.mean(losses, axis=0) if losses else np.zeros(0)


def image_scores(triplets: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The held-out scores of a small head that sees the images alone."""
    scores = np.zeros(len(truth))
    for train, test in folds(truth, groups):
        scores[test] = _train_head(triplets[train], truth[train])(triplets[test])
    return scores


def _train_head(triplets: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Scores of a head after a short training, with random flips."""
    weights = nnx.state(_head())
    state = _OPTIMIZER.init(weights)
    weight = np.where(truth == 1, 0.5 / truth.mean(), 0.5 / (1 - truth.mean())).astype(np.float32)
    rng = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        order = rng.permutation(len(truth))[: len(truth) // _BATCH * _BATCH]
        for rows in order.reshape(-1, _BATCH):
            images = triplets[rows]
            if rng.uniform() < 0.5:
                images = images[:, ::-1]
            if rng.uniform() < 0.5:
                images = images[:, :, ::-1]
            weights, state = _step(weights, state, images, truth[rows], weight[rows])

    def scores(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, range(_BATCH, len(images), _BATCH))
        return np.concatenate([np.asarray(_scores(weights, part)) for part in parts])

    return scores


def _head() -> Head:
    return Head(HeadConfig(), rngs=nnx.Rngs(0))


def _logits(weights: Any, images: Array) -> Array:
    head = nnx.merge(nnx.graphdef(nnx.eval_shape(_head)), weights)
    return head(jnp.zeros((len(images), len(FEATURE_NAMES))), images)


_scores = jax.jit(_logits, compiler_options=cpu_compiler_options())


@functools.partial(jax.jit, compiler_options=cpu_compiler_options())
def _step(weights: Any, state: Any, images: Array, targets: Array, weight: Array) -> Any:
    def loss(weights: Any) -> Array:
        found = optax.sigmoid_binary_cross_entropy(_logits(weights, images), targets)
        return (found * weight).mean()

    updates, state = _OPTIMIZER.update(jax.grad(loss)(weights), state)
    return optax.apply_updates(weights, updates), state


def picture(path: Path, real: Sample, simulated: Sample, scores: np.ndarray, title: str) -> None:
    """The triplets that a judge is surest of: real ones on the left, simulated on the right."""
    count = len(real.candids)
    orders = (real, np.argsort(-scores[:count])), (simulated, np.argsort(scores[count:]))
    surest = [_one_of_each_object(sample, order)[:_SHOWN] for sample, order in orders]
    figure, axes = plt.subplots(_SHOWN, 7, figsize=(11, 1.6 * _SHOWN), layout="constrained")
    for row, pair in enumerate(zip(*surest, strict=True)):
        axes[row, 3].axis("off")
        for side, (sample, index) in enumerate(zip((real, simulated), pair, strict=True)):
            name = sample.kinds[index] if len(sample.kinds) else str(sample.objects[index])
            for channel in range(3):
                axis = axes[row, 4 * side + channel]
                image = sample.triplets[index, :, :, channel]
                low, high = np.percentile(image, (1, 99.5))
                axis.imshow(image, cmap="bone", vmin=low, vmax=high, origin="lower")
                axis.set(xticks=[], yticks=[])
            axes[row, 4 * side + 1].set_title(name, fontsize=7)
    figure.suptitle(f"{title}: surest real (left) and surest simulated (right)")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _one_of_each_object(sample: Sample, order: np.ndarray) -> list[int]:
    """The first row of each object in this order."""
    first: dict[object, int] = {}
    for row in order.tolist():
        first.setdefault(sample.objects[row], row)
    return list(first.values())
