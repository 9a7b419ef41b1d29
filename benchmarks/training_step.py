"""One training step of five heads, beside five Keras models in turn, or in one graph.

    python -m benchmarks.training_step --weights ../shared/data/acai_h5

A step is a batch of 32 alerts for each head, its own: dropout, binary cross-entropy, Adam with
AMSGrad. Ours are the programs that training runs. Needs the packages of the extra `bench`. Every
program starts from the published weights and is first checked to give our loss, without dropout, to
1e-5. The table counts alerts: five heads times 32 in a step. Results go to
benchmarks/results/training-step-<device>.json.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from acai_jax.classes import CLASSES
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.pretrained import load_published
from acai_jax.surveys.ztf import FEATURE_NAMES, STAMP_SIZE
from acai_jax.training.step import Batches, Data, Programs, Settings, head_key, start_state, take
from benchmarks import peers, timing

BATCH = 32
STEPS = 8  # of one head, before the next one's turn where they take turns
RATE = 3e-4
TOLERANCE = 1e-5


def random_batches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, triplets and targets of each head's batch, with a leading axis of five."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(CLASSES), BATCH, len(FEATURE_NAMES))).astype(np.float32)
    triplets = rng.normal(size=(len(CLASSES), BATCH, STAMP_SIZE, STAMP_SIZE, 3))
    triplets /= np.linalg.norm(triplets, axis=(2, 3), keepdims=True)
    targets = rng.integers(0, 2, (len(CLASSES), BATCH))
    return features, triplets.astype(np.float32), targets.astype(np.float32)


# Ours ------------------------------------------------------------------------------------------


class Ours:
    """Five heads in training; called, each of them takes `STEPS` steps on its own batch.

    Args:
        name: as the table shows it.
        weights: folder of the published heads.
        batches: of every head.
        together: all heads in one program; by default as training chooses.
    """

    def __init__(
        self, name: str, weights: Path, batches: Any, *, together: bool | None = None
    ) -> None:
        self.name = name
        self.programs = Programs(HeadConfig(), None, together=together)
        features, triplets, targets = batches
        count = len(CLASSES) * BATCH
        triplets = jax.device_put(triplets.reshape(count, *triplets.shape[2:]))
        # a head's alerts stand behind those of the one before
        own = np.tile(targets.reshape(count), (len(CLASSES), 1)).astype(bool)
        self.data = Data(jax.device_put(features.reshape(count, -1)), own, triplets)
        rows = np.arange(count, dtype=np.int32).reshape(len(CLASSES), 1, BATCH)
        self.batches = Batches(*[np.tile(rows, (1, STEPS, 1))] * 2)
        self.state = start_state(
            {key: np.asarray(a) for key, a in head_weights(load_published(weights).heads).items()}
        )
        self.losses = self.train(rate=0.0, dropout=0.0)

    def train(self, rate: float, dropout: float) -> np.ndarray:
        """Each head's mean loss in these steps."""
        count = len(CLASSES)
        settings = Settings(
            np.stack([head_key(0, name) for name in CLASSES]),
            np.zeros(count, np.int32),
            np.zeros(count, np.int32),
            np.full(count, rate, np.float32),
            np.ones((count, 2), np.float32),
            np.full((count, 2), dropout, np.float32),
        )
        if self.programs.together:
            axes: Any = Data(None, 0, None)  # type: ignore[arg-type]
            found = self.programs.train(self.state, settings, self.batches, self.data, axes)
            self.state, tally = found
            return np.asarray(tally.loss / tally.alerts)

        def train_one(head: int) -> Any:
            data = self.data._replace(targets=self.data.targets[head])
            state, settings_, batches = take((self.state, settings, self.batches), head)
            return self.programs.train(state, settings_, batches, data, None)

        found = self.programs.map_heads(train_one, range(count))
        self.state, tally = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
        return tally.loss / tally.alerts

    def __call__(self) -> None:
        """A few steps of every head."""
        self.train(RATE, 0.25)


# Peer ------------------------------------------------------------------------------------------


def keras_models(weights: Path) -> list[Any]:
    models = [peers.keras_model(arrays) for arrays in peers.read_published_weights(weights)]
    import keras

    for one in models:
        adam = keras.optimizers.Adam(RATE, amsgrad=True, epsilon=1e-7)
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
    models = keras_models(weights)
    usual = Ours("acai_jax", weights, batches)
    other = "one head after the other" if usual.programs.together else "one program for all heads"
    swapped = Ours(f"acai_jax, {other}", weights, batches, together=not usual.programs.together)
    with mock.patch("acai_jax.network.head.has_fast_form", return_value=False):
        plain = Ours("acai_jax, one program, plain form", weights, batches, together=True)
    by_keras = [
        float(one.test_on_batch([features, triplets], targets))
        for one, features, triplets, targets in zip(models, *batches, strict=True)
    ]
    found = {one.name: one.losses for one in (swapped, plain)}
    for name, losses in {**found, "Keras": np.array(by_keras)}.items():
        difference = float(np.abs(losses - usual.losses).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{name}: losses differ by {difference}")

    def by_turns() -> None:
        for one, features, triplets, targets in zip(models, *batches, strict=True):
            one.train_on_batch([features, triplets], targets)

    alerts = len(CLASSES) * BATCH
    for one in (usual, swapped, plain):
        yield timing.Program(one.name, one, alerts * STEPS)
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
