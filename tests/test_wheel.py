"""The wheel: one import name, all its data, and the whole job beside a user's own `train.py`."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing of an earlier build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("acai_jax", "tfds_builders", "train"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip("wheel", folder / "source", "--no-build-isolation", "--wheel-dir", folder)
    (path,) = folder.glob("*.whl")
    return path


def test_the_source_distribution_can_be_tested(tmp_path):
    kept = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info", ".*")
    shutil.copytree(ROOT, tmp_path / "source", ignore=kept)
    build = "from setuptools.build_meta import build_sdist; print(build_sdist('..'))"
    command = [sys.executable, "-W", "ignore", "-c", build]
    subprocess.run(command, cwd=tmp_path / "source", check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    there = {
        path.relative_to(tmp_path / "source").as_posix()
        for folder in ("acai_jax", "benchmarks", "tests", "tfds_builders", "train")
        for path in (tmp_path / "source" / folder).rglob("*")
    }
    assert there <= names
    assert {"Makefile", "pyproject.toml", "requirements.lock"} <= names


def pip(command: str, *arguments: object) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", command, *options, *arguments], check=True)


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (about,) = (name for name in names if name.endswith("/METADATA"))
        text = file.read(about).decode()
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "acai_jax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert {"acai_jax/py.typed", "acai_jax/__init__.pyi"} < names
    assert "Classifier: Typing :: Typed" in text
    assert "License-Expression: MIT" in text
    assert f"Version: {metadata.version('acai_jax')}\n" in text


def test_the_whole_job_beside_a_script_that_is_called_train(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    pip("install", wheel, "--target", site)
    work.mkdir()
    (work / "train.py").write_text("print('the train of the user')\n")
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name} | {
        "PYTHONPATH": str(site),
        "NO_COLOR": "1",
    }

    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def acai_jax(*arguments: object) -> None:
        # `python -m` has the working folder first on its path
        assert "the train of the user" not in run(sys.executable, "-m", "acai_jax", *arguments)

    version = run(site / "bin" / "acai-jax", "--version")
    assert version == f"acai_jax {metadata.version('acai_jax')}\n"
    acai_jax("simulate", "--count", 150, "--out", "simulated", "--workers", 1)
    acai_jax(*("package", "simulated/alerts", "--labels", "simulated/labels.csv"), "--workers", 1)
    acai_jax(
        *("train", "--workdir", "run", "--config.heads", "h", "v", "--config.max-epochs", 1),
        *("--config.model.filters", 2, 2, "--config.model.dense-units", 4, 4),
        *("--config.model.head-units", 4, "--config.no-round-two"),
    )
    acai_jax("score", "simulated/alerts", "--model", "run", "--workers", 0)
    acai_jax(
        "evaluate", "--model", "run", "--dataset", "datasets", "--out", "report", "--draws", 20
    )
    scores = pl.read_parquet(work / "scores.parquet")
    assert len(scores) == 150
    assert scores["acai_v"].null_count() == scores["reason"].is_not_null().sum()
    assert set(json.loads((work / "report" / "metrics.json").read_text())["heads"]) == {"h", "v"}
    printed = run(
        *(sys.executable, "-c"),
        "import acai_jax.datasets.builders.ztf_acai, train\n"
        "import tensorflow_datasets as tfds\n"
        "info = tfds.builder('ztf_acai/alerts', data_dir='datasets').info\n"
        "print(acai_jax.__file__, info.description, info.citation)",
    )
    assert printed.startswith(f"the train of the user\n{site}/acai_jax/__init__.py Alerts of the ")
    assert "duev2021phenomenological" in printed
