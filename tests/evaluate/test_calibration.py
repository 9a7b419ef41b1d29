"""Temperatures are those that were put in, and change nothing but the scores of their head."""

import dataclasses
import itertools
from pathlib import Path

import chex
import jax
import numpy as np
import polars as pl
import pytest
from command_line import acai_jax
from rich.console import Console
from scipy.special import expit
from sklearn.metrics import log_loss

from acai_jax.alerts.sources import read_alerts
from acai_jax.commands.calibrate import Calibrate, print_calibrations
from acai_jax.errors import CheckpointError, EvaluationError
from acai_jax.evaluate.calibration import TEMPERATURES, Calibration, calibrate, fit_temperature
from acai_jax.evaluate.labelled import AlertsSource, DatasetSource
from acai_jax.evaluate.run import Model, evaluate
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer
from acai_jax.training import Config, train
from tests.network.test_checkpoints import save_altered

SMALL = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4, activation="tanh")

# --- one temperature -------------------------------------------------------------------------


def calibrated_alerts(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose sigmoid is the share of positives."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, count)
    return logits, rng.uniform(size=count) < expit(logits)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5, 7.0])
def test_a_known_scaling_is_recovered(scale):
    logits, targets = calibrated_alerts(50_000)
    temperature, held = fit_temperature(scale * logits, targets)
    assert temperature == pytest.approx(scale, rel=0.02)
    assert not held


def test_it_has_the_lowest_cross_entropy():
    logits, targets = calibrated_alerts(300, seed=1)
    found, _ = fit_temperature(3 * logits, targets)
    losses = {
        factor: log_loss(targets, expit(3 * logits / (factor * found)))
        for factor in (0.98, 0.999, 1.0, 1.001, 1.02)
    }
    assert min(losses, key=losses.__getitem__) == 1.0


def test_perfectly_separated_alerts_leave_the_temperature_open():
    logits, targets = calibrated_alerts(1000)
    separated = np.abs(logits) * np.where(targets, 1, -1)
    assert fit_temperature(separated, targets) == (1.0, True)
    separated[0] = -4 if targets[0] else 4  # one mistake, and there is a best one
    temperature, held = fit_temperature(separated, targets)
    assert TEMPERATURES[0] < temperature < 1
    assert not held


def test_temperatures_are_held_at_the_ends_of_their_range():
    logits, targets = calibrated_alerts(1000)
    assert fit_temperature(-logits, targets) == (TEMPERATURES[1], True)
    assert fit_temperature(1e-3 * logits, targets) == (TEMPERATURES[0], True)


def test_logits_of_any_size_are_no_problem():
    logits, targets = calibrated_alerts(1000)
    with np.errstate(all="raise", under="ignore"):
        assert fit_temperature(1e30 * logits, targets) == (TEMPERATURES[1], True)
        assert fit_temperature(0 * logits, targets) == (1.0, True)


def test_logits_that_are_no_numbers_and_one_kind_of_alerts_are_clear_errors():
    logits, targets = calibrated_alerts(100)
    with pytest.raises(EvaluationError, match="1 of 100 logits are no finite numbers"):
        fit_temperature(np.where(np.arange(100) == 7, np.nan, logits), targets)
    with pytest.raises(EvaluationError, match="no positive among 100 alerts: a temperature needs"):
        fit_temperature(logits, np.zeros(100, bool))
    with pytest.raises(EvaluationError, match="no negative among 100 alerts"):
        fit_temperature(logits, np.ones(100, bool))


# --- scores ----------------------------------------------------------------------------------


def bank_of(temperatures: dict[str, float]) -> HeadBank:
    """Three heads, some with temperatures."""
    heads = create_heads(SMALL, 3, jax.random.key(3))
    provenance = {
        name: {"version": name}
        | ({"temperature": temperatures[name]} if name in temperatures else {})
        for name in "hov"
    }
    return HeadBank(heads, ("h", "o", "v"), provenance)


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 30, (40, 25)).astype(np.float32)
    return features, rng.normal(0, 0.02, (40, 63, 63, 3)).astype(np.float32)


