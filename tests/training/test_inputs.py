"""The data of a run: what identifies a dataset, segments in memory and streamed, bad numbers."""

import json
import shutil

import numpy as np
import pytest

from acai_jax.datasets.records import Records, load_split
from acai_jax.errors import DatasetError
from acai_jax.training import inputs
from acai_jax.training.inputs import dataset_facts, fits_in_memory


def load(dataset, split="train", *, resident=True):
    return inputs.checked_split(dataset, split, resident=resident, progress=lambda n: None)


def test_facts_identify_the_dataset(simulated_dataset, tmp_path):
    facts = dataset_facts(simulated_dataset)
    assert facts.name == "ztf_acai/alerts/1.0.0"
    assert facts.preset == "acai"
    assert sum(facts.records.values()) == 300
    assert dataset_facts(simulated_dataset).digest == facts.digest
    copy = tmp_path / "copy"
    shutil.copytree(simulated_dataset, copy)
    assert dataset_facts(copy) == facts
    path = copy / "ztf_acai" / "alerts" / "1.0.0" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["labels"]["sha256"] = "0" * 64
    path.write_text(json.dumps(metadata))
    assert dataset_facts(copy).digest != facts.digest


def test_memory_limit(simulated_dataset):
    facts = dataset_facts(simulated_dataset)
    stamps = (facts.records["train"] + facts.records["validation"]) * 63 * 63 * 3 * 4
    assert fits_in_memory(facts, None)
    assert fits_in_memory(facts, 1.01 * stamps / 1e9)
    assert not fits_in_memory(facts, 0.99 * stamps / 1e9)


def test_a_split_is_what_the_dataset_holds(simulated_dataset):
    expected, found = load_split(simulated_dataset, "train"), load(simulated_dataset)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.triplets, expected.triplets)
    assert load(simulated_dataset, resident=False).triplets is None


def test_streamed_segments_are_those_in_memory(simulated_dataset):
    rng = np.random.default_rng(0)
    count = len(Records(simulated_dataset, "train"))
    batches = rng.permutation(count)[:77].astype(np.int32)
    batches = np.pad(batches, (0, 3), constant_values=-1).reshape(10, 8)
    pairs = zip(
        load(simulated_dataset).segments(batches, 4),
        load(simulated_dataset, resident=False).segments(batches, 4),
        strict=True,
    )
    seen = []
    for (resident, everything), (streamed, here) in pairs:
        np.testing.assert_array_equal(resident.rows, streamed.rows)
        assert resident.rows.shape == (4, 8)
        assert here.shape == (32, 63, 63, 3)
        taken = resident.rows >= 0
        np.testing.assert_array_equal(
            np.asarray(everything)[resident.slots[taken]], here[streamed.slots[taken]]
        )
        seen.extend(resident.rows[taken])
    assert seen == batches[batches >= 0].tolist()


def test_numbers_that_are_none_are_named(simulated_dataset, monkeypatch):
    candid = Records(simulated_dataset, "validation")[3]["candid"]
    genuine = Records._parse

    def spoilt(self, raw, *, name, index):
        record = genuine(self, raw)
        if record["candid"] == candid:
            record[name] = record[name].copy()
            record[name][index] = np.nan
        return record

    for name, index, message in (
        ("features", 4, f"alert {candid} of validation: magpsf is not finite"),
        ("triplet", (1, 2, 0), f"alert {candid} of validation: a pixel is not finite"),
    ):
        monkeypatch.setattr(
            Records,
            "_parse",
            lambda self, raw, name=name, index=index: spoilt(self, raw, name=name, index=index),
        )
        with pytest.raises(DatasetError, match=message):
            load(simulated_dataset, "validation", resident=False)


def test_what_cannot_be_trained_on(simulated_dataset, tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        dataset_facts(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(simulated_dataset, copy)
    (path,) = copy.rglob("dataset_info.json")
    info = json.loads(path.read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] != "validation"]
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="no alert in the split validation: too few objects"):
        dataset_facts(copy)
