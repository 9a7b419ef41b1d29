"""Every subcommand is a frozen dataclass that says what each of its arguments is."""

import dataclasses
import re

import pytest

from acai_jax.commands.parser import parse
from acai_jax.commands.subcommands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_explained(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # no explanation wraps
    with pytest.raises(SystemExit) as status:
        parse(COMMANDS[name], f"acai-jax {name}", ["--help"])
    assert status.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].__doc__.partition("\n")[0] in shown
    assert re.search(r"\((default: |required\))", shown)
    assert "None" not in shown
    assert "(default: )" not in shown
    assert not re.search(r" {2}\((default|required|repeatable)", shown)


@pytest.mark.parametrize("command", COMMANDS.values())
def test_arguments_are_frozen_and_named(command):
    assert command.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(command))
