"""Which alerts are picked, and what is refused."""

import json
from collections import Counter

import jax
import numpy as np
import polars as pl
import pytest
from command_line import acai_jax
from hypothesis import given
from hypothesis import strategies as st
from synthetic import avro_bytes, packet_record

from acai_jax.datasets.labels import read_labels
from acai_jax.datasets.splits import split_of
from acai_jax.errors import PickError, TableError
from acai_jax.labelling.embed import last_layer_of
from acai_jax.labelling.pick import pick, spread
from acai_jax.labelling.queue import PICKED, asked_of, read_queue, read_scores
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer

FIRST = 2_475_433_850_015_000_000


def scores(alerts=400, per_object=4, seed=0, *, ensemble=True, heads="hv") -> pl.DataFrame:
    """A table of `read_scores`."""
    rng = np.random.default_rng(seed)
    columns = {
        "candid": FIRST + np.arange(alerts),
        "objectId": [f"ZTF26pick{number // per_object:04d}" for number in range(alerts)],
        "jd": 2460500.5 + rng.uniform(0, 10, alerts),
        "ra": rng.uniform(0, 360, alerts),
        "dec": rng.uniform(-30, 90, alerts),
        "fid": rng.integers(1, 4, alerts),
        "magpsf": rng.normal(18.5, 1.0, alerts).astype(np.float32),
        "origin": ["night.tar.gz"] * alerts,
    }
    for head in heads:
        columns[f"acai_{head}"] = rng.beta(0.5, 0.8, alerts).astype(np.float32)
        if ensemble:
            columns[f"acai_{head}_mi"] = rng.uniform(0, 0.5, alerts).astype(np.float32)
        columns[f"acai_{head}_version"] = ["v1"] * alerts
    return pl.DataFrame(columns).with_columns(preset=pl.lit("acai"))


@pytest.fixture
def labels(tmp_path):
    """Labels of the first 20 alerts of `scores`: of 5 objects."""
    table = scores().head(20)
    path = tmp_path / "labels.csv"
    named = table.select(pl.col("objectId").alias("oid"), "candid", pl.lit("h").alias("label"))
    named.write_csv(path)
    return path


def test_quotas_are_kept_and_every_object_is_picked_once():
    table = scores()
    queue = pick(table, 60)
    counts = Counter(queue["why"])
    assert counts == {"boundary": 36.0, "disagreement": 12, "confident": 6, "random": 6.0}
    assert queue["objectId"].n_unique() == 60
    assert set(queue.columns) >= {*PICKED, "candid", "objectId", "origin", "acai_h"}
    for why, ranks in (
        queue.group_by("why", "head")
        .agg(pl.col("rank").sort())
        .select(pl.col("why"), "rank")
        .iter_rows()
    ):
        assert ranks == [*range(1, len(ranks) + 1)], why
    assert queue.filter(why="boundary")["head"].value_counts()["count"].to_list() == [18, 18]
    assert set(queue["model"]) == {"v1"}


def test_the_same_input_gives_the_same_queue_and_another_round_another():
    table = scores()
    assert pick(table, 30).equals(pick(table, 30))
    assert not pick(table, 30).equals(pick(table, 30, labelling_round=2))


def test_active_picks_are_of_training_objects_and_random_ones_of_all():
    queue = pick(scores(4000), 900, {"random": 1.0, "boundary": 1.0})
    active, random = (queue.filter(pl.col("why") == why) for why in ("boundary", "random"))
    assert set(active["split"]) == {"train"}
    assert set(random["split"]) == {"train", "validation", "test"}
    assert [split_of(name) for name in queue["objectId"]] == queue["split"].to_list()
    assert active["probability"].null_count() == len(active)
    # 450 of 1000 objects, one of four alerts
    assert set(random["probability"]) == {0.45 / 4}


def test_the_boundary_is_the_threshold_of_each_head():
    table = scores(4000, 1)
    queue = pick(table, 40, {"boundary": 9.0, "random": 1.0}, thresholds={"h": 0.7})
    of_head = {head: rows for (head,), rows in queue.filter(why="boundary").group_by("head")}
    assert of_head["h"]["score"].is_between(0.65, 0.75).all()
    assert of_head["v"]["score"].is_between(0.16, 0.24).all()
    assert (of_head["h"]["score"] == of_head["h"]["acai_h"].cast(pl.Float64)).all()


@pytest.mark.parametrize("why", ["disagreement", "confident"])
def test_the_largest_values_are_picked(why):
    table = scores(2000, 1)
    queue = pick(table, 20, {why: 5.0, "random": 5.0})
    column = "acai_{}_mi" if why == "disagreement" else "acai_{}"
    train = table.filter(pl.Series([split_of(name) == "train" for name in table["objectId"]]))
    for head in "hv":
        values = train[column.format(head)].sort(descending=True)
        picked = queue.filter(why=why, head=head).join(table, "candid", suffix="_of_table")
        assert (picked[column.format(head)] >= values[60]).all()


