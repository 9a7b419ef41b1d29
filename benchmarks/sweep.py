"""Trials that train together, beside one at a time; halving, beside training each to the end.

    python -m benchmarks.sweep --workdir /tmp/sweep

Simulates and packages alerts, unless --dataset names a dataset. The same trials are trained to the
end three times: as populations; one at a time, with programs that trials of one structure share;
and one at a time by `train`, which reads the data and compiles for each trial, as a loop around
the command would. Times include compilation. Their losses must be equal to the bit on a CPU. Then
they are halved: how many epochs that takes, and how far its winner is from the best of all, in
standard errors.

All of it is done for each of --seeds, which draw other trials and start other weights.

Results go to benchmarks/results/sweep-<device>.json.
"""

import argparse
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from acai_jax.processes import finishing
from acai_jax.sweep.choice import choose
from acai_jax.sweep.halving import Round, read_curves
from acai_jax.sweep.sampler import ask
from acai_jax.sweep.search import Search, Settings, Space, config_of
from acai_jax.sweep.trials import Trial, TrialLog
from acai_jax.training import Config, train
from acai_jax.training.inputs import dataset_facts
from acai_jax.training.population import kept_programs, read_splits
from acai_jax.training.progress import Display
from benchmarks import timing
from benchmarks.training import package_alerts

SPACE = Space(
    blocks=(2,),
    filters=(8, 16),
    kernel_size=(3,),
    convolution=("separable",),
    activation=("relu",),
    reduction=("average",),
)


class Bench:
    """The splits in memory, and trials that train in folders of their own."""

    def __init__(self, config: Config, search: Search, workdir: Path, display: Display) -> None:
        self.config, self.search, self.workdir, self.display = config, search, workdir, display
        self.facts = dataset_facts(config.dataset)
        self.splits = read_splits(config, self.facts, display)
        self.settings = ask(search, config.seed, 0, [], lambda settings: True)

    def rounds(self, name: str, search: Search, asked: list[list[Settings]]) -> list[Trial]:
        """Trains the trials of each round; programs of one structure are compiled once."""
        folder = self.workdir / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log = TrialLog(folder / "trials.jsonl")
        with finishing(self.display.say) as stop:
            for number, settings in enumerate(asked):
                log.ask(number, settings)
                Round(
                    *(self.config, search, log, number, *self.splits, self.facts.survey.inputs),
                    *(folder / f"round-{number}", self.display, stop),
                ).run(lambda: None)
        return log.trials

    def alone(self) -> list[list[float]]:
        """Trains each trial by `train`; returns its losses."""
        found = []
        for number, settings in enumerate(self.settings):
            folder = self.workdir / "alone" / f"{number}"
            shutil.rmtree(folder, ignore_errors=True)
            config = config_of(self.config, settings)
            forget_programs()  # as a process of its own has none
            bank = train(config, folder, console=Console(quiet=True))
            if bank is None:
                raise SystemExit("interrupted")
            found.append([float(bank.provenance[head]["val_loss"]) for head in config.heads])
        return found


def forget_programs() -> None:
    kept_programs.cache_clear()
    jax.clear_caches()


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """(what it returns, seconds, cores that other processes kept busy), nothing compiled before."""
    forget_programs()
    others, start = timing.OtherProcesses(), time.perf_counter()
    found = run()
    return found, time.perf_counter() - start, others.cores()


def losses_of(trials: list[Trial]) -> list[list[float]]:
    return [list(trial.results[-1].losses.values()) for trial in trials]


def measure(config: Config, search: Search, workdir: Path, console: Console) -> dict[str, Any]:
    """One seed: prints what was found, and returns it."""
    to_the_end = dataclasses.replace(search, first_epochs=config.max_epochs)
    with Display(Console(quiet=True)) as display:
        bench = Bench(config, search, workdir, display)
        all_at_once, each_its_own = [bench.settings], [[each] for each in bench.settings]
        fused = timed(lambda: bench.rounds("fused", to_the_end, all_at_once))
        in_turn = timed(lambda: bench.rounds("in-turn", to_the_end, each_its_own))
        alone = timed(bench.alone)
        halved = timed(lambda: bench.rounds("halved", search, all_at_once))
    np.testing.assert_array_equal(losses_of(fused[0]), losses_of(in_turn[0]))
    np.testing.assert_allclose(losses_of(fused[0]), alone[0], rtol=1e-5)
    names = ("populations", "one at a time, programs shared", "one at a time, `train`", "halved")
    runs = dict(zip(names, (fused, in_turn, alone, halved), strict=True))
    table = Table(title=f"seed {config.seed}: {len(bench.settings)} trials, compilation included")
    for column in ("way", "seconds", "populations' are less by", "cores busy elsewhere"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, (_, seconds, busy) in runs.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / fused[1]:.2f}", f"{busy:.1f}")
    console.print(table)
    inputs = bench.facts.survey.inputs
    best = choose(config, inputs, fused[0])
    found = choose(config, inputs, halved[0])
    if best is None or found is None:
        raise SystemExit("no loss is a number")
    epochs = {
        name: sum(max(map(len, heads.values())) for heads in read_curves(workdir / name).values())
        for name in ("fused", "halved")
    }
    error = best.best.results[-1].error or 0.0
    distance = (found.best.loss - best.best.loss) / error
    console.print(
        f"halving: {epochs['halved']} epochs of {epochs['fused']} "
        f"({epochs['halved'] / epochs['fused']:.0%}); its best is trial {found.best.number}, "
        f"{found.best.loss:.4f}; of all, trial {best.best.number}, {best.best.loss:.4f}: "
        f"{distance:.2f} standard errors apart"
    )
    return {
        "seed": config.seed,
        "trials": len(bench.settings),
        "heads": list(config.heads),
        "alerts": bench.facts.records,
        "rungs": search.rungs(config.max_epochs),
        "seconds": {name: each[1] for name, each in runs.items()},
        "cores_busy_elsewhere": {name: round(each[2], 2) for name, each in runs.items()},
        "epochs": epochs,
        "losses": {"best": best.best.loss, "of_halving": found.best.loss, "standard_error": error},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A sweep's trials, fused and halved.")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, help="a packaged dataset; by default simulated")
    parser.add_argument("--count", type=int, default=2000, help="alerts to simulate")
    parser.add_argument("--heads", nargs="+", default=("h", "v"))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--structures", type=int, default=2)
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    arguments = parser.parse_args()
    workdir: Path = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    config = Config(
        dataset=arguments.dataset or package_alerts(workdir, arguments.count),
        heads=tuple(arguments.heads),
        max_epochs=arguments.max_epochs,
        round_two=False,
    )
    search = Search(
        space=SPACE, trials=arguments.trials, structures=arguments.structures, first_epochs=1
    )
    rows = []
    for seed in arguments.seeds:
        seeded = dataclasses.replace(config, seed=seed)
        rows.append(measure(seeded, search, workdir / f"{seed}", Console(width=110)))
        timing.write_results("sweep", rows)


if __name__ == "__main__":
    main()
