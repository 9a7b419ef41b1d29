"""Does choosing what to label help? The simulator answers, and random picks are the peer.

    python -m benchmarks.active --workdir FOLDER                       # hours; resumes
    python -m benchmarks.active --workdir FOLDER --seeds 1 --pool 600 --judges 300 --rounds 2 \
        --first 150 --count 50 --max-epochs 3 --parts curves noise     # minutes: a try

Parts:
    curves  Every strategy starts from the same random labels of a pool, then picks, learns, and is
            judged on alerts of other objects, round after round (`train.active`). How many labels
            does it need for the balanced error that random picks have at the end?
    rare    Heads that know all classes search a pool in which one class is 1 %: positives found per
            label, beside random picks.
    noise   5 % of the labels are wrong: which share of the relabel queue is?
    real    Heads that were trained on simulated alerts get labels of a few real ones (catalogues'):
            AUC on the real alerts that nobody was asked for, beside random picks.

What is finished stays in --workdir. Results go to benchmarks/results/active-<part>-<device>.json.
"""

import argparse
import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from acai_jax.classes import CLASSES
from acai_jax.commands.package import Package
from acai_jax.datasets.labels import read_labels
from acai_jax.evaluate.labelled import AlertsSource
from acai_jax.evaluate.run import Model, evaluate
from acai_jax.labelling.embed import last_layer_of
from acai_jax.labelling.pick import QUOTAS, pick
from acai_jax.labelling.queue import read_scores
from acai_jax.network.checkpoints import HEADS_FOLDER, is_checkpoint, load_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer, enable_compilation_cache
from acai_jax.simulate import write_alerts
from acai_jax.training import Config, train
from benchmarks import timing
from train.active import Loop, run

STRATEGIES = {
    "random": {"random": 1.0},
    "boundary": {"boundary": 0.9, "random": 0.1},
    "disagreement": {"disagreement": 0.9, "random": 0.1},
    "mixed": {name: share for name, share in QUOTAS.items() if name != "relabel"},
}
WARM = "mixed, warm"  # each round's heads start from those of the one before
CURVES = {**STRATEGIES, WARM: STRATEGIES["mixed"]}
CHANCE = 0.5
RARE, SHARE = "n", 0.01
NOISE = 0.05
REAL_LABELS = (10, 20, 40)  # of about 80 objects: enough have to stay that nobody was asked for
SMALL = HeadConfig(filters=(8, 8, 16, 16))  # hundreds of trainings have to end within hours
NOT_REACHED = 1.5  # stands for the labels of a strategy that never gets so good, in units of N
DRAWS = 2000

Row = dict[str, Any]


def simulated(folder: Path, count: int, seed: int, **options: Any) -> Path:
    """A folder of simulated alerts, unless it is there."""
    if not (folder / "labels.csv").exists():
        write_alerts(folder, count, seed, overwrite=True, **options)
    return folder


def trained(config: Config, workdir: Path) -> Path:
    """Heads that are trained, or were before."""
    if not is_checkpoint(workdir / HEADS_FOLDER) and train(config, workdir) is None:
        raise SystemExit("interrupted: the same command goes on")
    return workdir / HEADS_FOLDER


def packaged(folder: Path, sources: tuple[Path, ...], labels: Path) -> Path:
    """A dataset, unless it is there."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        Package(sources=sources, labels=labels, data_dir=unfinished, overwrite=True).run()
        unfinished.replace(folder)
    return folder


# Learning curves -------------------------------------------------------------------------------


def curves(options: argparse.Namespace, config: Config) -> list[Row]:
    """A row for each seed, strategy, round and head."""
    rows = []
    for seed in range(options.seeds):
        folder = options.workdir / f"seed-{seed}"
        pool = simulated(folder / "pool", options.pool, 1000 + seed)
        loop = Loop(
            pool=pool / "alerts",
            workdir=folder / "start",
            truth=pool / "labels.csv",
            judges=simulated(options.workdir / "judges", options.judges, 999),
            rounds=0,
            first=options.first,
            count=options.count,
            seed=seed,
            train=config,
        )
        if run(loop) is None:
            raise SystemExit("interrupted: the same command goes on")
        for name, quotas in CURVES.items():
            workdir = folder / name
            if not workdir.exists():  # all start from the same labels and heads
                shutil.copytree(loop.workdir, folder / "copy", dirs_exist_ok=True)
                (folder / "copy").rename(workdir)
            change = {"workdir": workdir, "rounds": options.rounds, "quotas": quotas}
            rounds = run(dataclasses.replace(loop, **change, warm_start=name == WARM))
            if rounds is None:
                raise SystemExit("interrupted: the same command goes on")
            rows += [
                {
                    "part": "curves",
                    "seed": seed,
                    "strategy": name,
                    "labels": each.labels,
                    "head": head,
                    # there is no head yet where there are too few labels for one
                    "auc": each.auc.get(head, CHANCE),
                    "error": each.error.get(head, CHANCE),
                }
                for each in rounds
                for head in CLASSES
            ]
    return rows


def labels_needed(labels: np.ndarray, errors: np.ndarray, wanted: float) -> float:
    """Labels at which a curve first is as low as wanted, in units of the last one's."""
    for place in range(len(labels)):
        if errors[place] <= wanted:
            if place == 0 or errors[place - 1] == errors[place]:
                return float(labels[place] / labels[-1])
            share = (errors[place - 1] - wanted) / (errors[place - 1] - errors[place])
            between = labels[place - 1] + share * (labels[place] - labels[place - 1])
            return float(between / labels[-1])
    return NOT_REACHED


