"""How far figures would move with another sample of objects: the bootstrap, object by object.

The alerts of an object are no independent trials, so objects are drawn, with all of their alerts:
an alert's weight in a draw is how often its object was drawn. No alert is copied, nothing is sorted
twice, and the figures of a draw are as exact as those of the sample.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import loky
import numpy as np
from jaxtyping import Float64

Counts = Float64[np.ndarray, " objects"]
"""How often each object was drawn."""


def resample(
    objects: int,
    statistic: Callable[[Counts], Float64[np.ndarray, " m"]],
    draws: int,
    seed: int,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Float64[np.ndarray, "draws m"]:
    """The statistic of many draws of as many objects as there are, with replacement.

    Draws run side by side in threads; they are the same whatever the number of cores.

    Args:
        objects: how many there are.
        statistic: how often each object was drawn -> numbers; called from several threads.
        draws: how many.
        seed: the same seed makes the same draws.
        report: told (draws done, draws in all) now and then.

    Example:
        >>> values = np.array([1.0, 2.0, 6.0])
        >>> found = resample(3, lambda counts: np.array([counts @ values / 3]), 500, seed=0)
        >>> found.shape, interval(found).round(3).ravel().tolist()
        ((500, 1), [1.158, 6.0])

    Source: Efron 1979, Ann. Statist. 7, 1; drawing whole clusters: Field & Welsh 2007,
    J. R. Statist. Soc. B 69, 369.
    """

    def draw(number: int) -> np.ndarray:
        random = np.random.default_rng([seed, number])
        drawn = random.integers(0, objects, objects)
        return statistic(np.bincount(drawn, minlength=objects).astype(np.float64))

    rows: list[np.ndarray] = []
    with ThreadPoolExecutor(loky.cpu_count()) as pool:
        try:
            for row in pool.map(draw, range(draws)):
                rows.append(row)
                report(len(rows), draws)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return np.stack(rows)


def interval(
    values: Float64[np.ndarray, "draws m"], share: float = 0.95
) -> Float64[np.ndarray, "2 m"]:
    """The central interval that holds a share of the draws; draws without a figure are left out.

    Example:
        >>> interval(np.arange(101.0)[:, None]).round(6).ravel().tolist()
        [2.5, 97.5]
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # NaN is the answer
        return np.nanquantile(values, [(1 - share) / 2, (1 + share) / 2], axis=0)
