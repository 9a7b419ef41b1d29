"""The training loop: heads, programs, epochs, round two, result; it can be interrupted anywhere."""

import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from acai_jax.checkpoints import HEADS_FOLDER, load_heads, save_heads
from acai_jax.errors import TrainingError
from acai_jax.model import HeadBank
from acai_jax.processes import finishing

from . import protocol
from .config import Config
from .dropped import write_dropped
from .folder import claim_folder, own_folder
from .heads import Heads, load_init
from .input_pipeline import DatasetFacts, Split, dataset_facts, fits_in_memory, load_split
from .metrics import Display, Journal
from .state import writable
from .step import Batches, Data, HeadState, Programs, Tally, put, start_state, take

_JUDGED_AT_ONCE = (4, 64)  # batches, and alerts in each, where no gradient is needed


def train(
    config: Config,
    workdir: Path,
    *,
    console: Console | None = None,
    together: bool | None = None,
) -> HeadBank | None:
    """Trains heads; goes on where an earlier call in the same folder was interrupted.

    Args:
        config: what to do.
        workdir: folder of the run. The result is a checkpoint in its folder "heads"; labels of
            the negatives that a head was not trained on are in "dropped".
        console: where progress is shown; by default standard error.
        together: see `Programs`.

    Returns:
        The heads, with those of `config.init`; None where SIGTERM or Ctrl-C stopped the run, whose
        state is saved.

    Raises:
        DatasetError: the dataset cannot be trained on.
        CheckpointError: `config.init` does not fit, or a state cannot be written or read.
        OutputError: the folder belongs to another run, or to a process that is alive.
        TrainingError: a head's losses are no numbers.
    """
    with own_folder(workdir):
        facts = dataset_facts(config.dataset)
        init = load_init(config, facts)
        with Display(console or Console(stderr=True)) as display, finishing(display.say) as stop:
            if claim_folder(workdir, config, facts):
                display.say(f"{workdir / HEADS_FOLDER} is complete already")
                return load_heads(workdir)
            heads = Heads(config, facts, init, functools.partial(_load, config, facts, display))
            write_dropped(heads, workdir)
            run = _Run(heads, workdir / "state", display, stop, together)
            with Journal(workdir, config, run.state.epoch, run.state.round) as journal:
                try:
                    run.train(journal)
                except _InterruptedError:
                    display.say(f"interrupted: the same command goes on from {workdir}")
                    return None
            bank = heads.result(run.state)
            save_heads(bank, workdir / HEADS_FOLDER)
            display.say(f"{workdir / HEADS_FOLDER}: {', '.join(bank.classes)}")
            return bank


def _load(config: Config, facts: DatasetFacts, display: Display, split: str) -> Split:
    display.start(f"reading {split}, alerts", facts.records[split])
    resident = fits_in_memory(facts, config.memory_limit_gb)
    return load_split(config.dataset, split, resident=resident, progress=display.advance)


class _InterruptedError(Exception):
    """A stop was asked for; the state as it is can be saved and gone on from."""


