"""Data flows one way: a module imports only from earlier ones, and imports cost nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import acai_jax

PACKAGE = Path(acai_jax.__file__).parent
ORDER = (
    *(
        "text",
        "schema",
        "errors",
        "processes",
        "files",
        "download",
        "nights",
        "avro_varint",
        "avro_schema",
        "avro_codecs",
        "avro",
        "foreign",
        "packet",
        "documents",
        "archives",
        "columnar",
        "sources",
        "stamps",
        "preprocess",
        "workers",
    ),
    *(
        "simulate.observing",
        "simulate.optics",
        "simulate.sky",
        "simulate.objects",
        "simulate.images",
        "simulate.artefacts",
        "simulate.catalogues",
        "simulate.photometry",
        "simulate.schema402",
        "simulate.packets",
        "simulate.run",
        "simulate",
    ),
    *("splits", "labels", "datasets"),
    *("head_config", "separable", "separable_gradients", "layers", "model"),
    *("braai", "pretrained", "drb", "checkpoints"),
    *("score", "parts", "coordinates", "sql", "filters"),
    *("mongo.terms", "mongo.documents", "mongo.pipeline", "mongo"),
    *("pictures", "alert_stamps"),
    *("html", "themes", "card", "card_pictures", "card_page"),
    *("exhibits", "filter_figures", "filter_report"),
    *("metrics", "bootstrap", "strata", "judged", "labelled", "examples", "evaluate"),
    "calibrate",
    *("metrics_json", "report_pictures", "report"),
    *(
        "stream",
        "stream.extra",
        "stream.settings",
        "stream.registry",
        "stream.intake",
        "stream.tables",
        "stream.outputs",
        "stream.work",
        "stream.metrics",
        "stream.kafka",
        "stream.sender",
        "stream.sinks",
        "stream.loop",
        "stream.run",
        "stream.logs",
    ),
    *("messages", "replay"),
    *("training.config", "training.members", "training.protocol", "training.step"),
    *("training.inputs", "training.progress", "training.folder", "training.state"),
    *("training.result", "training.loop", "training"),
    *("console", "calibrate_command", "evaluate_command", "filter_command"),
    *("stream_command", "replay_command", "score_command", "show_command", "train_command"),
    *("commands", "cli"),
)


def imports(path: Path) -> set[str]:
    """Names of the project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            base, _, module = node.module.partition(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                found.add(f"{base}.{inner if inner in ORDER or not module else module}")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def source(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_every_module_has_its_place():
    files = set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"}
    assert files == {source(module) for module in ORDER}


@pytest.mark.parametrize("module", ORDER)
def test_modules_import_only_from_earlier_ones(module):
    for name in imports(source(module)):
        package, _, imported = name.partition(".")
        assert package not in ("train", "tfds_builders")
        if package == "acai_jax":
            assert ORDER.index(imported) < ORDER.index(module), f"{module} imports {imported}"


def test_only_checkpoints_imports_orbax():
    users = {m for m in ORDER if any("orbax" in name for name in imports(source(m)))}
    assert users == {"checkpoints"}


@pytest.mark.parametrize("peer", ["tensorflow.", "keras", "onnxruntime"])
def test_peers_are_never_needed(peer):
    assert not any(f"{name}.".startswith(peer) for m in ORDER for name in imports(source(m)))


def test_only_writers_use_fastavro():
    users = {m for m in ORDER if "fastavro" in imports(source(m))}
    assert users == {"simulate.run", "stream.outputs", "messages"}


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_after("import acai_jax")
    assert not loaded & {"jax", "flax", "numpy", "polars", "h5py"}


def test_the_command_line_starts_without_jax():
    assert not loaded_after("import acai_jax.cli") & {"jax", "flax"}


def test_importing_every_module_touches_no_device():
    names = ", ".join(f"acai_jax.{module}" for module in ORDER)
    program = (
        f"import {names}\nfrom jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_worker_processes_load_no_jax():
    assert "jax" not in loaded_after("import acai_jax.workers")


def test_public_names_are_all_there():
    for name in acai_jax.__all__:
        assert getattr(acai_jax, name) is not None
    assert set(acai_jax.__all__) == set(acai_jax._HOME)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = acai_jax.no_such_name
