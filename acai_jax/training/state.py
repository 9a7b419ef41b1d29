"""The state of a run: everything that decides how it goes on, to and from disk."""

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt32

from acai_jax.errors import CheckpointError
from acai_jax.network.bank import HeadBank
from acai_jax.network.checkpoints import load_state, save_state
from acai_jax.network.head import head_weights
from acai_jax.surveys.base import Inputs
from acai_jax.training.config import Config
from acai_jax.training.members import Member
from acai_jax.training.protocol import Task, first_control, norm_statistics
from acai_jax.training.step import HeadState, Weights, put, stack, start_state, start_weights, take

_KEPT = 2  # states on disk: should the newest be damaged, there is one before it


@dataclasses.dataclass
class RunState:
    """Where a run stands; NumPy arrays with the k members along the first axis.

    Attributes:
        heads: weights and optimizers.
        best: weights at the lowest validation loss so far.
        control: learning rates, patience, class weights; a `Control` of arrays.
        added: dropped negatives that round two trains on.
        loss: summed over the epoch so far.
        alerts: that it is summed over.
        step: of the epoch, the next one of each member.
        epoch: the present one, counted from 0 through both rounds.
        round: 1 or 2; 3 once the heads are final.
        round_start: the round's first epoch.
    """

    heads: HeadState
    best: Weights
    control: Any
    added: Bool[np.ndarray, "k n"]
    loss: Float64[np.ndarray, " k"]
    alerts: Int64[np.ndarray, " k"]
    step: Int64[np.ndarray, " k"]
    epoch: int = 0
    round: int = 1
    round_start: int = 0

    def only(self, places: list[int]) -> "RunState":
        """The state of some of the members."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts = {name: value for name, value in fields.items() if isinstance(value, int)}
        trees = {name: value for name, value in fields.items() if name not in facts}
        return RunState(**facts, **jax.tree.map(lambda leaf: leaf[places], trees))

    def save(self, folder: Path) -> None:
        """Adds this state to those in a folder; keeps the last two.

        Raises:
            CheckpointError: it cannot be written; those before it are intact.
        """
        path = folder / f"{_newest_number(folder) + 1:06d}"
        arrays, facts = self._as_parts()
        try:
            save_state(path, arrays, facts)
        except CheckpointError:
            _remove_unfinished(folder)
            raise
        for number, old in _numbered(folder)[:-_KEPT]:
            del number
            shutil.rmtree(old)

    def restore(self, folder: Path) -> bool:
        """Takes over the newest state that can be read; False where there is none.

        Raises:
            CheckpointError: there are states, and all of them are damaged or of another run.
        """
        _remove_unfinished(folder)
        problem: CheckpointError | None = None
        for _, path in reversed(_numbered(folder)):
            try:
                arrays, facts = load_state(path)
                self._take_over(arrays, facts, path)
                return True
            except CheckpointError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return False

    def _as_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        facts = {name: value for name, value in fields.items() if isinstance(value, int)}
        trees = {name: value for name, value in fields.items() if name not in facts}
        leaves = jax.tree_util.tree_leaves_with_path(trees)
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}, facts

    def _take_over(self, arrays: dict[str, np.ndarray], facts: dict[str, Any], path: Path) -> None:
        own, own_facts = self._as_parts()
        shapes = {name: (array.shape, array.dtype) for name, array in own.items()}
        found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if shapes != found or own_facts.keys() != facts.keys():
            raise CheckpointError(f"checkpoint at {path}: the state of another run")
        for name, array in own.items():
            array[...] = arrays[name]  # in place: the trees keep their structure
        for name, value in facts.items():
            setattr(self, name, value)


def first_state(
    config: Config,
    members: Sequence[Member],
    tasks: Sequence[Task],
    keys: UInt32[np.ndarray, "k 2"],
    features: Float32[np.ndarray, "n f"],
    inputs: Inputs,
    init: HeadBank | None,
) -> RunState:
    """The state before the first step; a warm start takes weights and norms from `init`."""
    weights = writable(start_weights(config.model, keys, inputs))
    norm = norm_statistics(features, config.feature_limit, inputs.sentinel)
    for name, numbers in norm.items():
        weights[f"norm.{name}"][:] = numbers
    if init and config.warm_start:
        known = head_weights(init.heads)
        for index, member in enumerate(members):
            if member.head in init.classes:
                place = init.places(member.head)[index % config.members]
                put(weights, index, take(known, place))
    for index, member in enumerate(members):
        hidden = [inputs.features.index(name) for name in member.without]
        for end in ("limit", "sentinel"):  # whatever the feature is, the head sees 0
            weights[f"norm.{end}"][index, hidden] = 0
    heads = writable(start_state(weights))
    zeros = np.zeros(len(members), np.int64)
    return RunState(
        heads=heads,
        best=writable(heads.weights),
        control=stack([first_control(*each) for each in zip(members, tasks, strict=True)]),
        added=np.zeros((len(members), len(tasks[0].targets)), bool),
        loss=np.zeros(len(members)),
        alerts=zeros.copy(),
        step=zeros.copy(),
    )


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    return sorted((int(path.name), path) for path in folder.iterdir() if path.name.isdigit())


def _newest_number(folder: Path) -> int:
    return max((number for number, _ in _numbered(folder)), default=0)


def _remove_unfinished(folder: Path) -> None:
    """Removes what a killed or failed save left: Orbax gives a state its name at the end."""
    if folder.is_dir():
        for path in folder.iterdir():
            if not path.name.isdigit():
                with contextlib.suppress(OSError):
                    shutil.rmtree(path)


def writable(tree: Any) -> Any:
    """A copy of a tree of arrays, as NumPy arrays that can be changed in place."""
    return jax.tree.map(np.array, tree)
