"""Extras: what the core goes without, and the one line that says what to install."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from command_line import acai_jax
from synthetic import avro_bytes, packet_record

from acai_jax.errors import MissingPackageError
from acai_jax.extras import MODULES, need, require

HIDDEN = sorted({name for names in MODULES.values() for name in names} - {"optax"})


def test_every_module_comes_with_its_extra():
    """What is declared for the extra, or for one that it includes, brings all of its modules."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    distributions = metadata.packages_distributions()

    def brings(extra: str) -> set[str]:
        """The distributions, as pip writes their names."""
        found = set()
        for line in project["optional-dependencies"][extra]:
            name, inner = re.findall(r"[\w.-]+", line)[0], re.search(r"\[(.*)\]", line)
            if name == "acai_jax" and inner:
                found |= set().union(*map(brings, inner[1].split(",")))
            found.add(name.lower().replace("_", "-"))
        return found

    for extra, modules in MODULES.items():
        for module in modules:
            found = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            assert found & brings(extra), (extra, module)
    brought = brings("all")
    assert all(brings(extra) <= brought for extra in MODULES.keys() - {"spark", "wandb"})


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    need("simulate")
    with pytest.raises(MissingPackageError) as caught:
        need("report", "simulate", "parquet")
    said = 'matplotlib, pyarrow are not installed: pip install "acai_jax[report,parquet]"'
    assert str(caught.value) == said
    with pytest.raises(MissingPackageError, match=r"pyarrow is .*\[parquet\]"):
        require("pyarrow.parquet", "parquet")


@pytest.mark.parametrize(
    ("hidden", "extra", "arguments"),
    [
        ("matplotlib", "report", ("show", "night")),
        ("matplotlib", "report", ("evaluate", "--dataset", "x", "--out", "report")),
        ("matplotlib", "report", ("filter", "x.parquet", "--name", "tde", "--report", "page")),
        ("PIL", "report", ("dataset", "datasets", "--out", "card")),
        ("tensorflow_datasets", "dataset", ("package", "night", "--labels", "labels.csv")),
        ("array_record", "dataset", ("calibrate", "--dataset", "x", "--out", "heads")),
        ("grain", "train", ("train", "--workdir", "run")),
        ("optuna", "sweep", ("sweep", "--workdir", "run")),
        ("onnx", "export", ("export", "heads.onnx")),
        ("flatbuffers", "export", ("export", "x", "--format", "stablehlo")),
        ("fastavro", "simulate", ("simulate", "--out", "night")),
        ("uvicorn", "label", ("label", "queue.parquet")),
        ("confluent_kafka", "kafka", ("stream", "--bootstrap-servers", "x:1", "--out", "night")),
        ("confluent_kafka", "kafka", ("replay", "x", "--bootstrap-servers", "x:1", "--topic", "t")),
    ],
)
def test_a_command_says_at_once_what_to_install(tmp_path, monkeypatch, hidden, extra, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, hidden, None)
    result = acai_jax(*arguments)
    said = f'error: {hidden} is not installed: pip install "acai_jax[{extra}]"\n'
    assert (result.returncode, result.stderr) == (1, said)
    assert not list(tmp_path.iterdir())


def test_scoring_and_filtering_take_the_core_alone(tmp_path):
    (tmp_path / "night.avro").write_bytes(avro_bytes(*(packet_record(n) for n in range(5))))
    (tmp_path / "fink.parquet").write_bytes(b"PAR1")
    code = f"""
import sys
sys.modules |= dict.fromkeys({HIDDEN})
from acai_jax.commands.main import main
def run(*arguments):
    sys.argv = ["acai-jax", *arguments]
    try:
        main()
    except SystemExit as end:
        print("ended with", end.code)
run("--help")
run("score", "night.avro", "--model", "ztf-simulated", "--workers", "0")
run("filter", "scores.parquet", "--where", "acai_h >= 0", "--out", "passed.csv")
run("score", "night.avro", "fink.parquet", "--model", "ztf-simulated", "--overwrite")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "passed.csv: 5 alerts" in done.stderr
    assert done.stdout.splitlines()[-1] == "ended with 1", done.stderr
    assert done.stderr.splitlines()[-1] == (
        'error: pyarrow is not installed: pip install "acai_jax[parquet]"'
    )
