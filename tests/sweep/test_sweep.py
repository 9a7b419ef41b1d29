"""Whole sweeps: how they halve, what they leave, and that they end the same however interrupted."""

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import chex
import polars as pl
import pytest
from rich.console import Console
from stops import AskedToStop

from acai_jax.errors import MissingPackageError, OutputError, TrainingError, UsageError
from acai_jax.network.checkpoints import load_heads
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig, size_of
from acai_jax.report import write_sweep_report
from acai_jax.surveys.ztf import ZTF
from acai_jax.sweep import Search, Space, sweep
from acai_jax.sweep import run as sweep_run
from acai_jax.sweep.choice import choose
from acai_jax.sweep.search import config_of
from acai_jax.sweep.trials import Result, Trial
from acai_jax.training import Config, loop, train

ROOT = Path(__file__).parents[2]
KILLS = 10 if os.environ.get("ACAI_JAX_FUZZ") else 1
SPACE = Space(
    dense_layers=(1, 2),
    dense_units=(8,),
    blocks=(1,),
    filters=(2,),
    kernel_size=(3,),
    convolution=("separable",),
    reduction=("average",),
    head_units=(4,),
    activation=("relu",),
    optional_features=("ra",),
)
SEARCH = Search(space=SPACE, rounds=2, trials=4, structures=1, first_epochs=1, keep=2, seeds=2)


def small(dataset, **changes):
    settings = {
        "dataset": dataset,
        "heads": ("v", "h"),
        "max_epochs": 2,
        "balance": 1.0,
        "segment_steps": 4,
        "batch_size": 16,
        "round_two": False,
    }
    return Config(**(settings | changes))


def run(config, search, workdir):
    return sweep(config, search, workdir, console=Console(quiet=True))


