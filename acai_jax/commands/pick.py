"""The command `acai-jax pick`."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import tyro
from rich.table import Table

from acai_jax.commands.console import console, shown
from acai_jax.errors import OutputError, PickError

if TYPE_CHECKING:
    from acai_jax.labelling.pick import Embed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pick:
    """Pick the alerts to label next: a queue for `acai-jax label`.

    Of each reason so many: scores near the head's threshold (boundary), an ensemble that disagrees
    (disagreement), labels that out-of-fold losses contradict (relabel), the highest scores
    (confident), and chance (random). All but the random ones are of training objects.
    """

    scores: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Parquet files written by `acai-jax score`, or output folders of `acai-jax stream`."""
    out: Path = Path("queue.parquet")
    """the queue."""
    count: int = 100
    """how many alerts."""
    quotas: dict[str, float] = dataclasses.field(default_factory=dict)
    """shares of the reasons, such as "boundary 5 random 5"; a tenth at least is random. By default
    boundary 4 disagreement 2 relabel 2 confident 1 random 1, as far as they can be had."""
    labels: Path | None = None
    """labels.csv of what is labelled already."""
    losses: Path | None = None
    """out_of_fold.parquet of a training with folds: the losses of labelled alerts."""
    metrics: Path | None = None
    """metrics.json of `acai-jax evaluate`, with each head's balanced threshold; 0.2 without it."""
    model: Path | None = None
    """checkpoint of the scores: picks are spread out in its last layer, not by their scores."""
    alerts: tuple[Path, ...] = ()
    """where the alerts' packets lie, for --model; by default where they were scored."""
    round: int = 1
    """number of the round of labelling."""
    seed: int = 0
    """of chance."""
    overwrite: bool = False
    """replace OUT."""

    def run(self) -> None:
        """Picks, writes the queue, and prints what is in it."""
        from acai_jax.datasets.labels import read_labels
        from acai_jax.files import write_atomically
        from acai_jax.labelling.pick import pick
        from acai_jax.labelling.queue import read_scores

        if self.out.exists() and not self.overwrite:
            raise OutputError(f"{self.out} exists: --overwrite replaces it")
        queue = pick(
            read_scores(self.scores),
            self.count,
            self.quotas,
            labels=None if self.labels is None else read_labels(self.labels),
            losses=None if self.losses is None else pl.read_parquet(self.losses),
            thresholds=None if self.metrics is None else read_thresholds(self.metrics),
            embed=self._embed(),
            labelling_round=self.round,
            seed=self.seed,
        )
        write_atomically(self.out, queue.write_parquet)
        _print(queue)
        console.print(f"label them: acai-jax label {self.out}", soft_wrap=True)

    def _embed(self) -> "Embed | None":
        if self.model is None:
            return None
        from acai_jax.labelling.embed import last_layer_of
        from acai_jax.network.checkpoints import load_heads

        return last_layer_of(load_heads(self.model), self.alerts or None)


def read_thresholds(path: Path) -> dict[str, float]:
    """The balanced threshold of each head that has one, out of an evaluation's metrics.json.

    Raises:
        PickError: the file is none.
    """
    try:
        heads = json.loads(path.read_bytes())["heads"]
        found = {name: head["balanced_threshold"] for name, head in heads.items()}
        return {name: float(value) for name, value in found.items() if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PickError(f"{path} is no metrics.json of `acai-jax evaluate`") from None


def _print(queue: pl.DataFrame) -> None:
    counts = queue.group_by("why", "head").len().sort("why", "head", nulls_last=True)
    table = Table()
    for name in ("picked for", "head"):
        table.add_column(name)
    table.add_column("alerts", justify="right")
    for why, head, count in counts.iter_rows():
        table.add_row(why, shown(head or ""), f"{count:,}")
    table.add_row("all", "", f"{len(queue):,}")
    console.print(table)
