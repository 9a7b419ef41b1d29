"""The configuration: every field is read, and what is impossible is refused before any work."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from acai_jax import training
from acai_jax.commands import main as cli
from acai_jax.network.head_config import HeadConfig
from acai_jax.training import Config
from train import main


def test_every_field_is_read():
    folder = Path(training.__file__).parent
    sources = [p.read_text() for p in folder.glob("*.py") if p.name != "config.py"]
    for field in dataclasses.fields(Config):
        readers = "positives" if field.name == "positives" else f"config.{field.name}"
        readers = "config.labels(" if field.name == "positives" else readers
        assert any(readers in source for source in sources), field.name


def test_labels_are_the_name_unless_given():
    config = Config(heads=("h", "transient"), positives={"transient": ("h", "n")})
    assert config.labels("h") == ("h",)
    assert config.labels("transient") == ("h", "n")


def test_json_holds_everything():
    config = Config(init=Path("there"), model=HeadConfig(filters=(4, 4)))
    tree = json.loads(json.dumps(config.as_json()))
    assert tree.keys() == {field.name for field in dataclasses.fields(Config)}
    assert tree["init"] == "there"
    assert tree["model"]["filters"] == [4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": 0.0}, "balance is 0.0; it must be positive"),
        ({"balance": float("nan")}, "balance is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"batch_size": 32, "microbatch": 5}, "batch_size 32 is no multiple of 5"),
        ({"plateau_factor": 1.0}, "plateau_factor is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"heads": ()}, "must be different names"),
        ({"heads": ("h", "h")}, "must be different names"),
        ({"heads": ("h", "h_version")}, "'h_version' can be no class's name"),
        ({"heads": ("h", "AGN/QSO")}, "'AGN/QSO' can be no class's name"),
        ({"positives": {"kilonova": ("h",)}}, "positives names .'kilonova'., not among heads"),
        ({"positives": {"h": ()}}, "positives of h: no label"),
        ({"positive_weights": {"h": 2.0}}, "go together"),
        ({"class_weights": "fixed"}, "go together"),
        ({"class_weights": "fixed", "positive_weights": {"h": 2.0}}, "no entry for .'b', 'n'"),
        (
            {"heads": ("h",), "class_weights": "fixed", "positive_weights": {"h": -2.0}},
            "positive_weights of h must be positive",
        ),
        ({"warm_start": True}, "warm_start needs init"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


@pytest.fixture(params=["python -m train.main", "acai-jax train"])
def run_command(request, monkeypatch):
    """Both commands, which are one: arguments -> exit status."""

    def run(*arguments):
        of_cli = request.param == "acai-jax train"
        monkeypatch.setattr(sys, "argv", ["command", *["train"][:of_cli], *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            (cli if of_cli else main).main()
        return status.value.code

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.learning-rat", "1"], "learning-rat"),
        (["--config.balance", "-1"], "balance is -1.0"),
        (["--config.balance", "much"], "much"),
        (["--config.model.conv-dropout", "1"], "dropout rates"),
    ],
)
def test_the_command_refuses_before_it_starts(run_command, capsys, tmp_path, arguments, message):
    workdir = tmp_path / "run"
    assert run_command("--workdir", workdir, *arguments) == 2
    assert message in "".join(capsys.readouterr())
    assert not workdir.exists()


def test_the_command_reports_errors_in_one_line(run_command, capsys, tmp_path):
    missing = tmp_path / "none"
    assert run_command("--workdir", tmp_path / "run", "--config.dataset", missing) == 1
    assert capsys.readouterr().err.strip() == f"error: no such folder: {missing}"
