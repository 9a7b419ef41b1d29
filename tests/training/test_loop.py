"""Whole runs: what they leave, how they are interrupted, and what never changes."""

import contextlib
import dataclasses
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from rich.console import Console
from stops import AskedToStop
from tensorboardX.proto import event_pb2

from acai_jax.datasets.labels import read_labels
from acai_jax.datasets.records import load_split
from acai_jax.errors import (
    CheckpointError,
    DatasetError,
    LabelsError,
    MissingPackageError,
    OutputError,
    TrainingError,
)
from acai_jax.evaluate.labelled import open_source
from acai_jax.evaluate.run import Model, evaluate
from acai_jax.network.bank import HeadBank, create_heads, take_head
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer
from acai_jax.surveys.ztf import FEATURE_NAMES
from acai_jax.training import Config, loop, population, step, train

ROOT = Path(__file__).parents[2]
SMALL = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4)


def small(dataset, **changes):
    settings = {
        "dataset": dataset,
        "heads": ("h", "v"),
        "model": SMALL,
        "max_epochs": 3,
        "patience": 2,
        "plateau_patience": 1,
        "learning_rate": 1e-2,
        "balance": 1.5,
        "segment_steps": 2,
        "batch_size": 16,
    }
    return Config(**(settings | changes))


def run(config, workdir, **options):
    return train(config, workdir, console=Console(quiet=True), **options)