def test_objects_with_labels_are_left_out(labels):
    queue = pick(scores(), 95, {"random": 1.0}, labels=read_labels(labels))
    assert len(queue) == 95  # the other objects, all of them
    assert queue["objectId"].min() == "ZTF26pick0005"


def losses_of(table: pl.DataFrame, worst: dict[int, float]) -> pl.DataFrame:
    rows = [
        (candid, head, "h", worst.get(candid, 0.01) if head == "v" else 0.02)
        for candid in table["candid"]
        for head in "hv"
    ]
    return pl.DataFrame(rows, ["candid", "class", "label", "loss"], orient="row")


def test_labels_that_out_of_fold_heads_contradict_are_asked_for_again(labels):
    table = scores()
    of_object = {}
    for candid, name in table.head(20).select("candid", "objectId").iter_rows():
        of_object.setdefault(name, []).append(candid)
    trained = [ids for name, ids in of_object.items() if split_of(name) == "train"]
    worst = {trained[0][1]: 9.0, trained[1][2]: 8.0, trained[0][2]: 7.0}
    found = pick(
        table.tail(390),  # some of them are not in tonight's table
        20,
        {"relabel": 2.0, "random": 18.0},
        labels=read_labels(labels),
        losses=losses_of(table.head(20), worst),
    ).filter(why="relabel")
    assert found.sort("rank")["candid"].to_list() == [trained[0][1], trained[1][2]]
    assert set(found["head"]) == {"v"}
    # a label that was changed since is not the one that was contradicted
    changed = losses_of(table.head(20), worst).with_columns(pl.lit("n").alias("label"))
    options = {"labels": read_labels(labels), "losses": changed}
    assert "relabel" not in set(pick(table, 20, **options)["why"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"quotas": {"boundary": 95.0, "random": 5.0}}, "5.0 % are random, not 10 % or more"),
        ({"quotas": {"boundary": 1.0}}, "0.0 % are random"),
        ({"quotas": {"entropy": 1.0, "random": 1.0}}, "no reason 'entropy'"),
        ({"quotas": {"random": float("nan")}}, "numbers from 0 up"),
        ({"quotas": {"random": 1.0, "relabel": 1.0}}, "relabel needs out-of-fold losses"),
        ({"count": 0}, "count is 0"),
        ({"thresholds": {"h": 1.0}}, "threshold is 1.0"),
        ({"losses": pl.DataFrame()}, "losses come with the labels"),
    ],
)
def test_what_cannot_be_picked_is_said(options, problem):
    with pytest.raises(PickError, match=problem):
        pick(scores(), **{"count": 10, **options})


def test_what_there_are_no_columns_for_is_said():
    with pytest.raises(PickError, match="disagreement needs scores of ensembles"):
        pick(scores(ensemble=False), 10, {"disagreement": 1.0, "random": 1.0})
    with pytest.raises(PickError, match="boundary needs scores"):
        pick(scores(heads=""), 10, {"boundary": 1.0, "random": 1.0})
    assert set(pick(scores(ensemble=False), 10)["why"]) == {"boundary", "confident", "random"}
    assert set(pick(scores(heads=""), 10)["why"]) == {"random"}
    with pytest.raises(PickError, match="nothing is left to label"):
        pick(scores().head(0), 10)


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        (pl.DataFrame({"candid": [1], "class": ["h"], "label": ["h"]}), "no column loss"),
        (
            pl.DataFrame({"candid": [1.0], "class": ["h"], "label": ["h"], "loss": [1.0]}),
            "candid is no Int64",
        ),
        (
            pl.DataFrame({"candid": [1], "class": ["h"], "label": ["h"], "loss": [np.inf]}),
            "not finite",
        ),
    ],
)
def test_bad_losses_are_refused(labels, losses, problem):
    with pytest.raises(TableError, match=problem):
        pick(scores(), 10, labels=read_labels(labels), losses=losses)


@given(st.integers(1, 200), st.integers(1, 120), st.integers(0, 3))
def test_a_tenth_is_random_and_no_object_comes_twice(objects, count, seed):
    queue = pick(scores(objects, 1, seed), count, seed=seed)
    assert queue["objectId"].is_unique().all()
    assert len(queue) <= min(count, objects)
    assert len(queue.filter(why="random")) == min(objects, -(-count // 10))


def test_near_duplicates_are_not_picked():
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.normal(0, 0.01, (50, 3)), rng.normal(5, 1.0, (5, 3))])
    chosen = spread(places, 6, np.empty((0, 3)))
    assert sorted(chosen[1:]) == [*range(50, 55)]
    assert spread(places, 1, places[:50])[0] >= 50


