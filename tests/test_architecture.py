"""Imports cost nothing, and few modules know the heavy libraries; pyproject.toml has the layers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import acai_jax

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
    assert not any(f"{name}.".startswith(peer) for m in MODULES for name in imports(source(m)))


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
    assert not loaded_after("import acai_jax.commands.main") & {"jax", "flax"}


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