@pytest.fixture(scope="module")
def finished(simulated_dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweeps") / "sweep"
    config = small(simulated_dataset)
    return config, workdir, run(config, SEARCH, workdir)


def test_half_of_the_trials_go_on(finished):
    _, _, found = finished
    assert len(found.trials) == 8
    for round_ in (0, 1):
        trials = [trial for trial in found.trials if trial.round == round_]
        assert sorted(len(trial.results) for trial in trials) == [1, 1, 2, 2]
        first = sorted(trials, key=lambda trial: trial.results[0].loss)
        assert {len(trial.results) for trial in first[:2]} == {2}
    assert found.epochs == 8 + 4
    for trial in found.trials:
        assert sorted(found.curves[trial.number]) == ["h", "v"]
        for head, curve in found.curves[trial.number].items():
            assert len(curve) == trial.results[-1].epochs
            assert min(curve) == trial.results[-1].losses[head]


def test_a_trial_is_what_its_configuration_trains(finished, tmp_path):
    config, _, found = finished
    trial = found.choice.winner
    bank = train(config_of(config, trial.settings), tmp_path / "run", console=Console(quiet=True))
    for head, loss in trial.results[-1].losses.items():
        assert float(bank.provenance[head]["val_loss"]) == pytest.approx(loss, rel=1e-5)


def test_the_winner_is_trained_anew_and_judged_by_the_test_split_once(finished, monkeypatch):
    config, workdir, found = finished
    bank = load_heads(workdir / "winner")
    assert (bank.members, bank.provenance["v"]["seed"]) == (2, "1 2")
    model = config_of(config, found.choice.winner.settings).model
    assert bank.heads.config == model
    assert json.loads((workdir / "test.json").read_text()) == found.test
    assert 0 <= found.test["v"]["auc"] <= 1
    monkeypatch.setattr("acai_jax.sweep.winner.evaluate", None)  # it is not opened again
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*.json*")}
    again = run(config, SEARCH, workdir)
    assert again.test == found.test
    assert again.trials == found.trials
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*.json*")} == before


def test_what_a_sweep_leaves(finished):
    _, workdir, found = finished
    table = pl.read_parquet(workdir / "trials.parquet")
    assert table["trial"].to_list() == list(range(8))
    assert table["without ra"].to_list() == [t.settings["without ra"] for t in found.trials]
    assert not list(workdir.glob("round-*/*/rung-*"))  # states of rungs that are done
    page = write_sweep_report(found, workdir).read_text()
    for text in (*SPACE.ranges, "without ra", f"{found.choice.best.loss:.4f}", "variable star"):
        assert text in page
    assert {path.name for path in workdir.glob("sweep_*.png")} == {
        *("sweep_cost.png", "sweep_curves.png", "sweep_importances.png", "sweep_parallel.png")
    }


def test_the_simplest_within_one_standard_error_wins():
    losses = {0: 0.100, 1: 0.105, 2: 0.111, 3: 0.104, 4: 0.0}
    settings = [{"head_units": units} for units in (64, 16, 4, 16, 2)]

    def trial(number):
        results = (Result(0, 3, {"h": losses[number]}, 0.01),)
        more = () if number == 4 else (Result(1, 9, {"h": losses[number]}, 0.01),)
        return Trial(number, 0, settings[number], results + more)

    found = choose(Config(), ZTF.inputs, [trial(number) for number in losses])
    assert (found.best.number, found.winner.number) == (0, 3)
    assert [each.number for each in found.within] == [3, 1, 0]
    nothing = Trial(0, 0, {}, (Result(0, 3, {"h": float("inf")}),))
    assert choose(Config(), ZTF.inputs, [nothing]) is None


def test_the_size_of_a_head_is_that_of_its_weights():
    from acai_jax.network.bank import abstract_heads

    for config in (
        HeadConfig(),
        HeadConfig(convolution="regular", kernel_size=5, reduction="flatten"),
        HeadConfig(filters=(4, 5, 6, 7, 8, 9), dense_units=(3,)),
    ):
        weights = head_weights(abstract_heads(config, 1))
        trained = [leaf.size for name, leaf in weights.items() if not name.startswith("norm.")]
        assert size_of(config, ZTF.inputs).weights == sum(trained)


# --- interruptions ---------------------------------------------------------------------------


def test_a_sweep_that_is_stopped_anywhere_ends_the_same(finished, tmp_path, monkeypatch):
    config, workdir, found = finished
    again, stops = None, 0
    while again is None:
        stop = AskedToStop(25 + stops % 7)
        for module in (loop, sweep_run):
            monkeypatch.setattr(
                module, "finishing", lambda _, stop=stop: contextlib.nullcontext(stop)
            )
        again = run(config, SEARCH, tmp_path / "sweep")
        stops += again is None
        assert stops < 100
    assert stops > 1
    assert_same(again, tmp_path / "sweep", found, workdir)


def assert_same(again, folder, found, workdir):
    assert again.trials == found.trials
    assert again.curves == found.curves
    assert again.choice == found.choice
    assert again.test == found.test
    for name in ("trials.jsonl", "test.json"):
        assert (folder / name).read_bytes() == (workdir / name).read_bytes()
    banks = [head_weights(load_heads(each / "winner").heads) for each in (folder, workdir)]
    chex.assert_trees_all_equal(*banks)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_sweep_that_is_killed_has_the_same_winner(finished, tmp_path, seed):
    config, workdir, found = finished
    config = dataclasses.replace(config, checkpoint_seconds=0.0)
    program = (
        f"import pathlib, sys; sys.path.append({str(ROOT / 'tests')!r})\n"
        "from tests.sweep.test_sweep import *\n"
        f"run(small(pathlib.Path({str(config.dataset)!r}), checkpoint_seconds=0.0), SEARCH, "
        f"pathlib.Path({str(tmp_path / 'sweep')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    rng = random.Random(seed)
    log, size = tmp_path / "sweep" / "trials.jsonl", rng.choice([1, 500, 900, 1400])
    until = time.monotonic() + 300
    while not (log.exists() and log.stat().st_size >= size) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 1))
    process.kill()
    process.communicate()
    assert log.stat().st_size >= size
    with log.open("a") as file:
        file.write('{"trial": 3, "ru')  # as a killed write leaves it
    again = run(config, SEARCH, tmp_path / "sweep")
    assert_same(again, tmp_path / "sweep", found, workdir)


# --- what cannot go well ---------------------------------------------------------------------


def test_the_folder_belongs_to_one_sweep(finished):
    config, workdir, _ = finished
    with pytest.raises(OutputError, match=r"another run: config\.seed, search\.trials differ"):
        run(dataclasses.replace(config, seed=5), dataclasses.replace(SEARCH, trials=5), workdir)


@pytest.mark.parametrize(
    ("changes", "search", "problem"),
    [
        ({"ensemble": 2}, {}, "takes no ensemble, folds or init"),
        ({"without": ("colour",)}, {}, "have no feature colour"),
        ({}, {"space": dataclasses.replace(SPACE, optional_features=("x",))}, "no feature x"),
    ],
)
def test_what_no_sweep_can_be_is_said_at_once(
    simulated_dataset, tmp_path, changes, search, problem
):
    config = small(simulated_dataset, **changes)
    with pytest.raises((TrainingError, UsageError), match=problem):
        run(config, dataclasses.replace(SEARCH, **search), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_diverges_says_so(simulated_dataset, tmp_path):
    space = dataclasses.replace(SPACE, learning_rate=(1e30, 1e30))
    search = dataclasses.replace(SEARCH, space=space, rounds=1)
    config = small(simulated_dataset, heads=("v",))
    with pytest.raises(TrainingError, match="no trial's validation loss was finite"):
        run(config, search, tmp_path)


def test_optuna_missing_is_said_before_any_step(simulated_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r'pip install "acai_jax\[sweep\]"'):
        run(small(simulated_dataset), SEARCH, tmp_path)
