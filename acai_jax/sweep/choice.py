"""Which trial has won, and all that a sweep has found, as values: pages read them without JAX."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from acai_jax.network.head_config import Size, size_of
from acai_jax.surveys.base import Inputs
from acai_jax.sweep.search import Search, config_of
from acai_jax.sweep.trials import Trial
from acai_jax.training.config import Config

Curves = dict[int, dict[str, list[float]]]
"""The validation losses of trials: by number, head and epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a search.

    Attributes:
        best: the trial of the lowest loss at the last rung.
        winner: the simplest trial within a standard error of it.
        within: all trials within it, the simplest first.
    """

    best: Trial
    winner: Trial
    within: tuple[Trial, ...]


def choose(config: Config, inputs: Inputs, trials: Sequence[Trial]) -> Choice | None:
    """The simplest trial whose loss is within one standard error of the best one's.

    Simplest is what has the fewest weights; of equal ones, that of the lowest loss. Only trials
    count that have reached the last rung.

    Returns:
        The choice; None where no loss is a number.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3; "the simplest"
    of the best is the rule of Duev & van der Walt 2021, section 3.
    """
    last = max((len(trial.results) for trial in trials), default=0)
    final = [t for t in trials if len(t.results) == last and math.isfinite(t.loss)]
    if not final:
        return None
    best = min(final, key=lambda trial: (trial.loss, trial.number))
    most = best.loss + (best.results[-1].error or 0.0)

    def order(trial: Trial) -> tuple[int, float, int]:
        size = size_of(config_of(config, trial.settings).model, inputs)
        return size.weights, trial.loss, trial.number

    within = sorted((trial for trial in final if trial.loss <= most), key=order)
    return Choice(best, within[0], tuple(within))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """All that a sweep has found.

    Attributes:
        config: what all trials had in common.
        search: how the sweep went.
        dataset: its name.
        trials: all of them.
        curves: their validation losses.
        sizes: of their heads, by the trial's number.
        importances: how much each axis decides, the largest first.
        choice: the winner.
        test: figures of the winner's heads on the test split, by head.
    """

    config: Config
    search: Search
    dataset: str
    trials: Sequence[Trial]
    curves: Curves
    sizes: Mapping[int, Size]
    importances: Mapping[str, float]
    choice: Choice
    test: Mapping[str, Mapping[str, Any]]

    @property
    def epochs(self) -> int:
        """Epochs that all trials have trained, the longest of their heads each."""
        return sum(max(map(len, heads.values())) for heads in self.curves.values())
