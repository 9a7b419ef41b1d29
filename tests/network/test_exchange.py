"""Heads as one file: nothing is lost on the way, and nothing wrong comes back."""

import json
from importlib import resources

import chex
import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from acai_jax.errors import CheckpointError, UsageError
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.exchange import import_heads, shipped_models
from acai_jax.network.export import export_heads
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.pretrained import load_published

KEY = "acai_jax"


@pytest.fixture
def bank() -> HeadBank:
    heads = create_heads(HeadConfig(filters=(4, 8), dense_units=(5, 6)), 2, jax.random.key(0))
    provenance = {
        "h": {"version": "test_1", "temperature": 1.25},
        "kilonova": {"version": "test_2", "positives": ["SN Ia"]},
    }
    return HeadBank(heads, ("h", "kilonova"), provenance, "boom")


@pytest.fixture
def path(bank, tmp_path):
    export_heads(bank, tmp_path / "heads.safetensors")
    return tmp_path / "heads.safetensors"


def same(one: HeadBank, other: HeadBank) -> None:
    chex.assert_trees_all_equal(head_weights(one.heads), head_weights(other.heads))
    assert one.heads.config == other.heads.config
    for name in ("classes", "preset", "provenance", "survey"):
        assert getattr(one, name) == getattr(other, name)


def test_there_and_back_by_a_file_and_on_to_a_checkpoint(bank, path, tmp_path):
    same(import_heads(path), bank)
    same(load_heads(path), bank)
    save_heads(load_heads(path), tmp_path / "heads")
    same(load_heads(tmp_path / "heads"), bank)


def test_the_published_heads_keep_every_bit_and_where_they_come_from(real_data, tmp_path):
    bank = load_published(real_data / "acai_h5")
    export_heads(bank, tmp_path / "published.safetensors")
    same(import_heads(tmp_path / "published.safetensors"), bank)
    assert (tmp_path / "published.safetensors").stat().st_size < 300_000


def test_other_tools_find_tensors_by_name_and_a_description(path):
    with safe_open(path, "np") as file:
        assert file.get_slice("dense_1.kernel").get_shape() == [2, 25, 5]
        described = json.loads(file.metadata()[KEY])
    assert described["classes"] == ["h", "kilonova"]
    assert described["provenance"]["h"]["temperature"] == 1.25


def test_a_file_is_replaced_only_if_asked_and_has_its_own_suffix(bank, path, tmp_path):
    with pytest.raises(CheckpointError, match="exists already: --overwrite"):
        export_heads(bank, path)
    export_heads(bank, path, overwrite=True)
    with pytest.raises(UsageError, match=r"ends in one of \.safetensors"):
        export_heads(bank, tmp_path / "heads.bin")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        export_heads(bank, tmp_path / "file" / "heads.safetensors")


def change(path, weights=lambda tensors: tensors, facts=lambda description: description):
    with safe_open(path, "np") as file:
        description = json.loads(file.metadata()[KEY])
    save_file(weights(load_file(path)), path, {KEY: json.dumps(facts(description))})


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (lambda t: {k: t[k] for k in t if k != "score.bias"}, "missing weights: score.bias"),
        (lambda t: {**t, "more": np.zeros(2)}, "unknown weights: more"),
        (lambda t: {**t, "score.bias": np.zeros((2, 3), np.float32)}, "weights score.bias"),
        (lambda t: {**t, "score.bias": t["score.bias"].astype(np.float64)}, "float64"),
        (lambda t: {}, "missing weights"),
    ],
)
def test_wrong_weights_are_refused_by_name(path, weights, reason):
    change(path, weights)
    with pytest.raises(CheckpointError, match=reason):
        import_heads(path)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (lambda d: None, "holds no heads"),
        (lambda d: {**d, "format": "another 7"}, "but 'another 7'"),
        (lambda d: {**d, "survey": "lasair"}, "'lasair'"),
        (lambda d: {**d, "preset": "nobody"}, "unknown preset 'nobody'"),
        (lambda d: {**d, "feature_names": d["feature_names"][::-1]}, "in another order"),
        (lambda d: {**d, "stamp": 30}, "another stamp"),
        (lambda d: {**d, "classes": ["h"]}, "weights"),
        (lambda d: {**d, "provenance": {}}, "no version"),
        (lambda d: {**d, "config": {"depth": 3}}, "depth"),
        (lambda d: {k: v for k, v in d.items() if k != "preset"}, "preset"),
    ],
)
def test_a_wrong_description_is_refused_in_one_line(path, facts, reason):
    change(path, facts=facts)
    with pytest.raises(CheckpointError, match=reason) as caught:
        import_heads(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 7, 8, 100, 3000])
def test_a_torn_file_is_refused_by_name(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"damaged file of heads .*heads\.safetensors"):
        load_heads(path)


def test_a_weight_that_has_changed_is_noticed(path):
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="its weights are damaged"):
        load_heads(path)


def test_files_from_before_checksums_are_read(bank, path):
    change(path, facts=lambda d: {name: d[name] for name in d if name != "weights_sha256"})
    same(import_heads(path), bank)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="it holds no heads"):
        import_heads(tmp_path / "other.safetensors")


def test_models_come_with_the_package_and_a_card():
    assert "ztf-simulated" in shipped_models()
    folder = resources.files("acai_jax.network") / "shipped"
    for name in shipped_models():
        bank = load_heads(name)
        assert name == f"{bank.survey.name}-simulated"
        assert len((folder / f"{name}.safetensors").read_bytes()) < 500_000
