"""The end of a sweep: how the winner's values do on alerts that no trial has seen."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from acai_jax.evaluate.labelled import DatasetSource
from acai_jax.evaluate.run import Model, evaluate
from acai_jax.files import write_file
from acai_jax.sweep.search import config_of
from acai_jax.sweep.trials import Trial
from acai_jax.training.config import Config

_FIGURES: Final = ("auc", "balanced_fnr", "balanced_fpr", "ece", "brier")
_DRAWS: Final = 1000
TEST: Final = "test.json"
"""Where a sweep keeps what the test split has said of its winner."""


def winners_config(config: Config, winner: Trial, seeds: int) -> Config:
    """What the winner is trained anew by: the whole protocol, from seeds that no trial had."""
    chosen = config_of(config, winner.settings)
    return dataclasses.replace(chosen, seed=config.seed + 1, ensemble=seeds)


def judge_once(workdir: Path, dataset: Path, folder: Path, seed: int) -> dict[str, Any]:
    """The figures of trained heads on the test split, which is opened for them once.

    Args:
        workdir: of the sweep; the figures are kept in it, and read from there ever after.
        dataset: whose split.
        folder: of the heads.
        seed: of the bootstrap.
    """
    path = workdir / TEST
    if not path.exists():
        found = evaluate(
            Model.load(str(folder)), DatasetSource(dataset, "test"), draws=_DRAWS, seed=seed
        )
        figures = {
            name: {
                "n_positive": head.ranking.positives,
                "n_negative": head.ranking.negatives,
                **{
                    f"{figure}{end}": _number(getattr(values, figure))
                    for figure in _FIGURES
                    for end, values in (
                        *(("", head.figures), ("_low", head.low)),
                        ("_high", head.high),
                    )
                },
            }
            for name, head in found.heads.items()
        }
        write_file(path, json.dumps(figures, indent=1).encode())
    return json.loads(path.read_text())


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