def summary_of_curves(rows: list[Row]) -> list[Row]:
    """Per strategy and head: labels needed for random's last error, over the seeds."""
    table = pl.DataFrame(rows)
    found = []
    for head in ("all", *CLASSES):
        of_head = table if head == "all" else table.filter(head=head)
        mean = of_head.group_by("seed", "strategy", "labels").agg(pl.col("error").mean())
        mean = mean.sort("labels")
        for strategy in CURVES:
            ratios, last = [], []
            for (_seed,), each in mean.group_by("seed", maintain_order=True):
                random, ours = each.filter(strategy="random"), each.filter(strategy=strategy)
                if len(random) and len(ours):
                    wanted = random["error"][-1]
                    ratio = labels_needed(
                        ours["labels"].to_numpy(), ours["error"].to_numpy(), wanted
                    )
                    ratios.append(ratio)
                    last.append(ours["error"][-1])
            if ratios:
                found.append({"head": head, "strategy": strategy, **interval(ratios)})
                found[-1] |= {"last_error": float(np.mean(last))}
    return found


def interval(values: list[float]) -> Row:
    """Mean of the seeds' values, and the central 95 % of draws of seeds."""
    array, rng = np.array(values), np.random.default_rng(0)
    drawn = array[rng.integers(0, len(array), (DRAWS, len(array)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"mean": float(array.mean()), "low": float(low), "high": float(high), "of_seeds": values}


# A rare class ----------------------------------------------------------------------------------


def rare(options: argparse.Namespace, config: Config) -> list[Row]:
    """Positives of a rare class that are found per label."""
    others = {name: (1 - SHARE) / (len(CLASSES) - 1) for name in CLASSES if name != RARE}
    rows = []
    for seed in range(options.seeds):
        folder = options.workdir / f"rare-{seed}"
        known = simulated(folder / "known", options.first * 4, 3000 + seed)
        dataset = packaged(folder / "datasets", (known / "alerts",), known / "labels.csv")
        heads = trained(dataclasses.replace(config, dataset=dataset), folder / "training")
        proportions = {**others, RARE: SHARE}
        pool = simulated(folder / "pool", options.pool, 2000 + seed, proportions=proportions)
        table, truth = scores_of(heads, pool / "alerts", folder), read_labels(pool / "labels.csv")
        labels = dict(truth.table.select("alert_id", "label").iter_rows())
        embed = last_layer_of(load_heads(heads), pool / "alerts")
        of_head = table.select(
            pl.exclude("^acai_.*$"), pl.col(f"^acai_{RARE}.*$")
        )  # whoever searches a class picks by its head
        for name in ("random", "boundary", "disagreement", "confident", "mixed"):
            quotas = STRATEGIES.get(name, {name: 0.9, "random": 0.1})
            queue = pick(of_head, options.count, quotas, embed=embed, seed=seed)
            found = sum(labels[alert_id] == RARE for alert_id in queue["candid"])
            rows.append(
                {"part": "rare", "seed": seed, "strategy": name, "share": found / len(queue)}
            )
    return rows


def scores_of(heads: Path, alerts: Path, folder: Path) -> pl.DataFrame:
    """The score table of some alerts, made now or before."""
    path = folder / "scores.parquet"
    if not path.exists():
        Scorer(load_heads(heads)).score(alerts).write_parquet(path)
    return read_scores([path])


# Wrong labels ----------------------------------------------------------------------------------


def noise(options: argparse.Namespace, config: Config) -> list[Row]:
    """Which share of the relabel queue is wrong, where 5 % of all labels are."""
    rows = []
    for seed in range(options.seeds):
        folder = options.workdir / f"noise-{seed}"
        pool = simulated(folder / "pool", options.pool, 4000 + seed, label_noise=NOISE)
        dataset = packaged(folder / "datasets", (pool / "alerts",), pool / "labels.csv")
        change = {"dataset": dataset, "folds": options.folds, "ensemble": 1}
        trained(dataclasses.replace(config, **change), folder / "training")
        given = pl.read_csv(pool / "labels.csv")
        wrong = set(given.filter(pl.col("label") != pl.col("true_label"))["candid"])
        losses = pl.read_parquet(folder / "training" / "out_of_fold.parquet")
        count = int(NOISE * losses["candid"].n_unique())
        queue = pick(
            given.select("candid", pl.col("oid").alias("objectId")),
            int(count / 0.9),
            {"relabel": 0.9, "random": 0.1},
            labels=read_labels(pool / "labels.csv"),
            losses=losses,
        ).filter(why="relabel")
        found = [alert_id in wrong for alert_id in queue["candid"]]
        rows.append({"part": "noise", "seed": seed, "picked": len(found), "share": np.mean(found)})
    return rows


# From simulation to reality --------------------------------------------------------------------


def real(options: argparse.Namespace, config: Config) -> list[Row]:
    """AUC on real alerts, after a few of them got labels."""
    alerts, truth = (timing.DATA / f"real_labelled.{kind}" for kind in ("parquet", "csv"))
    known = pl.read_csv(truth).filter(pl.col("label").is_in(["v", "n", "o"]))
    rows = []
    for seed in range(options.seeds):
        folder = options.workdir / f"real-{seed}"
        pool = simulated(folder / "simulated", options.pool, 5000 + seed)
        dataset = packaged(folder / "datasets", (pool / "alerts",), pool / "labels.csv")
        start = trained(dataclasses.replace(config, dataset=dataset, seed=seed), folder / "start")
        table = scores_of(start, alerts, folder).filter(
            pl.col("candid").is_in(known["candid"].implode())
        )
        embed = last_layer_of(load_heads(start), alerts)
        simulated_labels = pl.read_csv(pool / "labels.csv")
        for name in ("random", "mixed"):
            queue = pick(table, REAL_LABELS[-1], STRATEGIES[name], embed=embed, seed=seed)
            order = queue["candid"].to_list()
            for count in (0, *REAL_LABELS):
                asked = known.filter(pl.col("candid").is_in(order[:count]))
                left = known.filter(~pl.col("oid").is_in(asked["oid"].implode()))
                here = folder / f"{name}-{count}"
                here.mkdir(exist_ok=True)
                left.select("oid", "candid", "label").write_csv(here / "left.csv")
                heads = start
                if count:
                    both = [simulated_labels, asked.select("oid", "candid", "label")]
                    pl.concat(both).write_csv(here / "labels.csv")
                    sources = (pool / "alerts", alerts)
                    tuned = packaged(here / "datasets", sources, here / "labels.csv")
                    change = {"dataset": tuned, "init": start, "warm_start": True, "seed": seed}
                    change["max_epochs"] = max(1, options.max_epochs // 4)
                    heads = trained(dataclasses.replace(config, **change), here / "training")
                source = AlertsSource(alerts, here / "left.csv")
                found = evaluate(Model.load(str(heads)), source, draws=1)
                rows += [
                    {
                        "part": "real",
                        "seed": seed,
                        "strategy": name,
                        "asked": len(asked),
                        "head": head,
                        "left": len(left),
                        "auc": each.figures.auc,
                    }
                    for head, each in found.heads.items()
                    if head in "vno"
                ]
    return rows


PARTS = {"curves": curves, "rare": rare, "noise": noise, "real": real}


def print_rows(title: str, rows: list[Row]) -> None:
    """Prints rows as a table."""
    table = Table(title=title, title_justify="left")
    names = [name for name in rows[0] if name not in ("part", "of_seeds")]
    for name in names:
        table.add_column(name)
    for row in rows:
        cells = (row[name] for name in names)
        table.add_row(*(f"{each:.3f}" if isinstance(each, float) else str(each) for each in cells))
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    number = functools.partial(parser.add_argument, type=int)
    number("--seeds", default=5)
    number("--pool", default=3000, help="alerts to choose from")
    number("--judges", default=2000, help="alerts to judge by")
    number("--rounds", default=4)
    number("--first", default=200, help="random labels at the start")
    number("--count", default=100, help="labels of each round")
    number("--ensemble", default=3)
    number("--folds", default=5)
    number("--max-epochs", default=24)
    options = parser.parse_args()
    enable_compilation_cache()
    options.workdir.mkdir(parents=True, exist_ok=True)
    config = Config(
        model=SMALL,
        ensemble=options.ensemble,
        batch_size=16,
        learning_rate=2e-3,
        max_epochs=options.max_epochs,
        patience=max(1, options.max_epochs // 4),
        round_two=False,
    )
    settings = {name: value for name, value in vars(options).items() if name != "workdir"}
    for name in options.parts:
        rows = PARTS[name](options, config)
        if name == "curves":
            summary = summary_of_curves(rows)
            print_rows("labels needed for the error of random picks at the end", summary)
            rows += [{"part": "labels needed", **row} for row in summary]
        else:
            print_rows(name, rows)
        rows = [{"part": "settings", **settings}, *rows]
        timing.write_results(f"active-{name}", json.loads(json.dumps(rows, default=float)))


if __name__ == "__main__":
    main()
