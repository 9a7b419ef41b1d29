"""What a run tells: a live table, metrics.jsonl, TensorBoard events, and Weights & Biases."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from tensorboardX import SummaryWriter

from acai_jax.extras import require
from acai_jax.files import write_atomically
from acai_jax.training.config import Config

_COLUMNS = {
    "train_loss": "train loss",
    "val_loss": "val loss",
    "best_val_loss": "best",
    "balanced_accuracy": "balanced acc.",
    "learning_rate": "lr",
}


class Journal:
    """Writes each record of a run to every place that keeps them.

    A record is {"epoch": …, "heads": {name: {metric: number}}, …}. Use it as a context manager.

    Args:
        workdir: of the run.
        config: of the run.
        epoch: the present one, and
        round: the present one. Records from these on were made before an interruption, and go.

    Raises:
        MissingPackageError: W&B is asked for and not installed.
    """

    def __init__(self, workdir: Path, config: Config, epoch: int, round: int) -> None:  # noqa: A002
        self._path = workdir / "metrics.jsonl"
        _keep_records_before(self._path, (epoch, round))
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=epoch)
        self._run = _start_wandb(workdir, config)

    def write(self, record: Mapping[str, Any]) -> None:
        """Adds one record."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        numbers = {
            f"{head}/{name}": float(value)
            for head, values in record["heads"].items()
            for name, value in values.items()
        }
        for name, value in numbers.items():
            self._events.add_scalar(name, value, record["epoch"])
        self._events.flush()
        if self._run is not None:
            self._run.log(numbers, step=record["epoch"])

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._events.close()
        if self._run is not None:
            self._run.finish()


def _keep_records_before(path: Path, position: tuple[int, int]) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        with contextlib.suppress(ValueError):  # the last line of a killed run may be cut
            record = json.loads(line)
            if (record["epoch"], record["round"]) < position:
                kept.append(line)
    write_atomically(path, lambda temporary: temporary.write_text("".join(kept)))


def _start_wandb(workdir: Path, config: Config) -> Any:
    if config.wandb == "off":
        return None
    return require("wandb", "wandb").init(
        project="acai_jax", dir=workdir, config=config.as_json(), mode=config.wandb, resume="allow"
    )


class Display:
    """The progress of a run on the terminal; in a log file, one line for each epoch.

    Use it as a context manager.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console)
        self._whole: TaskID | None = None
        self._task = self._bar.add_task("")
        self._latest: dict[str, Mapping[str, Any]] = {}
        self._live = Live(self._bar, console=console, refresh_per_second=4)

    def whole(self, what: str, total: int, completed: int) -> None:
        """How far all the work is, of which the stretches that begin are parts."""
        if self._whole is None:
            self._whole = self._bar.add_task("")
        self._bar.update(self._whole, description=what, total=total, completed=completed)

    def start(self, what: str, total: int, completed: int = 0) -> None:
        """Begins a new stretch of work."""
        self._bar.reset(self._task, description=what, total=total, completed=completed)

    def advance(self, amount: int) -> None:
        """Some of it is done."""
        self._bar.advance(self._task, amount)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Shows how an epoch went."""
        table = Table(
            title=f"round {record['round']}, epoch {record['epoch']}: "
            f"{record['alerts_per_second']:,.0f} alerts/s",
            title_justify="left",
        )
        for name in ("head", *_COLUMNS.values(), "state"):
            table.add_column(name, justify="left" if name in ("head", "state") else "right")
        self._latest |= record["heads"]  # heads that have stopped keep their last numbers
        for name, values in self._latest.items():
            numbers = (f"{values[key]:.4g}" for key in _COLUMNS)
            best = "best" if values["best_epoch"] == record["epoch"] else "training"
            state = f"stopped, best {values['best_epoch']}" if values["stopped"] else best
            table.add_row(name, *numbers, state)
        self._live.update(Group(table, self._bar))
        if not self.console.is_terminal:
            losses = (f"{n} {v['val_loss']:.4f}" for n, v in record["heads"].items())
            self.say(f"round {record['round']}, epoch {record['epoch']}: {', '.join(losses)}")

    def say(self, line: str) -> None:
        """A line that stays."""
        self._live.console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