def test_a_temperature_divides_the_logits_of_its_head_alone(arrays):
    plain, warm = bank_of({}), bank_of({"o": 2.5})
    unscaled, scores = (Scorer(bank).score_arrays(*arrays) for bank in (plain, warm))
    logits, scaled = (Scorer(bank, as_logits=True).score_arrays(*arrays) for bank in (plain, warm))
    np.testing.assert_array_equal(scores[:, [0, 2]], unscaled[:, [0, 2]])
    np.testing.assert_allclose(scores[:, 1], expit(logits[:, 1] / 2.5), rtol=1e-5)
    np.testing.assert_allclose(scaled[:, 1], logits[:, 1] / 2.5, rtol=1e-6)
    order = np.argsort(logits[:, 1])
    assert (np.diff(scores[order, 1]) >= 0).all()


def test_a_temperature_of_one_leaves_the_compiled_program_alone(arrays):
    programs = [
        Scorer(bank)._forward.lower(list(jax.tree.leaves(bank.heads)), *arrays).as_text()
        for bank in (bank_of({}), bank_of({"h": 1.0}), bank_of({"h": 2.0}))
    ]
    assert programs[0] == programs[1] != programs[2]


def test_temperatures_come_back_from_a_checkpoint(tmp_path, arrays):
    bank = bank_of({"o": 2.5})
    save_heads(bank, tmp_path / "heads")
    restored = load_heads(tmp_path / "heads")
    assert restored.temperatures.tolist() == [1, 2.5, 1]
    assert restored.provenance == bank.provenance
    np.testing.assert_array_equal(
        Scorer(restored).score_arrays(*arrays), Scorer(bank).score_arrays(*arrays)
    )


@pytest.mark.parametrize("bad", [0, -1.5, "warm", float("inf")])
def test_a_checkpoint_with_an_impossible_temperature_is_refused(tmp_path, bad):
    save_heads(bank_of({"o": 2.5}), tmp_path / "heads")

    def spoil(weights, description):
        description["provenance"]["o"]["temperature"] = bad
        return weights, description

    save_altered(tmp_path / "heads", spoil)
    with pytest.raises(CheckpointError, match=str(tmp_path / "heads")):
        load_heads(tmp_path / "heads")


