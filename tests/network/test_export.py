"""Heads as files for other programs: names, cards, and nothing replaced that should stay."""

import sys

import pytest
from command_line import acai_jax

from acai_jax.errors import CheckpointError, MissingPackageError, UsageError
from acai_jax.network.bank import HeadBank
from acai_jax.network.exchange import import_heads
from acai_jax.network.export import export_heads
from acai_jax.network.head_config import HeadConfig
from tests.network.test_onnx_graph import random_bank


@pytest.fixture(scope="module")
def bank() -> HeadBank:
    return random_bank(HeadConfig(filters=(2, 2), dense_units=(3,), head_units=2))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_format_has_its_file_and_its_card(bank, tmp_path):
    export_heads(bank, tmp_path / "heads.safetensors")
    export_heads(bank, tmp_path / "heads.onnx")
    export_heads(bank, tmp_path / "v1.2", file_format="stablehlo")
    expected = ("heads.onnx", "heads.safetensors", "v1.2.stablehlo")
    assert names(tmp_path) == sorted(f"{name}{end}" for name in expected for end in ("", ".md"))


def test_a_file_for_each_head(bank, tmp_path):
    paths = export_heads(bank, tmp_path / "new" / "x.safetensors", per_head=True)
    assert [path.name for path in paths] == ["x_h.safetensors", "x_kilonova.safetensors"]
    assert [import_heads(path).classes for path in paths] == [("h",), ("kilonova",)]


@pytest.mark.parametrize(
    ("name", "file_format", "message"),
    [
        ("heads.bin", None, r"ends in one of \.safetensors, \.onnx, \.stablehlo"),
        ("heads.onnx", "safetensors", r"a safetensors file's name ends in \.safetensors"),
    ],
)
def test_a_name_and_its_format_agree(bank, tmp_path, name, file_format, message):
    with pytest.raises(UsageError, match=message):
        export_heads(bank, tmp_path / name, file_format=file_format)
    assert names(tmp_path) == []


@pytest.mark.parametrize("there", ["x_kilonova.onnx", "x_h.onnx.md"])
def test_nothing_is_replaced_unless_asked(bank, tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(CheckpointError, match=f"{there} exists already: --overwrite"):
        export_heads(bank, tmp_path / "x.onnx", per_head=True)
    assert names(tmp_path) == [there]
    export_heads(bank, tmp_path / "x.onnx", per_head=True, overwrite=True)
    assert "precious" not in (tmp_path / there).read_bytes().decode(errors="replace")


@pytest.mark.parametrize(("package", "ending"), [("onnx", "onnx"), ("flatbuffers", "stablehlo")])
def test_a_missing_package_is_named_with_its_extra(bank, tmp_path, monkeypatch, package, ending):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'{package} is not installed: pip install "acai_jax\[export\]"'
    with pytest.raises(MissingPackageError, match=message):
        export_heads(bank, tmp_path / f"heads.{ending}")
    assert names(tmp_path) == []


def test_the_command(tmp_path):
    out = tmp_path / "acai.onnx"
    arguments = ("export", out, "--model", "lsst-simulated", "--per-head")
    done = acai_jax(*arguments)
    assert done.returncode == 0, done.stderr
    assert "acai_b.onnx" in done.stderr
    assert len(names(tmp_path)) == 10
    assert acai_jax(*arguments).returncode == 1
    assert acai_jax("export", out, "--format", "hdf5").returncode == 2