class _Run:
    """The loop itself, over the heads' state."""

    def __init__(
        self,
        heads: Heads,
        folder: Path,
        display: Display,
        stop: threading.Event,
        together: bool | None,
    ) -> None:
        self.heads, self.config = heads, heads.config
        self.folder, self.display, self.stop = folder, display, stop
        config = heads.config
        self.programs = Programs(
            config.model, config.microbatch, precision=config.precision, together=together
        )
        self.state = heads.first_state()
        if self.state.restore(folder):
            display.say(f"going on in round {self.state.round}, epoch {self.state.epoch}")
        self._saved_at = time.monotonic()

    def train(self, journal: Journal) -> None:
        """Both rounds; whatever happens, the state is saved where it makes sense to go on."""
        state = self.state
        try:
            while state.round <= 2:
                if state.control.stopped.all():
                    self._end_round(journal)
                else:
                    self._epoch(journal)
                if self._save_is_due():
                    self._save()
        except _InterruptedError:
            self._save()
            raise
        self._save()

    # --- an epoch ----------------------------------------------------------------------------

    def _epoch(self, journal: Journal) -> None:
        """Trains, judges and reports an epoch."""
        state, started, alerts = self.state, time.monotonic(), self.state.alerts.sum()
        self._train_epoch()
        record = self._judge_epoch()
        seconds = time.monotonic() - started
        rate = float(state.alerts.sum() - alerts) / seconds
        record |= {"seconds": seconds, "alerts_per_second": rate}
        journal.write(record)
        self.display.epoch(record)
        state.epoch += 1
        for counter in (state.loss, state.alerts, state.step):
            counter[...] = 0

    def _train_epoch(self) -> None:
        """Every head that has not stopped sees each of its rows once."""
        state, plans = self.state, self.heads.plans(self.state)
        done = sum(min(int(step), len(plan)) for step, plan in zip(state.step, plans, strict=True))
        name = f"round {state.round}, epoch {state.epoch}, steps"
        self.display.start(name, sum(map(len, plans)), done)
        train = self._train_together if self.programs.together else self._train_in_turn
        while not train(plans):
            self._save()

    def _train_in_turn(self, plans: list[Int[np.ndarray, "_ b"]]) -> bool:
        """Trains the heads side by side, each in its own time; False to save before the rest."""
        heads, state = self.heads, self.state

        def train_one(head: int) -> bool:
            for batches, triplets in self._segments(plans[head], head):
                self._check_stop()
                data = Data(heads.training.features, heads.targets[head], triplets)
                settings = heads.settings(state, head)
                one = take(state.heads, head)
                found, tally = self.programs.train(one, settings, batches, data, None)
                self._take_over(head, found, tally, batches)
                if self._save_is_due():
                    return int(state.step[head]) >= len(plans[head])
            return True

        return all(self.programs.map_heads(train_one, range(len(plans))))

    def _train_together(self, plans: list[Int[np.ndarray, "_ b"]]) -> bool:
        """Trains all heads in one program; False to save before the rest."""
        state, training, heads = self.state, self.heads.training, range(len(plans))
        resident = training.triplets is not None
        axes: Any = Data(None, 0, None if resident else 0)  # type: ignore[arg-type]
        steps = max(map(len, plans))
        plans = [np.pad(p, ((0, steps - len(p)), (0, 0)), constant_values=-1) for p in plans]
        for parts in zip(*(self._segments(plans[head], head) for head in heads), strict=True):
            self._check_stop()
            batches = _stack([batches for batches, _ in parts])
            triplets = parts[0][1] if resident else np.stack([part for _, part in parts])
            data = Data(training.features, self.heads.targets, triplets)
            settings = _stack([self.heads.settings(state, head) for head in heads])
            found = self.programs.train(state.heads, settings, batches, data, axes)
            states, tally = jax.tree.map(np.asarray, found)
            for head in heads:
                self._take_over(head, take(states, head), take(tally, head), parts[head][0])
            if self._save_is_due():
                return int(state.step[0]) >= steps
        return True

    def _segments(self, plan: Int[np.ndarray, "s b"], head: int) -> Iterator[tuple[Batches, Any]]:
        left = plan[self.state.step[head] :]
        steps = self.config.segment_steps
        return self.heads.training.segments(left, steps) if len(left) else iter(())

    def _take_over(self, head: int, found: HeadState, tally: Tally, batches: Batches) -> None:
        put(self.state.heads, head, found)
        self.state.loss[head] += float(tally.loss)
        self.state.alerts[head] += int(tally.alerts)
        self.state.step[head] += len(batches.rows)
        self.display.advance(int((batches.rows >= 0).any(axis=1).sum()))

    # --- what comes of it --------------------------------------------------------------------

    def _judge_epoch(self) -> dict[str, Any]:
        """Scores the validation split; decides on learning rates, stopping and best weights."""
        heads, config, state = self.heads, self.config, self.state
        rows = np.arange(len(heads.validation.features))
        logits = self._logits(state.heads, heads.validation, rows, "validation alerts")
        parts = zip(logits, heads.validation_targets, heads.validation_weights, strict=True)
        qualities = [protocol.judge(*part) for part in parts]
        before, epochs = state.control, state.epoch + 1 - state.round_start
        state.control, better = protocol.next_control(
            before, config, qualities, state.epoch, epochs
        )
        for name, best in state.best.items():
            best[better] = state.heads.weights[name][better]
        record = {
            name: {
                "train_loss": float(state.loss[head] / state.alerts[head]),
                "val_loss": quality.loss,
                "precision": quality.precision,
                "recall": quality.recall,
                "balanced_accuracy": quality.balanced_accuracy,
                **protocol.describe(state.control, head),
                # those that the epoch was trained with
                "learning_rate": float(before.learning_rate[head]),
                "positive_weight": float(before.positive_weight[head]),
            }
            for head, (name, quality) in enumerate(zip(config.heads, qualities, strict=True))
            if not before.stopped[head]
        }
        return {"epoch": state.epoch, "round": state.round, "heads": record}

    def _end_round(self, journal: Journal) -> None:
        """After round one, looks for misclassified dropped negatives; restores the best weights."""
        state = self.state
        losses = zip(self.config.heads, state.control.best_loss, strict=True)
        if diverged := [name for name, loss in losses if not np.isfinite(loss)]:
            raise TrainingError(f"no validation loss of {diverged} was finite: lower learning_rate")
        best = writable(start_state({**state.best, **state.heads.norm}))
        more_to_come = state.round == 1 and self.config.round_two
        if more_to_come:
            self._add_misclassified(journal, best)
        state.heads = best
        if more_to_come:
            more = np.array([added.any() for added in state.added])
            state.control = protocol.round_two_control(state.control, more)
            state.round_start = state.epoch
            state.round = 3 if state.control.stopped.all() else 2
        else:
            state.round = 3

    def _add_misclassified(self, journal: Journal, best: HeadState) -> None:
        heads, state = self.heads, self.state
        dropped = [selection.dropped for selection in heads.selections]
        union = np.unique(np.concatenate(dropped))
        logits = np.full(heads.targets.shape, -np.inf, np.float32)
        logits[:, union] = self._logits(best, heads.training, union, "dropped negatives")
        record = {}
        for head, (name, rows) in enumerate(zip(self.config.heads, dropped, strict=True)):
            wrong = protocol.misclassified(logits[head], rows)
            state.added[head, wrong] = True
            record[name] = {"dropped": len(rows), "misclassified": len(wrong)}
            share = 100 * len(wrong) / max(1, len(rows))
            self.display.say(
                f"round two, {name}: {len(wrong):,} of {len(rows):,} dropped negatives "
                f"are misclassified ({share:.1f} %), and added"
            )
        journal.write({"epoch": state.epoch, "round": 1, "heads": record})

    def _logits(
        self, heads: HeadState, split: Split, rows: Int[np.ndarray, " m"], what: str
    ) -> Float[np.ndarray, "k m"]:
        """Logits of all heads for some rows of a split."""
        self.display.start(what, len(rows))
        steps, size = _JUDGED_AT_ONCE
        weights = {**heads.weights, **heads.norm}
        found = [np.empty((len(self.config.heads), 0), np.float32)]
        for batches, triplets in split.segments(protocol.fill_up(rows, size), steps):
            self._check_stop()
            found.append(self.programs.logits(weights, batches, split.features, triplets))
            self.display.advance(found[-1].shape[1])
        return np.concatenate(found, axis=1)

    # --- interruptions -----------------------------------------------------------------------

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise _InterruptedError

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds

    def _save(self) -> None:
        self.state.save(self.folder)
        self._saved_at = time.monotonic()


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
