"""Scores of training alerts by heads that have not seen their objects.

The alerts of the highest loss are those whose labels are worth a second look.
"""

from pathlib import Path
from typing import Final

import jax
import numpy as np
import polars as pl

from acai_jax.files import write_atomically
from acai_jax.network.ensemble import ensemble_score
from acai_jax.training.inputs import DatasetFacts
from acai_jax.training.population import Population
from acai_jax.training.protocol import fold_of

OUT_OF_FOLD: Final = "out_of_fold.parquet"
"""Where a run with folds puts these scores, inside its own folder."""


def write_out_of_fold(population: Population, facts: DatasetFacts, path: Path) -> None:
    """Writes a row for each class and each alert of the training split.

    Columns are the survey's names of alert and object, `label`, `class`, `fold`, `logit`, `score`
    and `loss`, the cross-entropy. Where several members have left out a fold, it is the mean
    score.
    """
    split, config, survey = population.training, population.config, facts.survey
    rows = np.arange(len(split.labels))
    logits = population.best_logits(split, rows, "training alerts out of fold")
    folds = fold_of(split.objects, config.folds)
    # (class, member of the ensemble, fold, alert): each alert's own fold
    logits = logits.reshape(len(config.heads), config.ensemble, config.folds, -1)
    logits = logits[:, :, folds, rows]
    tables = []
    for head, of_head in zip(config.heads, logits, strict=True):
        found = jax.device_get(
            jax.jit(ensemble_score, static_argnums=1)(
                jax.device_put(np.ascontiguousarray(of_head.T)), config.ensemble
            ).logits
        )[:, 0]
        targets = np.isin(split.labels, config.labels(head))
        exact = found.astype(np.float64)
        columns = {
            survey.alert_id: split.alert_ids,
            survey.object_id: split.objects,
            "label": split.labels,
            "class": np.full(len(rows), head),
            "fold": folds,
            "logit": found,
            "score": 1 / (1 + np.exp(-exact)),
            "loss": np.logaddexp(0, np.where(targets, -exact, exact)),
        }
        tables.append(pl.DataFrame(columns))
    write_atomically(path, pl.concat(tables).write_parquet)
