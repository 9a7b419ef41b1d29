"""The command `acai-jax evaluate`."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from acai_jax.commands.arguments import Labelled
from acai_jax.commands.console import console, output, shown, stretches_progress
from acai_jax.extras import need

if TYPE_CHECKING:
    from acai_jax.evaluate.results import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(Labelled):
    """Evaluate heads on labelled alerts: OUT/report.html, OUT/metrics.json and pictures."""

    out: Path
    """folder to write to; an earlier report in it is replaced."""
    heads: tuple[str, ...] = ()
    """only these heads of the model."""
    against: str | None = None
    """another model to compare with, on the same alerts."""
    draws: int = 1000
    """of the bootstrap by object."""
    seed: int = 0
    """of the bootstrap."""
    note: str | None = None
    """what the report should say first, such as where the labels come from."""

    def run(self) -> None:
        """Evaluates, writes the report, and prints the figures of each head."""
        need("dataset", "report")
        from acai_jax.evaluate.run import Model, evaluate
        from acai_jax.report.evaluation_page import write_report
        from acai_jax.score.scorer import enable_compilation_cache

        self.out.mkdir(parents=True, exist_ok=True)
        source = self.open()
        enable_compilation_cache()
        with console.status("loading the model"):
            model = Model.load(self.model, weights_dir=self.weights, heads=self.heads)
            other = Model.load(self.against, weights_dir=self.weights) if self.against else None
        with stretches_progress() as report:
            found = evaluate(model, source, other, draws=self.draws, seed=self.seed, report=report)
        with console.status("drawing"):
            page = write_report(found, self.out, note=self.note)
        print_evaluation(found)
        everything = "everything; metrics.json and pictures are beside it"
        console.print(f"{page}: {everything}", soft_wrap=True)


def print_evaluation(found: "Evaluation") -> None:
    """Prints the figures of each head to standard output."""
    from acai_jax.report.evaluation_page import one_sided

    table = Table()
    table.add_column("head")
    for column in ("AUC", "threshold", "FNR", "FPR", "pos.", "neg.", "unscored"):
        table.add_column(column, justify="right")
    for name, head in found.heads.items():
        state, auc = head.state, head.figures.auc
        rates = ("none" if math.isnan(rate) else f"{100 * rate:.2f} %" for rate in head.rates)
        counts = (
            head.ranking.positives,
            head.ranking.negatives,
            state.unscored_positives + state.unscored_negatives,
        )
        auc_text = "none" if math.isnan(auc) else f"{auc:.4f}"
        numbers = (auc_text, f"{head.threshold:.3f}", *rates)
        table.add_row(shown(name), *numbers, *(f"{count:,}" for count in counts))
    output.print(table)
    for sentence in one_sided(found):
        console.print(f"note: {sentence}", style="yellow", soft_wrap=True)
    for key in ("unlabelled", "unreadable", "repeated", "labels_without_alert"):
        if count := found.source.get("counts", {}).get(key):
            console.print(f"{key.replace('_', ' ')}: {count:,}")
