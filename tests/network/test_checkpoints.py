"""Checkpoints: nothing is lost on the way, and nothing incomplete comes back."""

import dataclasses
import gc
import json
import resource
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acai_jax.errors import CheckpointError
from acai_jax.network import checkpoints, description
from acai_jax.network.bank import HeadBank, apply_heads, create_heads
from acai_jax.network.head import head_weights, identity_norm, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.pretrained import load_published
from acai_jax.surveys.ztf import ZTF


@pytest.fixture
def bank() -> HeadBank:
    heads = create_heads(HeadConfig(filters=(4, 8), dense_units=(5, 6)), 2, jax.random.key(0))
    provenance = {
        "h": {"version": "test_1"},
        "kilonova": {"version": "test_2", "positives": ["SN Ia"]},
    }
    return HeadBank(heads, ("h", "kilonova"), provenance, "boom")


def test_round_trip(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    restored = checkpoints.load_heads(tmp_path / "heads")
    chex.assert_trees_all_equal(head_weights(restored.heads), head_weights(bank.heads))
    assert restored.heads.config == bank.heads.config
    assert (restored.classes, restored.preset) == (bank.classes, bank.preset)
    assert restored.provenance == bank.provenance


def test_published_heads_keep_their_provenance(real_data, tmp_path):
    bank = load_published(real_data / "acai_h5")
    checkpoints.save_heads(bank, tmp_path / "published")
    restored = checkpoints.load_heads(tmp_path / "published")
    chex.assert_trees_all_equal(head_weights(restored.heads), head_weights(bank.heads))
    assert restored.provenance["v"]["sha256"].startswith("be704366")
    assert restored.provenance["v"]["version"] == "d1_dnn_20201130"


def test_an_existing_checkpoint_is_kept_unless_asked(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    with pytest.raises(CheckpointError, match="exists already"):
        checkpoints.save_heads(bank, tmp_path / "heads")
    checkpoints.save_heads(bank, tmp_path / "heads", overwrite=True)


def test_a_folder_that_is_no_checkpoint_is_never_overwritten(bank, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "night.tar").write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoints.save_heads(bank, tmp_path / "data", overwrite=True)
    assert (tmp_path / "data" / "night.tar").read_bytes() == b"precious"


def save_altered(path, change):
    """Saves a checkpoint whose weights and description went through `change`."""
    from orbax.checkpoint import v1 as orbax

    weights = dict(head_weights(checkpoints.load_heads(path).heads))
    weights, description = change(weights, dict(orbax.metadata(path).custom_metadata))
    shutil.rmtree(path)
    orbax.save(path, weights, custom_metadata=description)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, d: ({k: v for k, v in w.items() if k != "join.bias"}, d), "missing weights: jo"),
        (lambda w, d: (w | {"extra": np.zeros(2, np.float32)}, d), "unknown weights: extra"),
        (lambda w, d: (w | {"join.bias": w["join.bias"][:, :-1]}, d), r"weights join\.bias: float"),
        (lambda w, d: (w | {"join.bias": w["join.bias"].astype(np.int32)}, d), "int32"),
        (lambda w, d: (w | {"join.bias": w["join.bias"] + 1}, d), "weights are damaged: their SHA"),
        (lambda w, d: (w, d | {"format": "other"}), "holds no heads"),
        (lambda w, d: (w, d | {"feature_names": d["feature_names"][::-1]}), "other features"),
        (lambda w, d: (w, d | {"survey": "decam"}), "alerts of 'decam'; .* knows ztf, lsst, w"),
        (lambda w, d: (w, d | {"stamp": 30}), "another stamp than alerts of ZTF have: 30, not 63"),
        (lambda w, d: (w, d | {"channels": d["channels"][::-1]}), "another channels"),
        (lambda w, d: (w, d | {"sentinel": 0.0}), "another sentinel"),
        (lambda w, d: (w, d | {"preset": "fink"}), "unknown preset 'fink'"),
        (lambda w, d: (w, d | {"classes": ["h"]}), r"\[2, "),
        (lambda w, d: (w, d | {"provenance": {}}), "no version for"),
    ],
)
def test_restoring_is_strict(bank, tmp_path, change, message):
    checkpoints.save_heads(bank, tmp_path / "heads")
    save_altered(tmp_path / "heads", change)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load_heads(tmp_path / "heads")


@pytest.mark.parametrize(
    ("classes", "version", "message"),
    [
        (("h", "h"), "1", "different names"),
        (("h", "h_version"), "1", "taken for the version of 'h'"),
        (("h", "../../x"), "1", "can be no file's"),
        (("h", ".."), "1", "can be no file's"),
        (("h", "x\ny"), "1", "can be no file's"),
        (("h", "x" * 100), "1", "too long"),
        (("h", "x"), 7, "no text of one line: 7"),
        (("h", "x"), "a\nb", "no text of one line"),
    ],
)
def test_names_and_versions_are_refused_on_save_and_load(bank, tmp_path, classes, version, message):
    provenance = {name: {"version": version} for name in classes}
    with pytest.raises(ValueError, match=message):
        HeadBank(bank.heads, classes, provenance)
    checkpoints.save_heads(bank, tmp_path / "heads")
    changes = {"classes": list(classes), "provenance": provenance}
    save_altered(tmp_path / "heads", lambda w, d: (w, d | changes))
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load_heads(tmp_path / "heads")


