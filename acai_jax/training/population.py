"""Members of one structure that train together: an epoch, its judgement, the end of a round.

A member comes out the same whichever members are beside it.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt32

from acai_jax.errors import TrainingError
from acai_jax.network.bank import HeadBank
from acai_jax.surveys.base import Inputs
from acai_jax.training import protocol
from acai_jax.training.config import Config
from acai_jax.training.inputs import DatasetFacts, Split, checked_split, fits_in_memory
from acai_jax.training.members import Member
from acai_jax.training.progress import Display
from acai_jax.training.state import RunState, first_state, writable
from acai_jax.training.step import (
    Batches,
    Data,
    HeadState,
    Programs,
    Settings,
    Tally,
    Weights,
    everywhere,
    head_key,
    put,
    stack,
    start_state,
    take,
)

_JUDGED_AT_ONCE = (4, 64)  # batches, and alerts in each, where no gradient is needed


class InterruptedRunError(Exception):
    """A stop was asked for; the state as it is can be saved and gone on from."""


@dataclasses.dataclass
class Population:
    """Members of one structure, and where they stand; use `population_of` to make one.

    Attributes:
        config: what the members have in common.
        members: what each has of its own.
        tasks: what each learns.
        keys: of their random numbers.
        training: the split that they train on.
        validation: the split that judges them.
        programs: of their structure.
        state: where they stand.
        folder: of the states on disk.
        display: where progress is shown.
        stop: set where the run is to end early.
        saved_at: when the state was last saved [s].
    """

    config: Config
    members: Sequence[Member]
    tasks: Sequence[protocol.Task]
    keys: UInt32[np.ndarray, "k 2"]
    training: Split
    validation: Split
    programs: Programs
    state: RunState
    folder: Path
    display: Display
    stop: threading.Event
    saved_at: float = dataclasses.field(default_factory=time.monotonic)

    def only(self, places: Sequence[int], folder: Path) -> "Population":
        """Some of the members, as they stand; their states are saved to another folder."""
        chosen = list(places)
        return dataclasses.replace(
            self,
            members=[self.members[place] for place in chosen],
            tasks=[self.tasks[place] for place in chosen],
            keys=self.keys[chosen],
            state=self.state.only(chosen),
            folder=folder,
            saved_at=time.monotonic(),
        )

    # --- an epoch ----------------------------------------------------------------------------

    def epoch(self) -> dict[str, Any]:
        """Trains and judges an epoch; returns the record of it."""
        state, started, alerts = self.state, time.monotonic(), self.state.alerts.sum()
        self._train_epoch()
        record = self._judge_epoch()
        seconds = time.monotonic() - started
        rate = float(state.alerts.sum() - alerts) / seconds
        state.epoch += 1
        for counter in (state.loss, state.alerts, state.step):
            counter[...] = 0
        return record | {"seconds": seconds, "alerts_per_second": rate}

    def _train_epoch(self) -> None:
        """Every member that has not stopped sees each of its rows once."""
        state, size = self.state, self.config.batch_size
        plans = [np.empty((0, size), np.int32)] * len(self.members)
        for index in self._training():
            rows = np.union1d(self.tasks[index].rows, np.flatnonzero(state.added[index]))
            plans[index] = protocol.epoch_batches(self.members[index], rows, state.epoch, size)
        done = sum(min(int(step), len(plan)) for step, plan in zip(state.step, plans, strict=True))
        name = f"round {state.round}, epoch {state.epoch}, steps"
        self.display.start(name, sum(map(len, plans)), done)
        train = self._train_together if self.programs.together else self._train_in_turn
        while not train(plans):
            self.save()

    def _training(self) -> list[int]:
        """The members that have not stopped."""
        return np.flatnonzero(~self.state.control.stopped).tolist()

    def _train_in_turn(self, plans: Sequence[Int[np.ndarray, "_ b"]]) -> bool:
        """Trains members side by side, each in its own time; False to save before the rest."""

        def train_one(index: int) -> bool:
            for batches, triplets in self._segments(plans[index], index):
                self._check_stop()
                data = Data(self.training.features, self.tasks[index].targets, triplets)
                one, settings = take(self.state.heads, index), self._settings(index)
                found, tally = self.programs.train(one, settings, batches, data, None)
                self._take_over(index, found, tally, batches)
                if self.save_is_due():
                    return int(self.state.step[index]) >= len(plans[index])
            return True

        return all(self.programs.map_heads(train_one, range(len(plans))))

    def _train_together(self, plans: Sequence[Int[np.ndarray, "_ b"]]) -> bool:
        """Trains all members in one program; False to save before the rest.

        Those that have stopped, or have seen all their rows, drop out of it.
        """
        resident = self.training.triplets is not None
        axes: Any = Data(None, 0, None if resident else 0)  # type: ignore[arg-type]
        segments = list(map(self._segments, plans, range(len(plans))))
        while left := [i for i, plan in enumerate(plans) if self.state.step[i] < len(plan)]:
            self._check_stop()
            parts = {index: next(segments[index]) for index in left}
            taken = _filled_up(left, len(plans))
            data = Data(
                self.training.features,
                np.stack([self.tasks[index].targets for index in taken]),
                parts[left[0]][1] if resident else np.stack([parts[i][1] for i in taken]),
            )
            found = self.programs.train(
                stack([take(self.state.heads, index) for index in taken]),
                stack([self._settings(index) for index in taken]),
                stack([parts[index][0] for index in taken]),
                data,
                axes,
            )
            for place, index in enumerate(left):
                one, tally = take(found, place)
                self._take_over(index, one, tally, parts[index][0])
            if self.save_is_due():
                return False
        return True

    def _segments(self, plan: Int[np.ndarray, "s b"], index: int) -> Iterator[tuple[Batches, Any]]:
        left = plan[self.state.step[index] :]
        return self.training.segments(left, self.config.segment_steps) if len(left) else iter(())

    def _settings(self, index: int) -> Settings:
        """What decides the next steps of a member, beside the data."""
        state, task = self.state, self.tasks[index]
        control = take(state.control, index)
        positives = int(task.targets[task.rows].sum())
        negatives = len(task.rows) + int(state.added[index].sum()) - positives
        return Settings(
            self.keys[index],
            np.array(state.epoch, np.int32),
            np.array(state.step[index], np.int32),
            np.array(control.learning_rate, np.float32),
            protocol.class_weights(float(control.positive_weight), positives, negatives),
            np.array(self.members[index].dropout, np.float32),
        )

    def _take_over(self, index: int, found: HeadState, tally: Tally, batches: Batches) -> None:
        put(self.state.heads, index, found)
        self.state.loss[index] += float(tally.loss)
        self.state.alerts[index] += int(tally.alerts)
        self.state.step[index] += len(batches.rows)
        self.display.advance(int((batches.rows >= 0).any(axis=1).sum()))

    def _judge_epoch(self) -> dict[str, Any]:
        """Scores the validation split; decides on learning rates, stopping and best weights."""
        state, heads = self.state, {}
        rows = np.arange(len(self.validation.features))
        weights = {**state.heads.weights, **state.heads.norm}
        logits = self.logits(weights, self.validation, rows, "validation alerts")
        for index in self._training():
            member, task = self.members[index], self.tasks[index]
            quality = protocol.judge(
                logits[index], task.validation_targets, task.validation_weights
            )
            before = take(state.control, index)
            epochs = state.epoch + 1 - state.round_start
            control = protocol.next_control(before, member, quality, state.epoch, epochs)
            put(state.control, index, control)
            if control.best_epoch == state.epoch:
                put(state.best, index, take(state.heads.weights, index))
            heads[member.name] = {
                "train_loss": float(state.loss[index] / state.alerts[index]),
                "val_loss": quality.loss,
                "precision": quality.precision,
                "recall": quality.recall,
                "balanced_accuracy": quality.balanced_accuracy,
                # those that the epoch was trained with
                "learning_rate": float(before.learning_rate),
                "positive_weight": float(before.positive_weight),
                "best_val_loss": float(control.best_loss),
                "best_epoch": int(control.best_epoch),
                "stopped": bool(control.stopped),
            }
        return {"epoch": state.epoch, "round": state.round, "heads": heads}

    # --- the end of a round ------------------------------------------------------------------

    def restore_best(self) -> None:
        """Every member gets back the weights of its best epoch, and a new optimizer."""
        losses = zip(self.members, self.state.control.best_loss, strict=True)
        if diverged := [member.name for member, loss in losses if not np.isfinite(loss)]:
            raise TrainingError(f"no validation loss of {diverged} was finite: lower learning_rate")
        self.state.heads = writable(start_state({**self.state.best, **self.state.heads.norm}))

    def add_misclassified(self) -> dict[str, Any]:
        """Gives members the dropped negatives that they get wrong; returns the record of it."""
        state, heads = self.state, {}
        union = np.unique(np.concatenate([task.dropped for task in self.tasks]))
        logits = np.full(state.added.shape, -np.inf, np.float32)
        weights = {**state.heads.weights, **state.heads.norm}
        logits[:, union] = self.logits(weights, self.training, union, "dropped negatives")
        for index, (member, task) in enumerate(zip(self.members, self.tasks, strict=True)):
            wrong = protocol.misclassified(logits[index], task.dropped)
            state.added[index, wrong] = True
            heads[member.name] = {"dropped": len(task.dropped), "misclassified": len(wrong)}
            share = 100 * len(wrong) / max(1, len(task.dropped))
            self.display.say(
                f"round two, {member.name}: {len(wrong):,} of {len(task.dropped):,} dropped "
                f"negatives are misclassified ({share:.1f} %), and added"
            )
        return {"epoch": state.epoch, "round": 1, "heads": heads}

    def begin_next_round(self) -> None:
        """Round two trains the members that were given more; round three is the end."""
        state = self.state
        if state.round == 1:
            for index, added in enumerate(state.added):
                control = protocol.round_two_control(
                    take(state.control, index), more=bool(added.any())
                )
                put(state.control, index, control)
        state.round_start = state.epoch
        state.round = 3 if state.control.stopped.all() else 2

    # --- what both need ----------------------------------------------------------------------

    def best_logits(
        self, split: Split, rows: Int[np.ndarray, " m"], what: str
    ) -> Float[np.ndarray, "k m"]:
        """Logits of all members, as they were in their best epochs."""
        return self.logits({**self.state.best, **self.state.heads.norm}, split, rows, what)

    def logits(
        self, weights: Weights, split: Split, rows: Int[np.ndarray, " m"], what: str
    ) -> Float[np.ndarray, "k m"]:
        """Logits of all members for some rows of a split."""
        self.display.start(what, len(rows))
        steps, size = _JUDGED_AT_ONCE
        found = [np.empty((len(self.members), 0), np.float32)]
        for batches, triplets in split.segments(protocol.fill_up(rows, size), steps):
            self._check_stop()
            found.append(self.programs.logits(weights, batches, split.features, triplets))
            self.display.advance(found[-1].shape[1])
        return np.concatenate(found, axis=1)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise InterruptedRunError

    def save_is_due(self) -> bool:
        """Whether the last state was saved a while ago."""
        return time.monotonic() - self.saved_at >= self.config.checkpoint_seconds

    def save(self) -> None:
        """Adds the state to those on disk."""
        self.state.save(self.folder)
        self.saved_at = time.monotonic()


def _filled_up(places: list[int], count: int) -> list[int]:
    """The places, the last one repeated until they are all, a half, a quarter, ... of `count`.

    A program is compiled for each of these sizes, and for no other.
    """
    size = count
    while len(places) <= size // 2:
        size //= 2
    return places + places[-1:] * (size - len(places))


def read_splits(
    config: Config, facts: DatasetFacts, display: Display, *, together: bool | None = None
) -> tuple[Split, Split]:
    """The splits for training and validation; for `together`, see `Programs`.

    Raises:
        DatasetError: a number in them is not finite.
    """

    def read(split: str) -> Split:
        display.start(f"reading {split}, alerts", facts.records[split])
        return checked_split(
            config.dataset,
            split,
            resident=fits_in_memory(facts, config.memory_limit_gb),
            progress=display.advance,
            sharding=everywhere(together),
        )

    return read("train"), read("validation")


kept_programs = functools.lru_cache(maxsize=32)(Programs)
"""`Programs`, made and compiled once in a process."""


def programs_of(config: Config, inputs: Inputs, *, together: bool | None = None) -> Programs:
    """The programs of the configuration's structure, those of an earlier run if it had the same."""
    return kept_programs(
        config.model,
        config.microbatch,
        inputs=inputs,
        precision=config.precision,
        augment=config.augment,
        together=together,
    )


def population_of(
    config: Config,
    members: Sequence[Member],
    training: Split,
    validation: Split,
    programs: Programs,
    inputs: Inputs,
    folder: Path,
    display: Display,
    stop: threading.Event,
    init: HeadBank | None = None,
) -> Population:
    """A population before its first step; `folder` is left alone until it is saved.

    Raises:
        DatasetError: a member finds no positives, or no negatives.
    """
    labels = (training.labels, validation.labels, training.objects)
    tasks = [protocol.task_of(member, *labels) for member in members]
    keys = np.stack([head_key(member.seed, member.head) for member in members])
    features = np.asarray(training.features)
    state = first_state(config, members, tasks, keys, features, inputs, init)
    return Population(
        *(config, members, tasks, keys, training, validation),
        *(programs, state, folder, display, stop),
    )
