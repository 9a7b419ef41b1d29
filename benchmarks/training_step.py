"""One training step of five heads, beside five Keras models in turn, or in one graph.

    python -m benchmarks.training_step --weights ../shared/data/acai_h5

A step is a batch of 32 alerts for each head, its own: dropout, binary cross-entropy, Adam with
AMSGrad. Needs the packages of the extra `bench`. Every program starts from the published weights
and is first checked to give our loss, without dropout, to 1e-5. The table counts alerts: five
heads times 32 in a step. Results go to benchmarks/results/training-step-<device>.json.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import loky
import numpy as np
import optax
from flax import nnx

from acai_jax import model
from acai_jax.pretrained import load_published
from acai_jax.schema import CLASSES, FEATURE_NAMES, STAMP_SIZE
from acai_jax.separable import cpu_compiler_options
from benchmarks import peers, timing

BATCH = 32
TOLERANCE = 1e-5
OPTIMIZER = optax.amsgrad(3e-4, eps=1e-7)  # as the published models were trained
_THREAD_STEPS = 8  # steps of one head that a thread takes before the next head


def random_batches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, triplets and targets of each head's batch, with a leading axis of five."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(CLASSES), BATCH, len(FEATURE_NAMES))).astype(np.float32)
    triplets = rng.normal(size=(len(CLASSES), BATCH, STAMP_SIZE, STAMP_SIZE, 3))
    triplets /= np.linalg.norm(triplets, axis=(2, 3), keepdims=True)
    targets = rng.integers(0, 2, (len(CLASSES), BATCH))
    return features, triplets.astype(np.float32), targets.astype(np.float32)


# Ours ------------------------------------------------------------------------------------------


def head_loss(head: model.Head, features: Any, triplets: Any, targets: Any, key: Any) -> Any:
    logits = nnx.view(head, deterministic=key is None)(features, triplets, key=key)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean()


def train_step(head: model.Head, state: Any, batch: Any, key: Any) -> tuple[Any, Any, Any]:
    """One step of one head."""
    loss, gradients = jax.value_and_grad(head_loss)(head, *batch, key)
    updates, state = OPTIMIZER.update(gradients, state, head)
    return optax.apply_updates(head, updates), state, loss


class OneProgram:
    """All heads in one compiled program; called, it trains them for a step.

    Args:
        over_heads: `jax.vmap`, or one head after the other.
        heads: to start from.
        batches: of every head.
    """

    def __init__(self, name: str, over_heads: Callable[..., Any], heads: Any, batches: Any) -> None:
        self.name, self.batches = name, batches
        self.keys = jax.random.split(jax.random.key(0), len(CLASSES))
        self.carried = heads, jax.vmap(OPTIMIZER.init)(heads)
        arguments = (*self.carried, self.batches, self.keys)
        self.step = compiled(over_heads(train_step), arguments, name)

    def __call__(self) -> None:
        """One step of every head."""
        *self.carried, losses = self.step(*self.carried, self.batches, self.keys)
        losses.block_until_ready()


class ThreadEachCore:
    """A compiled program for one head, and a thread for each core that takes the next head."""

    def __init__(self, name: str, heads: Any, batches: Any) -> None:
        self.name = name
        self.pool = ThreadPoolExecutor(loky.cpu_count())
        everything = (heads, jax.vmap(OPTIMIZER.init)(heads), batches)
        taken = [jax.tree.map(lambda leaf: leaf[head], everything) for head in range(len(CLASSES))]  # noqa: B023
        self.carried = [one[:2] for one in taken]
        self.batches = [one[2] for one in taken]
        self.keys = jax.random.split(jax.random.key(0), len(CLASSES))
        self.step = compiled(train_step, (*taken[0], self.keys[0]), name)

    def train(self, head: int) -> None:
        """A few steps of one head."""
        for _ in range(_THREAD_STEPS):
            arguments = (*self.carried[head], self.batches[head], self.keys[head])
            *self.carried[head], loss = self.step(*arguments)
        loss.block_until_ready()

    def __call__(self) -> None:
        """A few steps of every head."""
        list(self.pool.map(self.train, range(len(CLASSES))))


def one_after_the_other(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def compiled(function: Callable[..., Any], arguments: Any, name: str) -> Callable[..., Any]:
    start = time.perf_counter()
    options = cpu_compiler_options()
    program = jax.jit(function, compiler_options=options).lower(*arguments).compile()
    megabytes = program.memory_analysis().temp_size_in_bytes / 1e6
    seconds = time.perf_counter() - start
    print(f"{name}: compiled in {seconds:.1f} s, {megabytes:.0f} MB of temporary memory")
    return program


# Peer ------------------------------------------------------------------------------------------


def keras_models(weights: Path) -> list[Any]:
    models = [peers.keras_model(arrays) for arrays in peers.read_published_weights(weights)]
    import keras

    for one in models:
        adam = keras.optimizers.Adam(3e-4, amsgrad=True, epsilon=1e-7)
        one.compile(optimizer=adam, loss="binary_crossentropy")
    return models


class OneGraph:
    """The step of every Keras model, traced into one `tf.function`."""

    name = "TensorFlow, 5 Keras models in one graph"

    def __init__(self, models: list[Any], batches: Any) -> None:
        import tensorflow as tf

        for one in models:
            one.optimizer.build(one.trainable_variables)
        entropy = tf.keras.losses.BinaryCrossentropy()

        @tf.function
        def step(features: Any, triplets: Any, targets: Any) -> None:
            for head, one in enumerate(models):
                with tf.GradientTape() as tape:
                    scores = one([features[head], triplets[head]], training=True)
                    loss = entropy(targets[head][:, None], scores)
                gradients = tape.gradient(loss, one.trainable_variables)
                one.optimizer.apply_gradients(zip(gradients, one.trainable_variables, strict=True))

        self.step = step
        self.batches = [tf.constant(each) for each in batches]

    def __call__(self) -> None:
        """One step of every head."""
        self.step(*self.batches)


def programs(weights: Path) -> Iterator[timing.Program]:
    """Ours first.

    Raises:
        ValueError: a program's loss is not ours.
    """
    batches = random_batches()
    arrays = jax.tree.map(jnp.asarray, batches)
    heads = load_published(weights).heads
    models = keras_models(weights)
    with mock.patch.object(model, "_has_fast_form", return_value=False):
        plain = OneProgram("acai_jax, plain form", jax.vmap, heads, arrays)
        expected = jax.jit(jax.vmap(functools.partial(head_loss, key=None)))(heads, *arrays)
    fast = jax.jit(one_after_the_other(functools.partial(head_loss, key=None)))(heads, *arrays)
    by_keras = [
        float(one.test_on_batch([features, triplets], targets))
        for one, features, triplets, targets in zip(models, *batches, strict=True)
    ]
    for name, found in (("fast form", fast), ("Keras", by_keras)):
        difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{name}: losses differ by {difference}")

    def by_turns() -> None:
        for one, features, triplets, targets in zip(models, *batches, strict=True):
            one.train_on_batch([features, triplets], targets)

    alerts = len(CLASSES) * BATCH
    threads = ThreadEachCore("acai_jax, a thread for each core", heads, arrays)
    yield timing.Program(threads.name, threads, alerts * _THREAD_STEPS)
    single = OneProgram("acai_jax, one program", one_after_the_other, heads, arrays)
    yield timing.Program(single.name, single, alerts)
    yield timing.Program(plain.name, plain, alerts)
    yield timing.Program("Keras, 5 train_on_batch", by_turns, alerts)
    graph = OneGraph(keras_models(weights), batches)
    yield timing.Program(graph.name, graph, alerts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Alerts trained per second, beside Keras.")
    parser.add_argument(
        "--weights", type=Path, default=timing.DATA / "acai_h5", help="folder of the .h5 files"
    )
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    group = (f"a step of five heads, {BATCH} alerts each", list(programs(arguments.weights)))
    timing.compare("training-step", [group], arguments.rounds)


if __name__ == "__main__":
    main()
