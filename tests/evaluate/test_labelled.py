"""Labelled alerts out of datasets and packets get the scores that the scorer gives them."""

from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import packet_from_record
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.datasets.builders.ztf_acai import Builder
from acai_jax.datasets.records import Records
from acai_jax.errors import DatasetError, EvaluationError, LabelsError, SourceError
from acai_jax.evaluate.labelled import AlertsSource, DatasetSource, open_source
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer

ALERTS = 30


def record(number: int) -> dict:
    """Alerts of an object come in threes; of one, a feature is null."""
    changes = {"objectId": f"ZTF26obj{number // 3:04d}"}
    if number == 4:
        changes["scorr"] = None
    return packet_record(number, **changes)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    heads = create_heads(HeadConfig(), 2, jax.random.key(0))
    return Scorer(HeadBank(heads, ("h", "b"), {name: {"version": "test"} for name in "hb"}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("labelled")
    (path / "alerts").mkdir()
    for name, numbers in (("1", range(20)), ("2", range(18, ALERTS))):  # 18 and 19 come twice
        (path / "alerts" / f"{name}.avro").write_bytes(avro_bytes(*map(record, numbers)))
    rows = [f"{record(n)['objectId']},{record(n)['candid']},{'hb'[n % 2]}" for n in range(25)]
    (path / "labels.csv").write_text("\n".join(["oid,candid,label", *rows]))
    return path


@pytest.fixture(scope="module")
def datasets(folder, tmp_path_factory) -> dict[str, Path]:
    built = {}
    for config in ("alerts", "alerts_stamps"):
        built[config] = tmp_path_factory.mktemp(config)
        Builder(
            sources=folder / "alerts",
            labels=folder / "labels.csv",
            num_workers=0,
            config=config,
            data_dir=built[config],
            file_format="array_record",
        ).download_and_prepare()
    return built


def expected_scores(scorer: Scorer, candids: pl.Series) -> pl.DataFrame:
    numbers = [int(candid) - record(0)["candid"] for candid in candids]
    return scorer.score_packets([packet_from_record(record(n)) for n in numbers])


def test_alerts_are_joined_to_their_labels(folder, scorer):
    (folder / "alerts" / "3.avro").write_bytes(b"poison")
    told: list[tuple[int, int]] = []
    source = AlertsSource([folder / "alerts"], folder / "labels.csv")
    found = source.scored(scorer, lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1] > 0
    assert sorted(found["candid"]) == [record(n)["candid"] for n in range(25)]
    assert source.facts["counts"] == {
        "alerts_read": ALERTS + 3,
        "unreadable": 1,
        "unlabelled": 5,
        "repeated": 2,
        "labels_without_alert": 0,
    }
    expected = expected_scores(scorer, found["candid"])
    for name in ("acai_h", "acai_b", "magpsf", "ra", "jd", "reason"):
        assert found[name].to_list() == expected[name].to_list()
    numbers = [candid - record(0)["candid"] for candid in found["candid"]]
    assert found["label"].to_list() == ["hb"[number % 2] for number in numbers]
    (unscored,) = found.filter(pl.col("acai_h").is_null()).to_dicts()
    assert (unscored["candid"], unscored["reason"]) == (record(4)["candid"], "null feature: scorr")
    (folder / "alerts" / "3.avro").unlink()


@pytest.mark.parametrize("config", ["alerts", "alerts_stamps"])
def test_datasets_give_the_same_scores(datasets, scorer, config):
    source = DatasetSource(datasets[config], "train")
    found = source.scored(scorer)
    records = Records(datasets[config], "train")
    assert found["candid"].to_list() == [each["candid"] for each in records]
    assert found["label"].to_list() == [each["label"] for each in records]
    expected = expected_scores(scorer, found["candid"])
    for name in ("acai_h", "acai_b", "magpsf", "ra", "dec", "jd", "fid", "ndethist"):
        assert found[name].to_list() == expected[name].to_list()
    assert source.facts["split"] == "train"
    assert source.facts["dataset"] == f"ztf_acai/{config}/1.0.0"


@pytest.mark.parametrize("config", ["alerts", "alerts_stamps"])
def test_stamps_of_a_dataset_are_read_again(datasets, scorer, config):
    source = DatasetSource(datasets[config], "train")
    rows = source.scored(scorer).tail(2)
    images = source.images(rows)
    assert list(images) == rows["candid"].to_list()
    assert all(image is not None for three in images.values() for image in three)


def test_stamps_of_alerts_are_read_again(folder, scorer):
    source = AlertsSource(folder / "alerts", folder / "labels.csv")
    rows = source.scored(scorer).filter(pl.col("candid") == record(22)["candid"])
    (images,) = source.images(rows).values()
    for image, name in zip(images, ("Science", "Template", "Difference"), strict=True):
        expected = decode_stamp(record(22)[f"cutout{name}"]["stampData"])
        np.testing.assert_array_equal(image, expected)


def test_other_labels_can_take_the_place_of_a_datasets(datasets, scorer, tmp_path):
    candids = [each["candid"] for each in Records(datasets["alerts"], "train")][:3]
    names = [each["objectId"] for each in Records(datasets["alerts"], "train")][:3]
    rows = [f"{name},{candid},dropped" for name, candid in zip(names, candids, strict=True)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["oid,candid,label", *rows, "ZTF20aaaaaaa,7,dropped"]))
    source = DatasetSource(datasets["alerts"], "train", labels)
    found = source.scored(scorer)
    assert found["candid"].to_list() == candids
    assert set(found["label"]) == {"dropped"}
    assert source.facts["counts"]["labels_without_alert"] == 1


def test_a_label_of_another_object_is_not_used(folder, scorer, tmp_path):
    labels = tmp_path / "labels.csv"
    rows = [f"{record(0)['objectId']},{record(0)['candid']},h", f"other,{record(3)['candid']},b"]
    labels.write_text("\n".join(["oid,candid,label", *rows]))
    found = AlertsSource(folder / "alerts", labels).scored(scorer)
    assert found["acai_h"].is_null().to_list() == [False, True]
    assert found["reason"][1] == "other object: the labels name other"


def test_labels_of_alerts_that_are_not_there_are_a_clear_error(folder, scorer, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("oid,candid,label\nZTF20aaaaaaa,7,h\n")
    with pytest.raises(EvaluationError, match=r"labelled by .*its candid 7 is not there"):
        AlertsSource(folder / "alerts", labels).scored(scorer)


def test_mistakes_are_clear_errors(folder, datasets):
    labels = folder / "labels.csv"
    with pytest.raises(EvaluationError, match="not both"):
        open_source(dataset=datasets["alerts"], alerts=[folder / "alerts"])
    with pytest.raises(EvaluationError, match="a file of labels"):
        open_source(alerts=[folder / "alerts"])
    with pytest.raises(EvaluationError, match="no splits"):
        open_source(alerts=[folder / "alerts"], labels=labels, split="test")
    with pytest.raises(DatasetError, match="no split 'nightly'"):
        open_source(dataset=datasets["alerts"], split="nightly")
    with pytest.raises(SourceError, match="no such file"):
        open_source(alerts=["nowhere"], labels=labels)
    with pytest.raises(LabelsError, match="No such file"):
        open_source(alerts=[folder / "alerts"], labels="nowhere.csv")
