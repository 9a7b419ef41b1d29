"""200,000 scored alerts evaluated with 1,000 draws, beside the plain loop over scikit-learn.

    python -m benchmarks.evaluation

Five heads, 80,000 objects, random scores as heads give them. Ours is `evaluate_table`, every figure
and breakdown, and then the report. The plain loop draws objects, too, and calls scikit-learn with
weights: ROC curve, AUC, average precision and Brier score of five heads. A few draws of it are
timed; before, both are compared on one. Results go to benchmarks/results/evaluation-<device>.json.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from sklearn import metrics

from acai_jax.classes import CLASSES
from acai_jax.evaluate.judged import Judged, figures_of
from acai_jax.evaluate.run import evaluate_table
from acai_jax.report.evaluation_page import write_report
from acai_jax.simulate import DEFAULT_PROPORTIONS
from benchmarks import timing

OBJECTS_PER_ALERT = 0.4


def random_scores(alerts: int) -> pl.DataFrame:
    """A table of scores such as five good heads give."""
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, alerts, p=[DEFAULT_PROPORTIONS[name] for name in CLASSES])
    objects = np.sort(rng.integers(0, round(OBJECTS_PER_ALERT * alerts), alerts))
    columns = {
        "candid": np.arange(alerts),
        "objectId": [f"ZTF26obj{number:06d}" for number in objects],
        "label": labels,
        "jd": 2458300.5 + rng.uniform(0, 1500, alerts),
        "ra": rng.uniform(0, 360, alerts),
        "dec": rng.uniform(-30, 90, alerts),
        "fid": rng.integers(1, 4, alerts),
        "magpsf": rng.normal(19, 1, alerts),
        "ndethist": rng.integers(1, 300, alerts),
        "reason": pl.Series([None] * alerts, dtype=pl.String),
    }
    for name in CLASSES:
        good, bad = rng.beta(6, 0.4, alerts), rng.beta(0.3, 6, alerts)
        columns[f"acai_{name}"] = np.where(labels == name, good, bad).astype(np.float32)
    return pl.DataFrame(columns)


def plain_draw(judged: Sequence[Judged], weights: np.ndarray) -> list[tuple[float, ...]]:
    """AUC, average precision and Brier score of each head, of weighted alerts, by scikit-learn."""
    found = []
    for head in judged:
        truth = (head.targets, head.scores)
        fpr, tpr, _ = metrics.roc_curve(*truth, sample_weight=weights)
        precision = metrics.average_precision_score(*truth, sample_weight=weights)
        brier = metrics.brier_score_loss(*truth, sample_weight=weights)
        found.append((metrics.auc(fpr, tpr), precision, brier))
    return found


def check_same(judged: Sequence[Judged], counts: np.ndarray, numbers: np.ndarray) -> None:
    """Raises unless ours gives the plain loop's figures."""
    for head, expected in zip(judged, plain_draw(judged, counts[numbers]), strict=True):
        figures = figures_of(head.drawn(counts), head.figures)
        ours = (figures.auc, figures.average_precision, figures.brier)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=200_000)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--plain-draws", type=int, default=10, help="of the plain loop, timed")
    arguments = parser.parse_args()
    table = random_scores(arguments.alerts)
    others = timing.OtherProcesses()
    start, processor = time.perf_counter(), time.process_time()
    provenance = {name: {"version": "random"} for name in CLASSES}
    found = evaluate_table(table, provenance, draws=arguments.draws)
    evaluated = time.perf_counter() - start
    processor = time.process_time() - processor
    with tempfile.TemporaryDirectory() as folder:
        write_report(found, Path(folder))
    whole = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    busy = round(others.cores(), 2)
    numbers = np.unique(table["objectId"].to_numpy(), return_inverse=True)[1]
    judged = [
        Judged.of(table[f"acai_{name}"], table["label"].to_numpy() == name, numbers)
        for name in CLASSES
    ]
    objects = int(numbers.max()) + 1
    rng = np.random.default_rng(1)

    def draw() -> np.ndarray:
        return np.bincount(rng.integers(0, objects, objects), minlength=objects).astype(np.float64)

    check_same(judged, draw(), numbers)
    start = time.perf_counter()
    for _ in range(arguments.plain_draws):
        plain_draw(judged, draw()[numbers])
    plain = (time.perf_counter() - start) / arguments.plain_draws * arguments.draws
    shown = Table(title=f"{arguments.alerts:,} alerts, {arguments.draws:,} draws, five heads")
    for column in ("program", "seconds", "ours is faster by"):
        shown.add_column(column, justify="left" if column == "program" else "right")
    shown.add_row("acai_jax: all figures and breakdowns", f"{evaluated:.1f}", "")
    shown.add_row("the same, and the report", f"{whole:.1f}", "")
    ratio = f"{plain / evaluated:.0f}"
    shown.add_row("scikit-learn, draw by draw, four figures", f"{plain:,.0f} (from a few)", ratio)
    console = Console(width=100)
    console.print(shown)
    console.print(
        f"peak memory, before scikit-learn: {megabytes:,.0f} MB; processor time {processor:.1f} s; "
        f"meanwhile other processes kept {busy} cores busy"
    )
    timing.write_results(
        "evaluation",
        [
            {
                "alerts": arguments.alerts,
                "objects": objects,
                "draws": arguments.draws,
                "seconds": evaluated,
                "processor_seconds": processor,
                "seconds_with_report": whole,
                "peak_megabytes": megabytes,
                "plain_seconds": plain,
                "plain_draws_timed": arguments.plain_draws,
                "cores_busy_elsewhere": busy,
            }
        ],
    )


if __name__ == "__main__":
    main()
