"""The loop of choosing, labelling and training: it goes on from where it stopped."""

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from acai_jax.datasets.labels import read_labels
from acai_jax.errors import LabelsError, OutputError
from acai_jax.labelling.export import export_labels
from acai_jax.labelling.queue import read_queue
from acai_jax.labelling.store import LabelStore
from acai_jax.network.head_config import HeadConfig
from acai_jax.report.active_page import Round, write_active_page
from acai_jax.training import Config
from acai_jax.training.folder import own_folder
from train.active import Loop, answer, choose, quotas_of, run, unanswered


@pytest.fixture
def loop(simulated_dataset, tmp_path) -> Loop:
    """The first round on 300 simulated alerts, with a small head."""
    small = HeadConfig(filters=(2, 2), dense_units=(4, 4), head_units=4)
    return Loop(
        pool=simulated_dataset.parent / "alerts",
        workdir=tmp_path / "active",
        truth=simulated_dataset.parent / "labels.csv",
        rounds=0,
        first=110,
        count=20,
        draws=5,
        workers=0,
        train=Config(model=small, heads=("b",), max_epochs=1, round_two=False, folds=2),
    )


def test_the_loop_goes_round_and_nothing_is_done_twice(loop):
    rounds = run(loop)
    assert [(each.number, each.labels, dict(each.picked)) for each in rounds] == [
        (0, 110, {"random": 110})
    ]
    before = written(loop.workdir)
    assert run(loop) == rounds
    after = written(loop.workdir)
    assert before.keys() == after.keys()
    assert {path.name for path in after if before[path] != after[path]} == {"rounds.html"}
    # what the heads say decides what is labelled next
    first, second = (loop.workdir / f"round-{number:02d}" for number in (0, 1))
    second.mkdir()
    queue = choose(loop, 1, second, first)
    reasons = set(queue["why"])
    assert reasons == {"boundary", "disagreement", "relabel", "confident", "random"}
    assert set(queue.filter(pl.col("why") != "random")["split"]) == {"train"}
    store = LabelStore(loop.workdir / "labels.db")
    answer(queue, store, loop.truth)
    answer(queue, store, loop.truth)  # a run that was killed begins again
    assert unanswered(queue, store) == 0
    export_labels(store, second / "labels", first / "labels" / "labels.csv")
    store.close()
    labels = read_labels(second / "labels" / "labels.csv")
    assert len(labels.table) == 130 - len(queue.filter(why="relabel"))
    active = queue.filter(pl.col("why").is_in(["boundary", "disagreement", "confident"]))
    assert labels.active == set(active["candid"])


def test_half_of_the_picks_are_random_while_a_head_is_missing(loop):
    two = dataclasses.replace(loop, train=dataclasses.replace(loop.train, heads=("h", "b")))
    assert quotas_of(two, ("h", "b")) == {}
    assert quotas_of(two, ("b",)) == {"boundary": 1.0, "random": 1.0}
    given = {"boundary": 0.6, "confident": 0.3, "random": 0.1}
    asked = dataclasses.replace(two, quotas=given)
    assert quotas_of(asked, ("b", "h")) == given
    assert quotas_of(asked, ("b",)) == pytest.approx(given | {"random": 0.9})
    random = dataclasses.replace(two, quotas={"random": 1.0})
    assert quotas_of(random, ()) == {"random": 1.0}


def written(folder: Path) -> dict[Path, int]:
    """When each file was."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_person_is_waited_for(loop, capsys):
    by_hand = dataclasses.replace(loop, truth=None)
    assert run(by_hand) is None
    said = " ".join(capsys.readouterr().err.split())
    queue_file = by_hand.workdir / "round-00" / "queue.parquet"
    assert f"110 alerts to label: acai-jax label {queue_file}" in said
    queue = read_queue(queue_file)
    assert set(queue["why"]) == {"random"}
    store = LabelStore(by_hand.workdir / "labels.db")
    answer(queue.head(109), store, loop.truth)
    assert run(by_hand) is None
    assert "1 alerts to label" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(LabelsError, match="has no label of candid 7"):
        answer(queue.with_columns(pl.lit(7, pl.Int64).alias("candid")).head(1), store, loop.truth)
    store.close()


def test_the_page_shows_rounds_without_an_evaluation(tmp_path):
    rounds = [
        Round(0, 100, {"random": 100}, {}, {}),
        Round(1, 150, {"random": 5, "boundary": 45}, {"h": 0.9}, {"h": 0.125}),
    ]
    page = write_active_page(rounds, tmp_path / "rounds.html", facts={"alerts": "<night>"})
    text = page.read_text()
    for wanted in ("12.50 %", "45 boundary, 5 random", "&lt;night&gt;", "2 rounds, 150 labels"):
        assert wanted in text
    write_active_page(rounds[:1], page, facts={})
    assert "Learning curves" in page.read_text()


def test_a_folder_has_one_loop_at_a_time(loop):
    message = f"another run is writing to {loop.workdir}"
    with own_folder(loop.workdir), pytest.raises(OutputError, match=message):
        run(loop)