# tables ------------------------------------------------------------------------------------------


def lsst_table() -> pl.DataFrame:
    return scores(4).rename({"candid": "diaSourceId"})


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ([scores(4), lsst_table()], "two surveys: ZTF in .*0.parquet, LSST in .*1.parquet"),
        ([scores(4).with_columns(diaSourceId=7)], "mixes alerts of ZTF and LSST"),
        ([scores(4), scores(4, heads="h")], "different heads: acai_h, acai_v in .*0.parquet"),
        (
            [scores(4), scores(8).tail(4).with_columns(acai_h_version=pl.lit("v2"))],
            "acai_h_version is v1, v2",
        ),
        ([scores(4).with_columns(preset=pl.Series(["acai", "boom"] * 2))], "preset is acai, boom"),
        ([scores(4).with_columns(pl.col("candid").cast(pl.Float64))], "candid is Float64"),
        ([scores(4).with_columns(acai_h=pl.lit(1.5))], "acai_h holds no scores from 0 to 1"),
        ([scores(4).with_columns(acai_h=pl.lit("much"))], "acai_h holds no scores"),
        ([pl.DataFrame({"x": [1]})], "0.parquet: not a table of alerts"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(tmp_path, tables, problem):
    paths = [tmp_path / f"{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        table.write_parquet(path)
    with pytest.raises(TableError, match=problem):
        read_scores(paths)


def test_alerts_without_scores_are_left_out_and_doubles_are_one(tmp_path):
    table = scores(8).with_columns(
        acai_h=pl.when(pl.col("candid") == FIRST).then(None).otherwise(pl.col("acai_h"))
    )
    for name in ("a", "b"):
        table.write_parquet(tmp_path / f"{name}.parquet")
    found = read_scores([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert found["candid"].to_list() == [FIRST + number for number in range(1, 8)]


def test_queues_are_told_from_other_tables(tmp_path):
    path = tmp_path / "queue.parquet"
    queue = pick(scores(), 10)
    queue.write_parquet(path)
    assert read_queue(path).equals(queue)
    asked = asked_of(queue)[queue["candid"][0]]
    assert (asked.why, asked.round) == (queue["why"][0], 1)
    scores().write_parquet(path)
    with pytest.raises(TableError, match="it has no why"):
        read_queue(path)
    pl.concat([queue, queue]).write_parquet(path)
    with pytest.raises(TableError, match="there twice"):
        read_queue(path)
    path.write_bytes(b"no table")
    with pytest.raises(TableError, match="is no queue"):
        read_queue(path)


# the command -------------------------------------------------------------------------------------


def test_the_command_picks_in_the_last_layers_space(tmp_path):
    from acai_jax.network.checkpoints import save_heads

    alerts = tmp_path / "night.avro"
    alerts.write_bytes(avro_bytes(*(packet_record(number) for number in range(12))))
    config = HeadConfig(filters=(2, 2, 2, 2), dense_units=(4, 4), head_units=3)
    heads = create_heads(config, 2, jax.random.key(0))
    versions = {name: {"version": "v1"} for name in "hv"}
    bank = HeadBank(heads, ("h", "v"), versions)
    table = Scorer(bank).score(alerts, num_workers=0)
    table.write_parquet(tmp_path / "scores.parquet")
    places = last_layer_of(bank)(table)
    assert places.shape == (12, 6)
    assert len(np.unique(places.round(4), axis=0)) > 6
    save_heads(bank, tmp_path / "heads")
    metrics = tmp_path / "metrics.json"
    metrics.write_text(
        json.dumps({"heads": {"h": {"balanced_threshold": 0.3}, "v": {"balanced_threshold": None}}})
    )
    out = tmp_path / "queue.parquet"
    command = ("pick", tmp_path / "scores.parquet", "--out", out, "--count", 5)
    options = ("--quotas", "boundary", 3, "random", 2, "--model", tmp_path / "heads")
    result = acai_jax(*command, *options, "--metrics", metrics)
    assert result.returncode == 0, result.stderr
    assert len(read_queue(out)) == 5
    assert f"acai-jax label {out}" in result.stderr
    again = acai_jax(*command)
    assert (again.returncode, "--overwrite" in again.stderr) == (1, True)
    metrics.write_text("[]")
    bad = acai_jax(*command, "--overwrite", "--metrics", metrics)
    assert (bad.returncode, "is no metrics.json" in bad.stderr) == (1, True)
    alerts.unlink()
    gone = acai_jax(*command, "--overwrite", *options)
    assert (gone.returncode, "name them by --alerts" in gone.stderr) == (1, True)
