"""The subcommands of `acai-jax`, and the run of the one that the command line names."""

import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import tyro

from acai_jax.commands.calibrate import Calibrate
from acai_jax.commands.console import clear_errors, output
from acai_jax.commands.convert import Convert
from acai_jax.commands.dataset import Dataset
from acai_jax.commands.evaluate import Evaluate
from acai_jax.commands.export import Export
from acai_jax.commands.fetch_night import FetchNight
from acai_jax.commands.filter import Filter
from acai_jax.commands.label import Label
from acai_jax.commands.labels import Labels
from acai_jax.commands.package import Package
from acai_jax.commands.parser import parse
from acai_jax.commands.pick import Pick
from acai_jax.commands.replay import Replay
from acai_jax.commands.score import Score
from acai_jax.commands.show import Show
from acai_jax.commands.simulate import Simulate
from acai_jax.commands.stream import Stream
from acai_jax.commands.sweep import Sweep
from acai_jax.commands.train import Train
from acai_jax.errors import UsageError

GROUPS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Score and look": {"score": Score, "show": Show, "filter": Filter},
    "Stream": {"stream": Stream, "replay": Replay},
    "Data": {
        "fetch-night": FetchNight,
        "simulate": Simulate,
        "package": Package,
        "dataset": Dataset,
    },
    "Train": {"train": Train, "sweep": Sweep, "evaluate": Evaluate, "calibrate": Calibrate},
    "Choose and label": {"pick": Pick, "label": Label, "labels": Labels},
    "Models": {"convert": Convert, "export": Export},
}
COMMANDS: Final[Mapping[str, Any]] = {
    name: command for group in GROUPS.values() for name, command in group.items()
}
SHELLS: Final = ("bash", "zsh", "fish")


def run() -> None:
    """Runs the subcommand that the command line names."""
    name, *arguments = sys.argv[1:] or [""]
    with clear_errors():
        if name in ("-h", "--help"):
            print_commands()
        elif name == "--completion":
            print_completion(*arguments)
        elif name in COMMANDS:
            parse(COMMANDS[name], f"acai-jax {name}", arguments).run()
        else:
            raise UsageError(_no_command(name))


def print_commands() -> None:
    """Prints what there is, a line for each subcommand."""
    output.print("usage: acai-jax SUBCOMMAND [OPTIONS]", soft_wrap=True)
    output.print("\nThe ACAI classifiers of ZTF and LSST alerts, in JAX and Flax.", soft_wrap=True)
    for title, commands in GROUPS.items():
        output.print(f"\n{title}", style="bold")
        for name, command in commands.items():
            does = re.split("[;:\n]", command.__doc__, maxsplit=1)[0].rstrip(".")
            output.print(f"  {name:<11}  {does}", soft_wrap=True)
    output.print("\nacai-jax SUBCOMMAND --help  says what it takes", soft_wrap=True)
    output.print("acai-jax --version          says which this is", soft_wrap=True)
    output.print("acai-jax --completion SHELL prints what bash, zsh or fish complete it by")


def print_completion(shell: str = "", *_: str) -> None:
    """Prints the script that completes subcommands and options in a shell."""
    if shell not in SHELLS:
        raise UsageError(f"--completion takes {', '.join(SHELLS)}")
    told = ["--tyro-write-completion", shell, "-"]
    tyro.extras.subcommand_cli_from_dict(dict(COMMANDS), prog="acai-jax", args=told)


def _no_command(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    known = f"{meant}acai-jax --help lists the subcommands"
    return f"no subcommand {name!r:.80}: {known}" if name else f"no subcommand: {known}"