def one_head(bank, name):
    return head_weights(take_head(bank.heads, bank.classes.index(name)))


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def finished(simulated_dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    config = small(simulated_dataset)
    return config, workdir, run(config, workdir)


def test_a_run_leaves_heads_that_score(simulated_dataset, finished):
    config, workdir, bank = finished
    for folder in (workdir, workdir / "heads"):
        scorer = Scorer.load(folder)
        assert scorer.bank.classes == ("h", "v")
        chex.assert_trees_all_equal(head_weights(scorer.bank.heads), head_weights(bank.heads))
    test = load_split(simulated_dataset, "validation")
    scores = scorer.score_arrays(test.features, test.triplets)
    assert np.isfinite(scores).all()
    facts = bank.provenance["h"]
    assert facts["version"].startswith("acai_jax_0.1.0_")
    assert facts["dataset"] == "ztf_acai/alerts/1.0.0"
    assert facts["positives"] == ["h"]
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["config"] == config.as_json()
    assert saved["dataset"]["digest"] == facts["dataset_sha256"]


def test_heads_hold_the_norm_of_the_training_split(simulated_dataset, finished):
    _, _, bank = finished
    features = load_split(simulated_dataset, "train").features
    weights = head_weights(bank.heads)
    magnitude = features[:, 4]
    np.testing.assert_allclose(weights["norm.centre"][:, 4], np.median(magnitude), rtol=1e-6)
    chex.assert_trees_all_equal(weights["norm.scale"][0], weights["norm.scale"][1])
    assert np.asarray(weights["norm.sentinel"]).tolist() == [[-10.0] * 25] * 2


def test_the_best_epoch_is_what_is_kept(simulated_dataset, finished):
    config, workdir, bank = finished
    validation = load_split(simulated_dataset, "validation")
    scorer = Scorer(bank, as_logits=True)
    logits = scorer.score_arrays(validation.features, validation.triplets)
    for head, name in enumerate(config.heads):
        targets = validation.labels == name
        share = min(1.0, config.balance * targets.sum() / (~targets).sum())
        losses = np.logaddexp(0, np.where(targets, -logits[:, head], logits[:, head]))
        loss = np.average(losses, weights=np.where(targets, 1.0, share))
        epochs = [r["heads"][name] for r in records(workdir) if name in r["heads"]]
        best = min(epoch["val_loss"] for epoch in epochs if "val_loss" in epoch)
        assert loss == pytest.approx(best, rel=1e-4)
        assert float(bank.provenance[name]["val_loss"]) == pytest.approx(best, rel=1e-5)


def events_of(path):
    """The events of a TensorBoard file: length, checksum, event, checksum; and so on."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_every_epoch_is_on_record(finished):
    _, workdir, _ = finished
    found = records(workdir)
    epochs = [record["epoch"] for record in found if "seconds" in record]
    assert epochs == list(range(len(epochs)))
    first = found[0]["heads"]["h"]
    assert {"train_loss", "val_loss", "learning_rate", "stopped", "precision"} <= first.keys()
    (path,) = (workdir / "tensorboard").iterdir()
    values = [value for event in events_of(path) for value in event.summary.value]
    losses = [value.simple_value for value in values if value.tag == "h/val_loss"]
    expected = [r["heads"]["h"]["val_loss"] for r in found if "seconds" in r and "h" in r["heads"]]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_round_two_counts_what_it_adds(finished):
    config, workdir, _ = finished
    (report,) = (record for record in records(workdir) if "seconds" not in record)
    train_split = load_split(config.dataset, "train")
    for name in config.heads:
        positives = (train_split.labels == name).sum()
        negatives = len(train_split.labels) - positives
        assert report["heads"][name]["dropped"] == negatives - round(1.5 * positives)
        assert 0 <= report["heads"][name]["misclassified"] <= report["heads"][name]["dropped"]


def test_dropped_negatives_are_written_to_be_evaluated(finished, tmp_path):
    config, workdir, bank = finished
    training = load_split(config.dataset, "train")
    expected = {
        candid: (name, label)
        for candid, name, label in zip(
            training.alert_ids, training.object_ids, training.labels, strict=True
        )
    }
    assert sorted(path.name for path in (workdir / "dropped").iterdir()) == ["h.csv", "v.csv"]
    for name in config.heads:
        labels = read_labels(workdir / "dropped" / f"{name}.csv").table
        positives = (training.labels == name).sum()
        assert len(labels) == len(training.labels) - positives - round(1.5 * positives)
        for candid, object_name, label in labels.iter_rows():
            assert expected[candid] == (object_name, label)
            assert label != name
    source = open_source(
        dataset=config.dataset, split="train", labels=workdir / "dropped" / "h.csv"
    )
    found = evaluate(Model.load(str(workdir), heads=["h"]), source, draws=5)
    head = found.heads["h"]
    labels = read_labels(workdir / "dropped" / "h.csv").table
    assert (head.lacks, head.ranking.negatives) == ("positive", len(labels))
    dropped = np.isin(training.alert_ids, labels["alert_id"])
    scores = Scorer(bank).score_arrays(training.features[dropped], training.triplets[dropped])
    assert head.rates[1] == pytest.approx((scores[:, 0] >= 0.5).mean(), abs=1e-12)


def test_a_run_without_dropped_negatives_says_so(simulated_dataset, tmp_path):
    config = small(simulated_dataset, heads=("v",), balance=1e6, max_epochs=1, round_two=False)
    run(config, tmp_path / "run")
    with pytest.raises(LabelsError, match=r"v\.csv holds no labels, only a header"):
        read_labels(tmp_path / "run" / "dropped" / "v.csv")


def test_a_finished_run_is_left_alone(finished):
    config, workdir, bank = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    again = run(config, workdir)
    chex.assert_trees_all_equal(head_weights(again.heads), head_weights(bank.heads))
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}


def test_a_head_alone_is_the_head_in_the_bank(finished, tmp_path):
    config, workdir, bank = finished
    alone = run(dataclasses.replace(config, heads=("v",)), tmp_path / "alone")
    chex.assert_trees_all_equal(one_head(alone, "v"), one_head(bank, "v"))
    ours = [r["heads"]["v"] for r in records(workdir) if "v" in r["heads"]]
    assert ours == [r["heads"]["v"] for r in records(tmp_path / "alone")]


def test_an_ensemble_holds_the_heads_that_are_trained_alone(finished, tmp_path):
    config, _, bank = finished
    both = run(dataclasses.replace(config, ensemble=2), tmp_path / "ensemble")
    other = run(dataclasses.replace(config, heads=("v",), seed=1), tmp_path / "other")
    assert (both.classes, both.members) == (("h", "v"), 2)
    assert both.provenance["v"]["seed"] == "0 1"
    for place, alone in {0: one_head(bank, "h"), 2: one_head(bank, "v")}.items():
        chex.assert_trees_all_equal(head_weights(take_head(both.heads, place)), alone)
    chex.assert_trees_all_equal(
        head_weights(take_head(both.heads, 3)), head_weights(take_head(other.heads, 0))
    )
    loaded = load_heads(tmp_path / "ensemble")
    chex.assert_trees_all_equal(head_weights(loaded.heads), head_weights(both.heads))
    with pytest.raises(CheckpointError, match="holds 2 heads of each class, not 1"):
        run(dataclasses.replace(config, init=tmp_path / "ensemble"), tmp_path / "single")
    more = dataclasses.replace(
        config, heads=("h", "o"), ensemble=2, seed=5, init=tmp_path / "ensemble", max_epochs=1
    )
    extended = run(more, tmp_path / "more")
    assert extended.classes == ("h", "v", "o")
    for place in both.places("v"):
        chex.assert_trees_all_equal(
            head_weights(take_head(extended.heads, place)),
            head_weights(take_head(both.heads, place)),
        )


def test_training_alerts_are_scored_by_heads_that_have_not_seen_their_objects(
    simulated_dataset, tmp_path
):
    config = small(simulated_dataset, folds=2, max_epochs=1)
    bank = run(config, tmp_path / "run")
    assert (bank.members, bank.provenance["h"]["folds"]) == (2, 2)
    table = pl.read_parquet(tmp_path / "run" / "out_of_fold.parquet")
    split = load_split(simulated_dataset, "train")
    assert table.columns[:4] == ["candid", "objectId", "label", "class"]
    scorer = Scorer(
        dataclasses.replace(
            bank,
            classes=("h0", "h1", "v0", "v1"),
            members=1,
            provenance={name: bank.provenance[name[0]] for name in ("h0", "h1", "v0", "v1")},
        ),
        as_logits=True,
    )
    logits = scorer.score_arrays(split.features, split.triplets)
    for first, name in ((0, "h"), (2, "v")):
        of_class = table.filter(pl.col("class") == name)
        assert np.array_equal(of_class["candid"], split.alert_ids)
        expected = logits[np.arange(len(logits)), first + of_class["fold"].to_numpy()]
        np.testing.assert_allclose(of_class["logit"], expected, atol=1e-5)
        right = np.where(split.labels == name, of_class["score"], 1 - of_class["score"])
        np.testing.assert_allclose(of_class["loss"], -np.log(right), rtol=1e-6)
    by_object = table.group_by("objectId").agg(pl.col("fold").n_unique())
    assert by_object["fold"].to_list() == [1] * len(by_object)


def test_a_feature_that_is_left_out_changes_no_score(finished, tmp_path):
    config, _, _ = finished
    config = dataclasses.replace(config, without=("ra", "drb"), max_epochs=1)
    bank = run(config, tmp_path / "without")
    assert bank.provenance["h"]["without"] == ["ra", "drb"]
    scorer = Scorer.load(tmp_path / "without")
    split = load_split(config.dataset, "validation")
    scores = scorer.score_arrays(split.features, split.triplets)
    for name, same in {"ra": True, "drb": True, "magpsf": False}.items():
        changed = split.features.copy()
        changed[:, FEATURE_NAMES.index(name)] = np.linspace(-999, 300, len(changed))
        found = scorer.score_arrays(changed, split.triplets)
        assert np.array_equal(found, scores) == same
    with pytest.raises(TrainingError, match="ZTF have no feature colour"):
        run(dataclasses.replace(config, without=("colour",)), tmp_path / "other")


def test_another_heads_labels_change_nothing(finished, tmp_path):
    config, _, bank = finished
    changed = dataclasses.replace(config, heads=("v", "x"), positives={"x": ("b", "o", "n")})
    other = run(changed, tmp_path / "other")
    chex.assert_trees_all_equal(one_head(other, "v"), one_head(bank, "v"))


def test_streaming_gives_the_same_heads(finished, tmp_path):
    config, _, bank = finished
    streamed = run(dataclasses.replace(config, memory_limit_gb=0.0), tmp_path / "streamed")
    chex.assert_trees_all_equal(head_weights(streamed.heads), head_weights(bank.heads))


@pytest.mark.parametrize("memory_limit_gb", [None, 0.0])
def test_all_heads_in_one_program_come_to_the_same(finished, tmp_path, memory_limit_gb):
    """As on an accelerator, with its own form of the network; a CPU has those of its own."""
    config = dataclasses.replace(finished[0], max_epochs=1, round_two=False)
    run(config, tmp_path / "in_turn")
    # dropout follows from the part of a batch that an alert is in
    config = dataclasses.replace(
        config, memory_limit_gb=memory_limit_gb, microbatch=step._CPU_MICROBATCH
    )
    with mock.patch("jax.default_backend", return_value="gpu"):
        run(config, tmp_path / "together")
    pairs = zip(records(tmp_path / "in_turn"), records(tmp_path / "together"), strict=True)
    for one, other in pairs:
        assert one["heads"].keys() == other["heads"].keys()
        for name, values in one["heads"].items():
            for key, value in values.items():
                assert other["heads"][name][key] == pytest.approx(value, rel=1e-3), key


# --- interruptions ---------------------------------------------------------------------------


def start_process(config, workdir):
    """The command, in a process of its own."""
    arguments = [
        *("--config.dataset", config.dataset, "--config.heads", *config.heads),
        *("--config.model.filters", 4, 4, "--config.model.dense-units", 8, 8),
        *("--config.model.head-units", 4),
        *("--config.max-epochs", config.max_epochs),
        *("--config.patience", config.patience, "--config.balance", config.balance),
        *("--config.plateau-patience", config.plateau_patience),
        *("--config.learning-rate", config.learning_rate),
        *("--config.segment-steps", config.segment_steps, "--config.batch-size", 16),
        *("--config.checkpoint-seconds", config.checkpoint_seconds),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "train.main", "--workdir", workdir, *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_state(process, workdir, number):
    """Waits until a state of this number or a later one is complete."""
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        states = [p.name for p in (workdir / "state").glob("*") if p.name.isdigit()]
        if states and int(max(states)) >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"no state {number}: {process.communicate(timeout=5)[1]}")


@pytest.fixture(scope="module")
def saved_often(simulated_dataset, tmp_path_factory):
    """An uninterrupted run that saves its state after every segment."""
    workdir = tmp_path_factory.mktemp("saved_often") / "run"
    config = small(simulated_dataset, checkpoint_seconds=0.0, max_epochs=2)
    return config, workdir, run(config, workdir)


def test_killed_and_terminated_runs_end_with_the_same_bits(saved_often, tmp_path):
    config, whole, expected = saved_often
    workdir = tmp_path / "interrupted"

    process = start_process(config, workdir)
    wait_for_state(process, workdir, 3)
    process.kill()
    process.communicate()
    (workdir / "dropped" / "h.csv").unlink()
    (workdir / "state" / "000999.orbax-checkpoint-tmp").mkdir()  # as a killed save leaves it
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 7, "hea')  # as a killed write leaves it

    process = start_process(config, workdir)
    wait_for_state(process, workdir, 6)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "the same command goes on" in errors
    assert not (workdir / "heads").exists()

    bank = run(config, workdir)
    chex.assert_trees_all_equal(head_weights(bank.heads), head_weights(expected.heads))
    assert len(list((workdir / "state").iterdir())) == 2
    assert [r["heads"] for r in records(workdir)] == [r["heads"] for r in records(whole)]
    for path in (whole / "dropped").iterdir():
        assert (workdir / "dropped" / path.name).read_bytes() == path.read_bytes()


def test_nothing_goes_to_the_device_unasked_in_the_loop(simulated_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(population.Population, "epoch", lambda _: jnp.sin(np.float32(1)))
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        run(small(simulated_dataset), tmp_path)


def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    config, workdir, bank = finished
    again, stops = None, 0
    while again is None:
        stop = AskedToStop(8 + stops % 3)
        monkeypatch.setattr(loop, "finishing", lambda _, stop=stop: contextlib.nullcontext(stop))
        again = run(config, tmp_path / "run")
        stops += again is None
    assert stops > 3
    chex.assert_trees_all_equal(head_weights(again.heads), head_weights(bank.heads))
    assert [r["heads"] for r in records(tmp_path / "run")] == [r["heads"] for r in records(workdir)]


# Orbax gives up at the first damaged array, and leaves the tasks for the others behind
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_state_gives_way_to_the_one_before(saved_often, tmp_path):
    config, workdir, bank = saved_often
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "heads")
    newest = max((copy / "state").iterdir())
    for path in newest.rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    again = run(config, copy)
    chex.assert_trees_all_equal(head_weights(again.heads), head_weights(bank.heads))


def test_the_folder_belongs_to_one_run(finished, tmp_path):
    config, workdir, _ = finished
    model = dataclasses.replace(SMALL, filters=(2, 2))
    other = dataclasses.replace(config, seed=1, model=model)
    with pytest.raises(OutputError, match=r"another run: config\.model\.filters, config\.seed d"):
        run(other, workdir)
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty, and no training run's folder"):
        run(config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


# --- checkpoints to extend -------------------------------------------------------------------


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A checkpoint of three heads."""
    heads = create_heads(SMALL, 3, jax.random.key(5))
    provenance = {
        name: {"version": f"test_{name}+T{number}", "temperature": number}
        for number, name in enumerate("hob", 2)
    }
    bank = HeadBank(heads, ("h", "o", "b"), provenance)
    path = tmp_path_factory.mktemp("earlier") / "heads"
    save_heads(bank, path)
    return path, bank


def test_one_head_is_replaced_and_one_is_added(simulated_dataset, earlier, tmp_path):
    path, before = earlier
    config = small(
        simulated_dataset,
        heads=("o", "real"),
        positives={"real": ("h", "o", "n", "v")},
        init=path,
        max_epochs=1,
        round_two=False,
    )
    run(config, tmp_path / "run")
    bank = load_heads(tmp_path / "run")
    assert bank.classes == ("h", "o", "b", "real")
    for name in ("h", "b"):
        chex.assert_trees_all_equal(one_head(bank, name), one_head(before, name))
        assert bank.provenance[name] == before.provenance[name]
    assert bank.temperatures.tolist() == [2, 1, 4, 1]
    assert "+T" not in bank.provenance["o"]["version"]
    new, old = one_head(bank, "o"), one_head(before, "o")
    assert all(not np.array_equal(new[name], old[name]) for name in new)
    assert bank.provenance["real"]["positives"] == ["h", "o", "n", "v"]
    assert Scorer.load(tmp_path / "run").score_arrays(
        np.zeros((1, 25), np.float32), np.zeros((1, 63, 63, 3), np.float32)
    ).shape == (1, 4)


def test_a_warm_start_goes_on_from_the_checkpoints_weights(simulated_dataset, earlier, tmp_path):
    path, before = earlier
    config = small(
        simulated_dataset,
        heads=("o",),
        init=path,
        warm_start=True,
        max_epochs=1,
        round_two=False,
        learning_rate=1e-9,
    )
    bank = run(config, tmp_path / "run")
    chex.assert_trees_all_close(one_head(bank, "o"), one_head(before, "o"), atol=1e-6)
    assert np.isinf(one_head(bank, "o")["norm.limit"]).all()


def test_a_checkpoint_that_does_not_fit_is_refused(simulated_dataset, earlier, tmp_path):
    path, before = earlier
    config = small(simulated_dataset, init=path, model=HeadConfig(filters=(2, 2)))
    with pytest.raises(CheckpointError, match="other hyperparameters"):
        run(config, tmp_path / "a")
    save_heads(dataclasses.replace(before, preset="boom"), tmp_path / "boom")
    config = small(simulated_dataset, init=tmp_path / "boom")
    with pytest.raises(CheckpointError, match="for the preset boom, the dataset for acai"):
        run(config, tmp_path / "b")


# --- what cannot go well ---------------------------------------------------------------------


def test_a_head_without_alerts_is_refused(simulated_dataset, tmp_path):
    config = small(simulated_dataset, heads=("h", "kilonova"))
    with pytest.raises(DatasetError, match="head kilonova: no positive alert in the split valid"):
        run(config, tmp_path / "run")


def test_a_run_that_diverges_says_so(simulated_dataset, tmp_path):
    config = small(simulated_dataset, learning_rate=1e30, max_epochs=1)
    with pytest.raises(TrainingError, match=r"no validation loss of \['h', 'v'\] was finite"):
        run(config, tmp_path / "run")


def test_wandb_offline(simulated_dataset, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = small(simulated_dataset, max_epochs=1, round_two=False, wandb="offline")
    run(config, tmp_path / "run")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_wandb_missing_is_said_before_any_step(simulated_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r'pip install "acai_jax\[wandb\]"'):
        run(small(simulated_dataset, wandb="offline"), tmp_path / "run")
