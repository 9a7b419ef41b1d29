"""A round of a sweep: all its trials train, and at each rung the better ones go on.

The trials of one structure are one population. What a trial comes to depends on no other; whether
it goes on does, so all trials reach a rung before any goes on.
"""

import dataclasses
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from acai_jax.network.head_config import HeadConfig
from acai_jax.surveys.base import Inputs
from acai_jax.sweep.choice import Curves
from acai_jax.sweep.search import Search, config_of, structure_of
from acai_jax.sweep.trials import Result, Trial, TrialLog
from acai_jax.training import protocol
from acai_jax.training.config import Config
from acai_jax.training.inputs import Split
from acai_jax.training.members import members_of
from acai_jax.training.population import Population, population_of, programs_of
from acai_jax.training.progress import Display, Journal


def survivors(search: Search, trials: Sequence[Trial], rung: int) -> list[Trial]:
    """The trials of a round that reach a rung, by the results of the rungs before it.

    The lowest loss goes on; of equal ones, the trial that was asked for first. A loss that is no
    number never does.

    Example:
        >>> results = [Result(0, 3, {"h": loss}) for loss in (0.3, 0.1, 0.2)]
        >>> trials = [Trial(number, 0, {}, (each,)) for number, each in enumerate(results)]
        >>> [trial.number for trial in survivors(Search(keep=2), trials, rung=1)]
        [1, 2]
    """
    alive = list(trials)
    for before in range(rung):
        ranked = sorted(alive, key=lambda trial: (trial.results[before].loss, trial.number))
        ranked = ranked[: search.kept(len(alive))]
        alive = [trial for trial in ranked if math.isfinite(trial.results[before].loss)]
    return sorted(alive, key=lambda trial: trial.number)


