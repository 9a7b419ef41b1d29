"""The negatives that heads are not trained on, as labels files to evaluate them with."""

from pathlib import Path
from typing import Final

import polars as pl

from acai_jax.files import write_atomically
from acai_jax.labels import COLUMNS

from .heads import Heads

FOLDER: Final = "dropped"
"""Where they stand, inside the folder of a run."""


def write_dropped(heads: Heads, workdir: Path) -> None:
    """Writes the labels of each head's dropped negatives to WORKDIR/dropped/HEAD.csv, once.

    They follow from the configuration and the dataset: a run that goes on would write the same.
    Negatives that round two adds to the training set stay among them.

    Args:
        heads: of the run.
        workdir: its folder.
    """
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    split = heads.training
    for name, selection in zip(heads.config.heads, heads.selections, strict=True):
        path = folder / f"{name}.csv"
        if not path.exists():
            columns = (split.objects, split.candids, split.labels)
            rows = (column[selection.dropped] for column in columns)
            table = pl.DataFrame(dict(zip(COLUMNS, rows, strict=True)))
            write_atomically(path, table.write_csv)
