"""Ensembles beside single heads: cross-entropy and calibration, on simulated and on real alerts.

    python -m benchmarks.ensembles --workdir /tmp/ensembles

Simulates and packages alerts, unless --dataset names a dataset, and trains an ensemble per seed;
its first members are the heads that would be trained alone. Both score the test split, and real
alerts that catalogues label. Figures are means over the seeds; their intervals are from a bootstrap
by object, of the same draws for all. What is finished stays in --workdir.

Results go to benchmarks/results/ensembles-<device>.json.
"""

import argparse
import csv
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from acai_jax.datasets.records import load_split
from acai_jax.evaluate.bootstrap import interval, resample
from acai_jax.evaluate.figures import Ranking
from acai_jax.network.bank import HeadBank
from acai_jax.score.scorer import Scorer
from acai_jax.training import Config, train
from benchmarks import timing
from benchmarks.real_heads import DRAWS, UNJUDGED
from benchmarks.samples import real_sample
from benchmarks.training import package_alerts

FIGURES = ("log-loss", "ECE")


def first_members(bank: HeadBank) -> HeadBank:
    """The bank of one head of each class."""
    places = np.array([bank.places(name)[0] for name in bank.classes])
    heads = jax.tree.map(lambda leaf: leaf[places], bank.heads)
    return dataclasses.replace(bank, heads=heads, members=1)


def compare(
    scores: list[tuple[np.ndarray, np.ndarray]], targets: np.ndarray, objects: np.ndarray
) -> dict[str, Any]:
    """Figures of single heads and of ensembles, and their differences: means over the seeds.

    Args:
        scores: of single heads and of ensembles, for each seed.
        targets: what is right.
        objects: of which object each alert is.
    """
    places = np.unique(objects, return_inverse=True)[1]
    exact = [[each.astype(np.float64) for each in pair] for pair in scores]
    losses = [
        [-np.log(np.clip(np.where(targets, each, 1 - each), 1e-12, 1)) for each in pair]
        for pair in exact
    ]
    rankings = [[Ranking(each, targets) for each in pair] for pair in exact]

    def of_seeds(counts: np.ndarray) -> np.ndarray:
        """(seed, figure)."""
        weights = counts[places]
        loss = np.array([[np.average(each, weights=weights) for each in pair] for pair in losses])
        ece = np.array([[each.figures(weights).ece for each in pair] for pair in rankings])
        differences = (np.diff(each, axis=1) for each in (loss, ece))
        return np.hstack([loss, next(differences), ece, next(differences)])

    count = int(places.max()) + 1
    low, high = interval(resample(count, lambda c: of_seeds(c).mean(0), DRAWS, seed=0))
    values = of_seeds(np.ones(count))
    columns = [(figure, who) for figure in FIGURES for who in ("single", "ensemble", "difference")]
    return {
        f"{figure}, {who}": {
            "mean": float(values[:, i].mean()),
            "low": float(low[i]),
            "high": float(high[i]),
            "of_seeds": values[:, i].tolist(),
        }
        for i, (figure, who) in enumerate(columns)
    }


def judge(banks: list[HeadBank], dataset: Path, data: Path) -> list[dict[str, Any]]:
    """A row for each sample and head; a bank for each seed."""
    test = load_split(dataset, "test")
    with (data / "real_labelled.csv").open() as file:
        named = {int(row["candid"]): row["label"] for row in csv.DictReader(file)}
    real = real_sample(data, ("real_labelled.parquet",))
    samples = {
        "simulated test": (test.features, test.triplets, test.labels, test.object_ids),
        "real, labelled by catalogues": (
            *(real.features, real.triplets),
            np.array([named[candid] for candid in real.candids]),
            real.objects,
        ),
    }
    rows = []
    for sample, (features, triplets, labels, objects) in samples.items():
        scores = [
            [Scorer(each).score_arrays(features, triplets) for each in (first_members(bank), bank)]
            for bank in banks
        ]
        for index, name in enumerate(banks[0].classes):
            judged = np.array([name not in UNJUDGED.get(label, "") for label in labels])
            targets = labels[judged] == name
            of_head = [
                (single[judged, index], ensemble[judged, index]) for single, ensemble in scores
            ]
            found = compare(of_head, targets, objects[judged])
            counts = {"positives": int(targets.sum()), "negatives": int((~targets).sum())}
            rows.append({"sample": sample, "head": name, **counts, **found})
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    table = Table(title="single heads and ensembles, means over the seeds (95 % by object)")
    columns = [key for key in rows[0] if "," in key]
    for column in ("sample", "head", "+", "-", *columns):
        table.add_column(column, justify="right")
    for row in rows:
        cells = (
            "{mean:.4f}\n({low:.4f} to {high:.4f})".format(**row[column]) for column in columns
        )
        counts = (str(row["positives"]), str(row["negatives"]))
        table.add_row(row["sample"], row["head"], *counts, *cells)
    Console(width=170).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ensembles beside single heads.")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, help="a packaged dataset; by default simulated")
    parser.add_argument("--count", type=int, default=26_000, help="alerts to simulate")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=30, help="in each round")
    parser.add_argument("--data", type=Path, default=timing.DATA, help="real alerts")
    arguments = parser.parse_args()
    workdir: Path = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    dataset = arguments.dataset or package_alerts(workdir, arguments.count)
    config = Config(dataset=dataset, ensemble=arguments.members, max_epochs=arguments.max_epochs)
    banks = []
    for number in range(arguments.seeds):
        seeded = dataclasses.replace(config, seed=number * arguments.members)  # none is used twice
        bank = train(seeded, workdir / f"ensemble-{number}")
        if bank is None:
            raise SystemExit("interrupted: the same command goes on")
        banks.append(bank)
    rows = judge(banks, dataset, arguments.data)
    print_rows(rows)
    facts = {name: getattr(arguments, name) for name in ("members", "max_epochs", "seeds")}
    timing.write_results("ensembles", [{**facts, "rows": rows}])


if __name__ == "__main__":
    main()
