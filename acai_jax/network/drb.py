"""The `drb` of alerts that were sent without one: braai's score, batch by batch."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Final

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Shaped

from acai_jax.errors import WeightsError
from acai_jax.network.braai import drb_from_triplets
from acai_jax.network.pretrained import load_braai
from acai_jax.surveys.base import Survey

_BATCH: Final = 32  # few alerts lack a drb: one small fixed size, compiled once


class BraaiStandIn:
    """braai, ready to stand in for a missing `drb`; safe to call from several threads.

    Its weights are looked for once, when they are first needed.

    Args:
        weights_dir: folder with `braai_d6_m9.h5`; by default the cache.

    Example:
        >>> from acai_jax.surveys import SURVEYS
        >>> features, triplets = np.full((1, 25), np.nan), np.zeros((1, 63, 63, 3), np.float32)
        >>> BraaiStandIn("/no/such/folder").fill(features, triplets, SURVEYS["ztf"])[1]
        'null feature: drb, and braai cannot stand in: not in /no/such/folder: braai_d6_m9.h5'
    """

    def __init__(self, weights_dir: str | os.PathLike[str] | None = None) -> None:
        self._weights_dir = weights_dir
        self._braai: Callable[[np.ndarray], Array] | WeightsError | None = None
        self._lock = threading.Lock()

    def fill(
        self,
        features: Float[np.ndarray, "b f"],
        triplets: Float32[np.ndarray, "b h w c"],
        survey: Survey,
    ) -> tuple[Int[np.ndarray, " m"], str | None]:
        """Writes braai's scores into `features` where `drb`, `survey.replaced`, is NaN.

        No other feature may be NaN.

        A score does not depend on the alerts beside it.

        Args:
            features: of some alerts.
            triplets: normalised stamps of the same alerts.
            survey: of the alerts.

        Returns:
            The rows without a `drb`; and why they still have none, where braai's weights are not at
            hand.
        """
        rows, name = np.flatnonzero(np.isnan(features).any(1)), survey.replaced
        if not len(rows) or name is None:
            return rows, None
        braai = self._load()
        if isinstance(braai, WeightsError):
            return rows, f"null feature: {name}, and braai cannot stand in: {braai}"
        for start in range(0, len(rows), _BATCH):
            few = rows[start : start + _BATCH]
            scores = np.asarray(braai(pad_rows(triplets[few], _BATCH)))
            features[few, survey.inputs.features.index(name)] = scores[: len(few)]
        return rows, None

    def _load(self) -> Callable[[np.ndarray], Array] | WeightsError:
        with self._lock:
            if self._braai is None:
                try:
                    braai = load_braai(self._weights_dir)
                    self._braai = functools.partial(jax.jit(drb_from_triplets), braai)
                except WeightsError as error:
                    self._braai = error
            return self._braai


def pad_rows(array: Shaped[np.ndarray, "b ..."], rows: int) -> Shaped[np.ndarray, "rows ..."]:
    """The array, with zeros below it up to `rows` rows.

    Example:
        >>> pad_rows(np.ones(2, np.float32), 3)
        array([1., 1., 0.], dtype=float32)
    """
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
