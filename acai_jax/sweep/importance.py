"""How much each axis of a sweep decides."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from acai_jax.sweep.trials import Trial

_BINS: Final = 4  # of an axis of numbers, each with as many trials


def importances(trials: Sequence[Trial]) -> dict[str, float]:
    """The share of the losses' variance that goes with each axis alone, the largest first.

    The logarithms of the losses at the first rung, which all trials reach. It is Kelley's
    epsilon squared, which chance alone leaves at 0 in the mean; below 0 it is given as 0.

    Example:
        >>> from acai_jax.sweep.trials import Result
        >>> settings = [{"filters": 8 * (n % 2 + 1), "blocks": n // 6 + 1} for n in range(12)]
        >>> found = [Result(0, 3, {"h": 1.0 / each["filters"]}) for each in settings]
        >>> trials = [Trial(n, 0, settings[n], (found[n],)) for n in range(12)]
        >>> importances(trials)
        {'filters': 1.0, 'blocks': 0.0}

    Source: Kelley 1935, Proc. Nat. Acad. Sci. 21, 554.
    """
    judged = [t for t in trials if t.results and math.isfinite(t.results[0].loss)]
    losses = np.log([max(trial.results[0].loss, 1e-12) for trial in judged])
    found = {}
    for axis in judged[0].settings if judged else ():
        _, places = np.unique(_binned([t.settings[axis] for t in judged]), return_inverse=True)
        groups = int(places.max()) + 1
        if 1 < groups < len(judged) and losses.var() > 0:
            counts = np.bincount(places)
            within = losses - (np.bincount(places, losses) / counts)[places]
            mean_square = (within**2).sum() / (len(judged) - groups)
            whole = ((losses - losses.mean()) ** 2).sum()
            share = 1 - mean_square * (len(judged) - 1) / whole
            found[axis] = max(0.0, float(share))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _binned(values: Sequence[Any]) -> np.ndarray:
    """Values as they are, or the bins of numbers that hardly repeat."""
    if isinstance(values[0], float) and len(set(values)) > _BINS:
        return np.digitize(values, np.quantile(values, np.arange(1, _BINS) / _BINS))
    return np.array([str(value) for value in values])