def test_a_damaged_checkpoint_gives_one_line(bank, tmp_path):
    """In a process of its own: what Orbax leaves behind would be said at its end."""
    for name, kept in (("empty", 0.0), ("half", 0.5), ("most", 0.9)):
        checkpoints.save_heads(bank, tmp_path / name)
        for path in (tmp_path / name / "state").rglob("d/*"):
            path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    program = (
        "import sys; from acai_jax.commands.console import clear_errors\n"
        "from acai_jax.network.checkpoints import load_heads\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        with clear_errors(): load_heads(path)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 1"
    )
    folders = sorted(tmp_path.iterdir())
    result = subprocess.run(
        [sys.executable, "-c", program, *folders], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    for line, folder in zip(result.stderr.splitlines(), folders, strict=True):
        assert line.startswith("error: ")
        assert f"checkpoint at {folder}" in line


def test_what_is_no_checkpoint_is_refused(bank, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoints.load_heads(tmp_path)


# Orbax gives up at the first damaged weight, and leaves the tasks for the others behind
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_files_are_noticed(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    for path in (tmp_path / "heads" / "state").rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged checkpoint at"):
        checkpoints.load_heads(tmp_path / "heads")
    gc.collect()


def test_the_description_is_plain_json(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    found = [
        json.loads(path.read_text()) for path in (tmp_path / "heads").rglob("_CHECKPOINT_METADATA")
    ]
    assert any("test_2" in json.dumps(document) for document in found)


def test_checkpoints_from_before_norms_get_the_identity(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")

    def earlier(weights, description):
        kept = {name: array for name, array in weights.items() if not name.startswith("norm.")}
        del description["weights_sha256"]
        return kept, description | {"format": "acai_jax heads 1"}

    save_altered(tmp_path / "heads", earlier)
    restored = head_weights(checkpoints.load_heads(tmp_path / "heads").heads)
    chex.assert_trees_all_equal(restored, head_weights(bank.heads))


def test_checkpoints_from_before_surveys_are_ztfs(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    new = {"survey", "stamp", "channels", "sentinel"}

    def earlier(weights, description):
        assert new < description.keys()
        return weights, {name: fact for name, fact in description.items() if name not in new}

    save_altered(tmp_path / "heads", earlier)
    restored = checkpoints.load_heads(tmp_path / "heads")
    assert restored.survey is ZTF
    chex.assert_trees_all_equal(head_weights(restored.heads), head_weights(bank.heads))


def test_heads_of_another_survey_go_by_its_inputs(bank, tmp_path, monkeypatch):
    inputs = dataclasses.replace(ZTF.inputs, features=("snr", "ra", "dec"), stamp=30)
    other = dataclasses.replace(ZTF, name="other", title="Other", inputs=inputs)
    heads = create_heads(HeadConfig(filters=(4, 8)), 2, jax.random.key(0), inputs)
    arguments = (heads, bank.classes, bank.provenance, "boom")
    with pytest.raises(ValueError, match="other inputs than alerts of ZTF"):
        HeadBank(*arguments)
    logits = apply_heads(heads, jnp.zeros((5, 3)), jnp.zeros((5, 30, 30, 3)))
    assert logits.shape == (5, 2)
    checkpoints.save_heads(HeadBank(*arguments, other), tmp_path / "heads")
    with pytest.raises(CheckpointError, match="alerts of 'other'"):
        checkpoints.load_heads(tmp_path / "heads")
    monkeypatch.setattr(description, "SURVEYS", {"ztf": ZTF, "other": other})
    restored = checkpoints.load_heads(tmp_path / "heads")
    assert restored.survey is other
    chex.assert_trees_all_equal(head_weights(restored.heads), head_weights(heads))


def test_norms_are_stored_head_by_head(bank, tmp_path):
    weights = dict(head_weights(bank.heads))
    for name, array in identity_norm().items():
        weights[name] = np.stack([array, np.arange(25, dtype=np.float32)])
    changed = HeadBank(with_weights(bank.heads, weights), bank.classes, bank.provenance)
    checkpoints.save_heads(changed, tmp_path / "heads")
    restored = checkpoints.load_heads(tmp_path / "heads")
    chex.assert_trees_all_equal(head_weights(restored.heads), weights)


def test_a_training_runs_folder_stands_for_its_heads(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "run" / checkpoints.HEADS_FOLDER)
    assert checkpoints.load_heads(tmp_path / "run").classes == bank.classes


# --- states of training ----------------------------------------------------------------------

ARRAYS = {
    "['control'].loss": np.array([np.inf, 0.1]),
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "added": np.array([[True, False], [False, False]]),
    "step": np.array([2**40, -1]),
}


def test_a_state_comes_back_to_the_bit(tmp_path):
    checkpoints.save_state(tmp_path / "1", ARRAYS, {"epoch": 3, "name": "h"})
    arrays, facts = checkpoints.load_state(tmp_path / "1")
    chex.assert_trees_all_equal(arrays, ARRAYS)
    assert {name: array.dtype for name, array in arrays.items()} == {
        name: array.dtype for name, array in ARRAYS.items()
    }
    assert facts == {"epoch": 3, "name": "h"}


def test_heads_are_no_state_and_a_state_is_no_heads(bank, tmp_path):
    checkpoints.save_heads(bank, tmp_path / "heads")
    checkpoints.save_state(tmp_path / "state", ARRAYS, {})
    with pytest.raises(CheckpointError, match="it holds no state of training"):
        checkpoints.load_state(tmp_path / "heads")
    with pytest.raises(
        CheckpointError, match=r"no heads that this version .* 'acai_jax training 1'"
    ):
        checkpoints.load_heads(tmp_path / "state")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoints.load_state(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_space_nothing_is_written_that_loads(tmp_path):
    checkpoints.save_state(tmp_path / "1", ARRAYS, {"epoch": 1})
    large = ARRAYS | {"noise": np.random.default_rng(0).normal(size=100_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*2"):
            checkpoints.save_state(tmp_path / "2", large, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not checkpoints.is_checkpoint(tmp_path / "2")
    assert checkpoints.load_state(tmp_path / "1")[1] == {"epoch": 1}
    gc.collect()
