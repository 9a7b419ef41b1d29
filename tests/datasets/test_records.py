import pickle
import shutil

import grain
import numpy as np
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.sources import read_alerts
from acai_jax.datasets.builders.ztf_acai import Builder
from acai_jax.datasets.records import (
    Records,
    SplitArrays,
    images_of,
    load_split,
    open_dataset,
    packet_of,
)
from acai_jax.errors import DatasetError
from acai_jax.surveys.ztf import ZTF


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """data_dir of a dataset of twelve alerts of one object, in the split train."""
    folder = tmp_path_factory.mktemp("packaged")
    records = [packet_record(i, objectId="ZTF20aaaaaaa") for i in range(12)]
    (folder / "night.avro").write_bytes(avro_bytes(*records))
    rows = [f"ZTF20aaaaaaa,{r['candid']},{'hv'[i % 2]}" for i, r in enumerate(records)]
    (folder / "labels.csv").write_text("\n".join(["oid,candid,label", *rows]))
    for config in ("alerts", "alerts_stamps"):
        Builder(
            data_dir=folder / config,
            config=config,
            file_format="array_record",
            sources=folder / "night.avro",
            labels=folder / "labels.csv",
            num_workers=0,
        ).download_and_prepare()
    return folder


def test_dataset_is_found_from_above(packaged):
    version = packaged / "alerts" / "ztf_acai" / "alerts" / "1.0.0"
    for folder in (version, version.parent, packaged / "alerts"):
        assert str(open_dataset(folder).data_path) == str(version)


def test_what_is_no_dataset(packaged, tmp_path):
    with pytest.raises(DatasetError, match=r"several datasets in .*alerts_stamps/1.0.0"):
        open_dataset(packaged)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match="no dataset in"):
        open_dataset(tmp_path)
    (tmp_path / "incomplete.ABC_1.0.0").mkdir()
    (tmp_path / "incomplete.ABC_1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(DatasetError, match="no dataset in"):
        open_dataset(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DatasetError, match="is no dataset that TFDS can read"):
        open_dataset(tmp_path)


def test_records_are_what_tfds_reads(packaged):
    records = Records(packaged / "alerts", "train")
    source = open_dataset(packaged / "alerts").as_data_source("train")
    assert len(records) == len(source) == 12
    for ours, theirs in zip(records, source, strict=True):
        assert ours.keys() == theirs.keys() == set(records.names)
        for name, value in theirs.items():
            expected = value.decode() if isinstance(value, bytes) else value
            np.testing.assert_array_equal(ours[name], expected)
    assert records[0]["triplet"].dtype == np.float32
    assert records[0]["jd"].dtype == np.float64


def test_records_are_a_sequence(packaged):
    records = Records(packaged / "alerts", "train")
    candids = [record["candid"] for record in records]
    assert records[-1]["candid"] == records[np.int64(11)]["candid"] == candids[11]
    for index in (12, -13):
        with pytest.raises(IndexError, match=f"record {index} of 12"):
            records[index]
    assert repr(records).startswith("Records(")
    assert pickle.loads(pickle.dumps(records))[3]["candid"] == candids[3]


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_damaged_files_are_named(packaged, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(open_dataset(packaged / "alerts").data_path, folder)
    (shard,) = folder.glob("*-train.array_record-*")
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 255
    shard.write_bytes(raw[: len(raw) // 2] if damage == "cut" else raw)
    if damage == "removed":
        shard.unlink()
    with pytest.raises(DatasetError, match=r"damaged split 'train' in .*copy"):
        list(Records(folder, "train"))


def test_grain_reads_records(packaged):
    records = Records(packaged / "alerts", "train")
    dataset = grain.MapDataset.source(records).shuffle(seed=1).batch(5)
    batches = list(dataset.to_iter_dataset())
    assert [len(batch["candid"]) for batch in batches] == [5, 5, 2]
    assert batches[0]["triplet"].shape == (5, 63, 63, 3)
    candids = np.concatenate([batch["candid"] for batch in batches])
    assert candids.dtype == np.int64
    assert candids.tolist() != [record["candid"] for record in records]
    assert sorted(candids) == sorted(record["candid"] for record in records)


def test_a_split_as_arrays(packaged):
    train, records = load_split(packaged / "alerts", "train"), Records(packaged / "alerts", "train")
    assert isinstance(train, SplitArrays)
    assert train.triplets.shape == (12, 63, 63, 3)
    assert set(train.labels) == {"h", "v"}
    for row, record in enumerate(records):
        np.testing.assert_array_equal(train.triplets[row], record["triplet"])
        np.testing.assert_array_equal(train.features[row], record["features"])
        assert train.labels[row] == record["label"]
        assert (train.alert_ids[row], train.object_ids[row]) == (
            record["candid"],
            record["objectId"],
        )
        assert train.drb_source[row] == record["drb_source"]
        assert list(train.fields) == ["jd", "ra", "dec", "fid", "programid"]
        for name, column in train.fields.items():
            assert column[row] == record[name]


def test_unknown_splits(packaged):
    with pytest.raises(DatasetError, match=r"no split 'validation' in .*; there are: train"):
        load_split(packaged / "alerts", "validation")
    with pytest.raises(DatasetError, match="no split 'tarin'"):
        Records(packaged / "alerts", "tarin")


def test_raw_stamps(packaged):
    with pytest.raises(DatasetError, match="keeps raw stamps: read its Records"):
        load_split(packaged / "alerts_stamps", "train")
    with pytest.raises(DatasetError, match="keeps no raw stamps: build with alerts_stamps"):
        packet_of(Records(packaged / "alerts", "train")[0])
    records = {r["candid"]: r for r in Records(packaged / "alerts_stamps", "train")}
    for sent in read_alerts(packaged / "night.avro"):
        packet = packet_of(records[sent.candid])
        assert packet.objectId == "ZTF20aaaaaaa"
        assert packet.cutouts == sent.cutouts
        assert set(packet.candidate) == set(ZTF.dataset_fields) - ZTF.text_fields
        for name, value in packet.candidate.items():
            assert value == sent.candidate[name]
            assert type(value) is type(sent.candidate[name])


def test_other_formats_are_refused(packaged, tmp_path):
    version = tmp_path / "1.0.0"
    version.mkdir()
    for path in (packaged / "alerts/ztf_acai/alerts/1.0.0").glob("*.json"):
        (version / path.name).write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DatasetError, match=r"is not in ArrayRecord files: read it with tfds.load"):
        Records(version, "train")


def test_pixels_without_data_are_not_shown_as_dark():
    triplet = np.full((63, 63, 3), 0.02, np.float32)
    triplet[:5], triplet[:, 60:] = 0, 1e-9
    for image in images_of({"triplet": triplet}):
        assert image is not None
        assert np.isnan(image[:5]).all()
        assert np.isnan(image[:, 60:]).all()
        assert np.isfinite(image[5:, :60]).all()