# --- whole models ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(simulated_dataset, tmp_path_factory) -> Path:
    """A short run of two heads."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    config = Config(
        dataset=simulated_dataset,
        heads=("h", "v"),
        model=SMALL,
        max_epochs=6,
        learning_rate=2e-2,
        batch_size=16,
        segment_steps=2,
        round_two=False,
    )
    assert train(config, workdir, console=Console(quiet=True)) is not None
    return workdir


def test_heads_are_calibrated_on_a_dataset(trained, simulated_dataset):
    bank = load_heads(trained)
    source = DatasetSource(simulated_dataset, "train")
    calibrated, found = calibrate(bank, source)
    chex.assert_trees_all_equal(head_weights(calibrated.heads), head_weights(bank.heads))
    before, after = (
        evaluate(Model(name, Scorer(each)), source, draws=1)
        for name, each in (("before", bank), ("after", calibrated))
    )
    for name, each in found.items():
        assert not each.held
        assert each.nll[1] < each.nll[0]
        one, other = before.heads[name], after.heads[name]
        assert each.ece == pytest.approx((one.figures.ece, other.figures.ece), abs=1e-6)
        assert other.figures.auc == pytest.approx(one.figures.auc, abs=1e-6)
        assert other.version == f"{one.version}+T{each.temperature:g}"
        assert (each.positives, each.negatives) == (one.ranking.positives, one.ranking.negatives)
        fitted = calibrated.provenance[name]["calibration"]
        assert (fitted["dataset"], fitted["split"]) == ("ztf_acai/alerts/1.0.0", "train")
        assert fitted["positives"] == each.positives
        assert calibrated.provenance[name]["positives"] == [name]


def test_calibrating_again_starts_from_the_weights(trained, simulated_dataset):
    source = DatasetSource(simulated_dataset, "train")
    once, _ = calibrate(load_heads(trained), source)
    other = DatasetSource(simulated_dataset, "validation")
    twice, _ = calibrate(calibrate(once, other)[0], source)
    assert twice.provenance == once.provenance


def test_heads_that_are_not_named_stay_as_they_are(trained, simulated_dataset):
    source = DatasetSource(simulated_dataset, "train")
    once, _ = calibrate(load_heads(trained), source)
    changed = {**once.provenance, "h": {**once.provenance["h"], "version": "+T9", "temperature": 9}}
    bank = dataclasses.replace(once, provenance=changed)
    again, found = calibrate(bank, source, ["v"])
    assert list(found) == ["v"]
    assert again.provenance["h"] == changed["h"]
    assert again.provenance["v"]["temperature"] == once.provenance["v"]["temperature"]


def test_heads_are_calibrated_on_alerts_and_their_labels(trained, simulated_dataset):
    folder = simulated_dataset.parent
    source = AlertsSource(folder / "alerts", folder / "labels.csv")
    calibrated, found = calibrate(load_heads(trained), source)
    labels = pl.read_csv(folder / "labels.csv")["label"].to_list()
    for name, each in found.items():
        assert each.positives + each.negatives + each.unscored == len(labels)
        assert each.positives <= labels.count(name)
        fitted = calibrated.provenance[name]["calibration"]
        assert fitted["labels"] == str(folder / "labels.csv")
        assert fitted["counts"]["alerts_read"] == len(labels)


def test_a_head_without_positives_is_named(trained, simulated_dataset, tmp_path):
    table = pl.read_csv(simulated_dataset.parent / "labels.csv").filter(pl.col("label") != "v")
    table.write_csv(tmp_path / "labels.csv")
    source = DatasetSource(simulated_dataset, "train", tmp_path / "labels.csv")
    with pytest.raises(EvaluationError, match="head v: no positive among"):
        calibrate(load_heads(trained), source)
    assert list(calibrate(load_heads(trained), source, ["h"])[1]) == ["h"]


def test_the_command_writes_a_checkpoint_that_scores(trained, simulated_dataset, tmp_path):
    out = tmp_path / "calibrated"
    arguments = ("--model", trained, "--dataset", simulated_dataset, "--out", out)
    result = acai_jax("calibrate", *arguments)
    assert result.returncode == 0, result.stderr
    bank = load_heads(out)
    chex.assert_trees_all_equal(head_weights(bank.heads), head_weights(load_heads(trained).heads))
    for name in ("h", "v"):
        facts = bank.provenance[name]
        assert facts["calibration"]["split"] == "validation"
        assert f"{facts['calibration']['ece'][1]:.4f}" in result.stdout
        assert f"{name} {facts['version']}" in result.stderr
    alerts = list(itertools.islice(read_alerts(simulated_dataset.parent / "alerts"), 16))
    table, plain = (Scorer.load(path).score_packets(alerts) for path in (out, trained))
    assert set(table["acai_h_version"]) == {bank.provenance["h"]["version"]}
    scored = plain["reason"].is_null()
    logits = -np.log(1 / plain["acai_h"].filter(scored).to_numpy().astype(np.float64) - 1)
    expected = expit(logits / bank.provenance["h"]["temperature"])
    np.testing.assert_allclose(table["acai_h"].filter(scored), expected, atol=1e-5)


def test_what_a_temperature_cannot_do_is_said(capsys):
    usual = Calibration(1.3, False, 10, 90, 0, nll=(0.2, 0.1), ece=(0.2, 0.1))
    print_calibrations(
        {
            "h": usual,
            "open": dataclasses.replace(usual, temperature=1.0, held=True),
            "far": dataclasses.replace(usual, temperature=100.0, held=True),
            "worse": dataclasses.replace(usual, ece=(0.1, 0.2)),
        }
    )
    said = capsys.readouterr()
    assert "1.3" in said.out
    notes = [line for line in said.err.splitlines() if line.startswith("note")]
    assert len(notes) == 3
    assert "of open is held at 1: its positives and negatives are perfectly separated" in notes[0]
    assert "of far is held at 100: the best one lies beyond" in notes[1]
    assert "the ECE of worse rises" in notes[2]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"heads": ("x",)}, EvaluationError, "no head 'x' in the model"),
        ({"dataset": None}, EvaluationError, "name a dataset, or alerts"),
        ({"model": "nowhere"}, CheckpointError, "no checkpoint at nowhere"),
        ({"out": "trained"}, CheckpointError, "exists already: --overwrite replaces it"),
    ],
)
def test_mistakes_are_clear_errors(trained, simulated_dataset, tmp_path, changes, kind, message):
    arguments = {"model": str(trained), "dataset": simulated_dataset, "out": tmp_path / "out"}
    if "out" in changes:
        changes = {"out": trained / "heads"}
    with pytest.raises(kind, match=message):
        Calibrate(**{**arguments, **changes}).run()
    assert not (tmp_path / "out").exists()