@dataclasses.dataclass
class Round:
    """One round, and what it works with.

    Attributes:
        config: what all trials have in common.
        search: how the sweep goes.
        log: of the trials.
        number: of the round.
        training: the split that trials train on.
        validation: the split that judges them.
        inputs: what heads read.
        folder: of this round.
        display: where progress is shown.
        stop: set where the sweep is to end early.
        together: see `Programs`.
    """

    config: Config
    search: Search
    log: TrialLog
    number: int
    training: Split
    validation: Split
    inputs: Inputs
    folder: Path
    display: Display
    stop: threading.Event
    together: bool | None = None

    def run(self, report: Callable[[], None]) -> None:
        """Trains all rungs that have no results yet.

        Args:
            report: called after each of them.

        Raises:
            InterruptedRunError: a stop was asked for; all states are saved.
        """
        rungs = self.search.rungs(self.config.max_epochs)
        groups = self._groups()
        for rung, epochs in enumerate(rungs):
            alive = {trial.number: trial for trial in self._alive(rung)}
            if all(len(trial.results) > rung for trial in alive.values()):
                continue
            results: dict[int, Result] = {}
            for place, group in enumerate(groups):
                if chosen := [number for number in group.numbers if number in alive]:
                    self.display.whole(
                        f"sweep, round {self.number + 1} of {self._rounds}, rung {rung + 1} of "
                        f"{len(rungs)}, structures",
                        *(len(groups), place),
                    )
                    results |= self._train(group, chosen, rung, epochs, last=epochs == rungs[-1])
            self.log.reach({number: results[number] for number in sorted(results)})
            report()
            for states in self.folder.glob(f"*/rung-{rung - 1}"):
                shutil.rmtree(states)
        for states in self.folder.glob("*/rung-*"):
            shutil.rmtree(states)

    @property
    def _rounds(self) -> int:
        return 1 if self.search.grid else self.search.rounds

    def _alive(self, rung: int) -> list[Trial]:
        return survivors(self.search, self.log.of_round(self.number), rung)

    def _groups(self) -> list["_Group"]:
        """The trials of the round that are one population each."""
        by_structure: dict[HeadConfig, list[int]] = {}
        for trial in self.log.of_round(self.number):
            structure = structure_of(config_of(self.config, trial.settings))
            by_structure.setdefault(structure, []).append(trial.number)
        size = self.search.at_once
        pieces = [
            (structure, numbers[start : start + size])
            for structure, numbers in by_structure.items()
            for start in range(0, len(numbers), size)
        ]
        return [
            _Group(structure, numbers, self.folder / f"{place}")
            for place, (structure, numbers) in enumerate(pieces)
        ]

    def _train(
        self, group: "_Group", chosen: list[int], rung: int, epochs: int, *, last: bool
    ) -> dict[int, Result]:
        """Trains some trials of a group up to an epoch; returns what they came to."""
        population = self._population(group, chosen, rung)
        state = population.state
        with (
            Journal(group.folder, population.config, state.epoch, state.round) as journal,
            jax.transfer_guard("disallow"),
        ):
            try:
                while state.epoch < epochs and not state.control.stopped.all():
                    journal.write(population.epoch())
                    if population.save_is_due():
                        population.save()
                errors = self._errors(population) if last else [None] * len(chosen)
            finally:
                population.save()
        group.population, group.alive = population, chosen
        heads = self.config.heads
        losses = state.control.best_loss.reshape(len(chosen), len(heads)).tolist()
        return {
            number: Result(rung, epochs, dict(zip(heads, of_trial, strict=True)), error)
            for number, of_trial, error in zip(chosen, losses, errors, strict=True)
        }

    def _population(self, group: "_Group", chosen: list[int], rung: int) -> Population:
        """The population of some trials where the rung begins, or where it was interrupted."""
        if group.population is None:
            group.population, group.alive = self._first_population(group), group.numbers
            before = [trial.number for trial in self._alive(max(0, rung - 1))]
            self._go_on(group, [n for n in group.numbers if n in before], max(0, rung - 1))
        self._go_on(group, chosen, rung)
        return group.population

    def _go_on(self, group: "_Group", chosen: list[int], rung: int) -> None:
        """Leaves the other trials behind; takes over a state of this rung, if there is one."""
        assert group.population is not None
        count = len(self.config.heads)
        places = [group.alive.index(number) for number in chosen]
        members = [place * count + head for place in places for head in range(count)]
        folder = group.folder / f"rung-{rung}"
        group.population, group.alive = group.population.only(members, folder), chosen
        group.population.state.restore(folder)

    def _first_population(self, group: "_Group") -> Population:
        config = dataclasses.replace(self.config, model=group.structure)
        programs = programs_of(config, self.inputs, together=self.together)
        members = [
            dataclasses.replace(member, name=f"{number}-{member.name}")
            for number in group.numbers
            for member in members_of(config_of(self.config, self.log.trials[number].settings))
        ]
        return population_of(
            *(config, members, self.training, self.validation, programs),
            *(self.inputs, group.folder, self.display, self.stop),
        )

    def _errors(self, population: Population) -> list[float]:
        """Standard errors of the trials' losses."""
        rows = np.arange(len(self.validation.labels))
        logits = population.best_logits(self.validation, rows, "validation alerts")
        heads = len(self.config.heads)
        influences = np.stack(
            [
                protocol.influence(one, task.validation_targets, task.validation_weights)
                for one, task in zip(logits, population.tasks, strict=True)
            ]
        )
        of_trials = influences.reshape(-1, heads, len(rows)).mean(axis=1)
        return [protocol.clustered_error(each, self.validation.objects) for each in of_trials]


@dataclasses.dataclass
class _Group:
    """Trials of one structure that train as one population.

    Attributes:
        structure: of their heads.
        numbers: of the trials.
        folder: of its states and metrics.
        population: of those that are alive, once it has trained.
        alive: their numbers.
    """

    structure: HeadConfig
    numbers: list[int]
    folder: Path
    population: Population | None = None
    alive: list[int] = dataclasses.field(default_factory=list)


def read_curves(folder: Path) -> Curves:
    """The validation losses of all trials, from the metrics in a sweep's folder."""
    found: Curves = {}
    for number, head, loss in _judgements(folder):
        found.setdefault(number, {}).setdefault(head, []).append(loss)
    return found


def _judgements(folder: Path) -> Iterator[tuple[int, str, float]]:
    for path in sorted(folder.glob("round-*/*/metrics.jsonl")):
        for line in path.read_text().splitlines():
            for member, values in json.loads(line)["heads"].items():
                number, _, head = member.partition("-")
                yield int(number), head, values["val_loss"]
