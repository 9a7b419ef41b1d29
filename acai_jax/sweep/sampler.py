"""Which trials a round asks for: those of a grid, or what Optuna makes of the trials before it."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

from acai_jax.extras import require
from acai_jax.sweep.search import Search, Settings, Space
from acai_jax.sweep.trials import Trial

_ATTEMPTS: Final = 20  # for each trial, at new values that make a network


def optuna() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna = require("optuna", "sweep")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def ask(
    search: Search,
    seed: int,
    round_: int,
    trials: Sequence[Trial],
    fits: Callable[[Settings], bool],
) -> list[Settings]:
    """The values of a round's trials, different from each other and from those before them.

    They follow from the arguments alone: an interrupted sweep asks for the same ones again. A few
    trials choose the structures; the others take one of these, and have only the rest chosen.

    Args:
        search: how many, and of what space.
        seed: of the sampler.
        round_: which one, from 0.
        trials: of the rounds before it.
        fits: whether values make a network.

    Returns:
        At most `search.trials`; fewer where the space has no more.
    """
    study = _study(search.space, trials, seed + 1_000_003 * round_)
    axes = _axes(search.space)
    known = [dict(trial.settings) for trial in trials]
    found: list[Settings] = []
    structures = search.structures if set(axes) - set(search.space.structural) else search.trials

    def add(fixed: Settings | None) -> None:
        for _ in range(_ATTEMPTS):
            if fixed:
                study.enqueue_trial(fixed)
            asked = study.ask(axes)
            settings = {**_fixed(search.space), **asked.params}
            if settings not in known and fits(settings):
                known.append(settings)
                found.append(settings)
                return
            study.tell(asked, state=optuna().trial.TrialState.FAIL)

    for _ in range(min(structures, search.trials)):
        add(None)
    leaders = list(found)
    for place in range(search.trials - len(found) if leaders else 0):
        leader = leaders[place % len(leaders)]
        add({axis: leader[axis] for axis in search.space.structural if axis in axes})
    return found


def _study(space: Space, trials: Sequence[Trial], seed: int) -> Any:
    """A study in memory, of the trials so far. Its sampler keeps no state from round to round."""
    package = optuna()
    states = package.trial.TrialState
    study = package.create_study(sampler=package.samplers.TPESampler(seed=seed % 2**32))
    last = max((len(trial.results) for trial in trials), default=0)
    axes = _axes(space)
    for trial in trials:
        steps = {result.epochs: result.loss for result in trial.results}
        complete = len(trial.results) == last
        state = states.COMPLETE if complete else states.PRUNED
        study.add_trial(
            package.trial.create_trial(
                state=state if math.isfinite(trial.loss) else states.FAIL,
                value=trial.loss if complete and math.isfinite(trial.loss) else None,
                params={axis: trial.settings[axis] for axis in axes},
                distributions=axes,
                intermediate_values={e: loss for e, loss in steps.items() if math.isfinite(loss)},
            )
        )
    return study


def _axes(space: Space) -> dict[str, Any]:
    """The axes that are free, as Optuna's distributions."""
    of = optuna().distributions
    choices = {**space.structural, **space.masks}
    free = {axis: of.CategoricalDistribution(v) for axis, v in choices.items() if len(v) > 1}
    for axis, (low, high) in space.ranges.items():
        if low < high:
            free[axis] = of.FloatDistribution(low, high, log=axis == "learning_rate")
    return free


def _fixed(space: Space) -> dict[str, Any]:
    """The axes that have one value only."""
    free = _axes(space)
    known = {**space.structural, **space.masks, **space.ranges}
    return {axis: values[0] for axis, values in known.items() if axis not in free}
