"""A sweep from beginning to end: rounds of trials, a winner, its training anew, its judgement.

It can be interrupted anywhere, and ends with the same trials and the same winner.
"""

import threading
from pathlib import Path

from rich.console import Console

from acai_jax.errors import DatasetError, TrainingError, UsageError
from acai_jax.network.checkpoints import HEADS_FOLDER, is_checkpoint
from acai_jax.network.head_config import size_of
from acai_jax.processes import finishing
from acai_jax.surveys.base import Inputs
from acai_jax.sweep.choice import Choice, SweepResult, choose
from acai_jax.sweep.halving import Round, read_curves
from acai_jax.sweep.importance import importances
from acai_jax.sweep.sampler import ask, optuna
from acai_jax.sweep.search import Search, Settings, config_of, original_grid
from acai_jax.sweep.trials import TrialLog, write_table
from acai_jax.sweep.winner import judge_once, winners_config
from acai_jax.training.config import Config
from acai_jax.training.folder import claim_folder, own_folder
from acai_jax.training.inputs import DatasetFacts, dataset_facts
from acai_jax.training.loop import train
from acai_jax.training.members import check_features
from acai_jax.training.population import InterruptedRunError, read_splits
from acai_jax.training.progress import Display


def sweep(
    config: Config,
    search: Search,
    workdir: Path,
    *,
    console: Console | None = None,
    together: bool | None = None,
) -> SweepResult | None:
    """Searches for hyperparameters; goes on where an earlier call in the folder was interrupted.

    Args:
        config: what all trials have in common: the dataset, the heads, the seed, and whatever the
            search leaves alone. A trial trains one round of at most `max_epochs`.
        search: what is searched, and how.
        workdir: folder of the sweep. The winner's heads are in its folder "winner", the trials in
            `trials.jsonl` and `trials.parquet`, the figures of the test split in `test.json`.
        console: where progress is shown; by default standard error.
        together: see `Programs`.

    Returns:
        What was found; None where SIGTERM or Ctrl-C stopped it, and all states are saved.

    Raises:
        DatasetError: the dataset cannot be trained on, or has no test split.
        OutputError: the folder belongs to another sweep, or to a process that is alive.
        UsageError: the configuration is for no sweep.
        TrainingError: no trial's losses were numbers.
        MissingPackageError: Optuna is not installed.
    """
    if not search.grid:
        optuna()  # is it there?
    facts = dataset_facts(config.dataset)
    _check(config, search, facts)
    inputs = facts.survey.inputs
    console = console or Console(stderr=True)
    with own_folder(workdir):
        settings = {"config": config.as_json(), "search": search.as_json()}
        claim_folder(workdir, settings, facts)
        log, folder = TrialLog(workdir / "trials.jsonl"), workdir / "winner"
        with Display(console) as display, finishing(display.say) as stop:
            try:
                if not is_checkpoint(folder / HEADS_FOLDER):
                    _rounds(config, search, facts, workdir, log, display, stop, together)
            except InterruptedRunError:
                display.say(f"interrupted: the same command goes on from {workdir}")
                return None
            choice = choose(config, inputs, log.trials)
            if choice is None:
                raise TrainingError("no trial's validation loss was finite: lower learning rates")
            display.say(_sentence(choice))
        of_winner = winners_config(config, choice.winner, search.seeds)
        if train(of_winner, folder, console=console, together=together) is None:
            return None
        return SweepResult(
            config=config,
            search=search,
            dataset=facts.name,
            trials=log.trials,
            curves=read_curves(workdir),
            sizes={
                trial.number: size_of(config_of(config, trial.settings).model, inputs)
                for trial in log.trials
            },
            importances=importances(log.trials),
            choice=choice,
            test=judge_once(workdir, config.dataset, folder, config.seed),
        )


def _check(config: Config, search: Search, facts: DatasetFacts) -> None:
    if config.members > 1 or config.init is not None:
        raise UsageError("a sweep takes no ensemble, folds or init; see --search.seeds")
    check_features((*config.without, *search.space.optional_features), facts.survey)
    if not facts.records.get("test"):
        raise DatasetError(f"{facts.name} has no alert in the split test: too few objects")


def _rounds(
    config: Config,
    search: Search,
    facts: DatasetFacts,
    workdir: Path,
    log: TrialLog,
    display: Display,
    stop: threading.Event,
    together: bool | None,
) -> None:
    """Asks for the trials of each round, and trains them, where that is not done yet."""
    training, validation = read_splits(config, facts, display, together=together)
    inputs = facts.survey.inputs

    def fits(settings: Settings) -> bool:
        return _fits(config, settings, inputs)

    for number in range(1 if search.grid else search.rounds):
        if not log.of_round(number):
            asked = (
                list(filter(fits, original_grid()))
                if search.grid
                else ask(search, config.seed, number, log.trials, fits)
            )
            if not asked:
                display.say(f"round {number + 1}: the space has no more")
                return
            log.ask(number, asked)
        Round(
            *(config, search, log, number, training, validation, inputs),
            *(workdir / f"round-{number}", display, stop, together),
        ).run(lambda: write_table(log.trials, workdir / "trials.parquet"))
        best = min(log.of_round(number), key=lambda trial: (-len(trial.results), trial.loss))
        display.say(f"round {number + 1}: trial {best.number} has the loss {best.loss:.4f}")


def _fits(config: Config, settings: Settings, inputs: Inputs) -> bool:
    """Whether there is such a network for such stamps."""
    try:
        size_of(config_of(config, settings).model, inputs)
    except ValueError:
        return False
    return True


def _sentence(choice: Choice) -> str:
    best, winner = choice.best, choice.winner
    error = best.results[-1].error or 0.0
    return (
        f"the lowest loss is {best.loss:.4f} +- {error:.4f} (trial {best.number}); the simplest "
        f"within that, of {len(choice.within)}, is trial {winner.number}: {winner.loss:.4f}"
    )
