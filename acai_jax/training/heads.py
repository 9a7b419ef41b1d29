"""The heads of a run: the data of each, its settings, where it starts and what becomes of it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from acai_jax.checkpoints import load_heads
from acai_jax.errors import CheckpointError
from acai_jax.model import HeadBank, abstract_heads, head_weights, with_weights
from acai_jax.training import protocol
from acai_jax.training.config import Config
from acai_jax.training.inputs import DatasetFacts, Split
from acai_jax.training.state import RunState, writable
from acai_jax.training.step import (
    Settings,
    Weights,
    head_key,
    put,
    start_state,
    start_weights,
    take,
)


class Heads:
    """What the k heads of a run are made from.

    Args:
        config: of the run.
        facts: of the dataset.
        init: the checkpoint to extend, if any.
        load: reads a split by its name.

    Raises:
        DatasetError: a head has no positives, or no negatives, in a split.
    """

    def __init__(
        self,
        config: Config,
        facts: DatasetFacts,
        init: HeadBank | None,
        load: Callable[[str], Split],
    ) -> None:
        self.config, self.facts, self.init = config, facts, init
        self.training, self.validation = load("train"), load("validation")
        self.targets = self._targets(self.training)
        self.validation_targets = self._targets(self.validation)
        for name, targets in zip(config.heads, self.validation_targets, strict=True):
            protocol.check_both_kinds(name, targets, "validation")
        self.selections = [
            protocol.select_rows(name, targets, config.balance, config.seed)
            for name, targets in zip(config.heads, self.targets, strict=True)
        ]
        self.validation_weights = [
            protocol.validation_weights(targets, config.balance)
            for targets in self.validation_targets
        ]
        self._keys = np.stack([head_key(config.seed, name) for name in config.heads])

    def _targets(self, split: Split) -> Bool[np.ndarray, "k n"]:
        config = self.config
        return np.stack([np.isin(split.labels, config.labels(name)) for name in config.heads])

    def first_state(self) -> RunState:
        """The state before the first step."""
        config = self.config
        weights = writable(start_weights(config.model, self._keys))
        norm = protocol.norm_statistics(np.asarray(self.training.features), config.feature_limit)
        for name, numbers in norm._asdict().items():
            weights[f"norm.{name}"][:] = numbers
        if self.init and config.warm_start:
            known = head_weights(self.init.heads)
            for head, name in enumerate(config.heads):
                if name in self.init.classes:
                    put(weights, head, take(known, self.init.classes.index(name)))
        heads = writable(start_state(weights))
        trained = np.array([selection.rows.size for selection in self.selections])
        positives = self.targets.sum(axis=1)
        zeros = np.zeros(len(config.heads), np.int64)
        return RunState(
            heads=heads,
            best=writable(heads.weights),
            control=protocol.first_control(config, (trained - positives) / positives),
            added=np.zeros(self.targets.shape, bool),
            loss=np.zeros(len(config.heads)),
            alerts=zeros.copy(),
            step=zeros.copy(),
        )

    def rows(self, state: RunState, head: int) -> Int[np.ndarray, " m"]:
        """The rows of the training split that a head trains on."""
        return np.union1d(self.selections[head].rows, np.flatnonzero(state.added[head]))

    def plans(self, state: RunState) -> list[Int[np.ndarray, "_ b"]]:
        """The batches of each head in this epoch; none for a head that has stopped."""
        config = self.config
        empty = np.empty((0, config.batch_size), np.int32)
        return [
            empty
            if state.control.stopped[head]
            else protocol.epoch_batches(
                name, self.rows(state, head), config.seed, state.epoch, config.batch_size
            )
            for head, name in enumerate(config.heads)
        ]

    def settings(self, state: RunState, head: int) -> Settings:
        """What decides the next steps of a head, beside the data."""
        config = self.config
        positives = int(self.targets[head].sum())
        rows = len(self.selections[head].rows) + int(state.added[head].sum())
        weights = protocol.class_weights(
            float(state.control.positive_weight[head]), positives, rows - positives
        )
        return Settings(
            self._keys[head],
            np.array(state.epoch, np.int32),
            np.array(state.step[head], np.int32),
            np.array(state.control.learning_rate[head], np.float32),
            weights,
            np.array([config.model.dense_dropout, config.model.conv_dropout], np.float32),
        )

    def result(self, state: RunState) -> HeadBank:
        """The best heads, in the place of those of `init` or after them."""
        config, init = self.config, self.init
        weights = {**state.best, **state.heads.norm}
        names = list(init.classes) if init else []
        provenance: dict[str, Any] = dict(init.provenance) if init else {}
        merged: Weights = {}
        if init:
            merged = {name: np.array(array) for name, array in head_weights(init.heads).items()}
        for head, name in enumerate(config.heads):
            one = take(weights, head)
            if name in names:
                put(merged, names.index(name), one)
            else:
                names.append(name)
                merged = {
                    key: np.concatenate([merged[key], array[None]]) if merged else array[None]
                    for key, array in one.items()
                }
            provenance[name] = self._provenance(state, head)
        heads = with_weights(abstract_heads(config.model, len(names)), merged)
        return HeadBank(heads, tuple(names), provenance, self.facts.preset)

    def _provenance(self, state: RunState, head: int) -> dict[str, Any]:
        config, version = self.config, metadata.version("acai_jax")
        what = json.dumps([config.as_json(), dataclasses.asdict(self.facts), version])
        return {
            "version": f"acai_jax_{version}_{hashlib.sha256(what.encode()).hexdigest()[:8]}",
            "positives": list(config.labels(config.heads[head])),
            "dataset": self.facts.name,
            "dataset_sha256": self.facts.digest,
            "seed": str(config.seed),
            "best_epoch": str(state.control.best_epoch[head]),
            "val_loss": f"{state.control.best_loss[head]:.6g}",
        }


def load_init(config: Config, facts: DatasetFacts) -> HeadBank | None:
    """The checkpoint to extend, if there is one.

    Raises:
        CheckpointError: its heads cannot share a bank with those to be trained.
    """
    if config.init is None:
        return None
    bank = load_heads(config.init)
    if bank.heads.config != config.model:
        raise CheckpointError(
            f"{config.init} holds heads of other hyperparameters: {bank.heads.config}"
        )
    if bank.preset != facts.preset:
        raise CheckpointError(
            f"{config.init} is for the preset {bank.preset}, the dataset for {facts.preset}"
        )
    return bank
