"""The subcommands of `acai-jax`, and the run of the one that the command line names."""

import tyro

from acai_jax.commands.calibrate import Calibrate
from acai_jax.commands.console import clear_errors
from acai_jax.commands.convert import Convert
from acai_jax.commands.dataset import Dataset
from acai_jax.commands.evaluate import Evaluate
from acai_jax.commands.export import Export
from acai_jax.commands.fetch_night import FetchNight
from acai_jax.commands.filter import Filter
from acai_jax.commands.label import Label
from acai_jax.commands.labels import Labels
from acai_jax.commands.objects import Objects
from acai_jax.commands.package import Package
from acai_jax.commands.pick import Pick
from acai_jax.commands.replay import Replay
from acai_jax.commands.score import Score
from acai_jax.commands.show import Show
from acai_jax.commands.simulate import Simulate
from acai_jax.commands.stream import Stream
from acai_jax.commands.sweep import Sweep
from acai_jax.commands.train import Train

COMMANDS = {
    "score": Score,
    "show": Show,
    "convert": Convert,
    "export": Export,
    "simulate": Simulate,
    "fetch-night": FetchNight,
    "package": Package,
    "dataset": Dataset,
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "calibrate": Calibrate,
    "pick": Pick,
    "label": Label,
    "labels": Labels,
    "stream": Stream,
    "replay": Replay,
    "filter": Filter,
    "objects": Objects,
}
_DESCRIPTION = "The ACAI classifiers of ZTF alerts, in JAX. --version says which."


def run() -> None:
    """Runs the subcommand that the command line names."""
    with clear_errors():
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="acai-jax", description=_DESCRIPTION
        ).run()
