"""Imports cost nothing, and few modules know the heavy libraries; pyproject.toml has the layers."""

import ast
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import acai_jax
import acai_jax.report
from tests.filters.test_expressions import score_table

PACKAGE = Path(acai_jax.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.name.startswith("__")
)


def imports(path: Path) -> set[str]:
    """Names of the project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            base, _, module = node.module.partition(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                found.add(f"{base}.{inner if inner in MODULES or not module else module}")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def source(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_only_checkpoints_imports_orbax():
    users = {m for m in MODULES if any("orbax" in name for name in imports(source(m)))}
    assert users == {"network.checkpoints"}


@pytest.mark.parametrize("peer", ["tensorflow.", "keras", "onnxruntime"])
def test_peers_are_never_needed(peer):
    users = {m for m in MODULES if any(f"{n}.".startswith(peer) for n in imports(source(m)))}
    # for those who ask for a `tf.data.Dataset`
    assert users == ({"datasets.builders.formats"} if peer == "tensorflow." else set())


def test_only_writers_use_fastavro():
    users = {m for m in MODULES if "fastavro" in imports(source(m))}
    assert users == {"simulate.run", "stream.outputs", "stream.messages"}


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import acai_jax")
    assert not loaded & {"jax", "flax", "numpy", "polars", "h5py"}


def test_surveys_are_plain_data():
    loaded = loaded_after("import acai_jax.surveys")
    assert not loaded & {"jax", "flax", "numpy", "polars", "pyarrow"}


def test_the_command_line_starts_without_jax():
    loaded = loaded_after("import acai_jax.commands.subcommands")
    assert not loaded & {"jax", "flax", "matplotlib", "tensorflow_datasets", "confluent_kafka"}


def test_result_types_and_pages_need_no_jax():
    names = ", ".join(acai_jax.report.__all__)
    loaded = loaded_after(f"import acai_jax.evaluate.results\nfrom acai_jax.report import {names}")
    assert not loaded & {"jax", "flax"}


def test_filters_and_their_reports_need_no_jax(tmp_path):
    night = {"jd": pl.lit(2460500.7), "fid": pl.lit(1), "preset": pl.lit("acai")}
    table = score_table(50, seed=0).with_columns(**night)
    table.write_parquet(tmp_path / "scores.parquet")
    program = (
        "from pathlib import Path\nfrom acai_jax.commands.filter import Filter\n"
        f"Filter(table=Path({str(tmp_path / 'scores.parquet')!r}), where='acai_h > 0.5', "
        f"report=Path({str(tmp_path)!r})).run()"
    )
    assert not loaded_after(program) & {"jax", "flax"}
    assert (tmp_path / "report.html").exists()


def test_importing_every_module_touches_no_device():
    names = ", ".join(f"acai_jax.{module}" for module in MODULES)
    program = (
        f"import {names}\nfrom jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_worker_processes_load_no_jax():
    assert "jax" not in loaded_after("import acai_jax.alerts.prepare")


def test_public_names_are_all_there():
    for name in acai_jax.__all__:
        assert getattr(acai_jax, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = acai_jax.no_such_name
