"""The trials of a sweep, and the file that keeps them: `trials.jsonl` is the truth."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from acai_jax.errors import OutputError
from acai_jax.files import sync, write_atomically
from acai_jax.sweep.search import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a trial has come to at a rung.

    Attributes:
        rung: which one, from 0.
        epochs: after which it ends.
        losses: lowest validation loss so far, by head; infinite where none was a number.
        error: standard error of their mean, by object; known at the last rung only.
    """

    rung: int
    epochs: int
    losses: Mapping[str, float]
    error: float | None = None

    @property
    def loss(self) -> float:
        """Mean over the heads."""
        return sum(self.losses.values()) / len(self.losses)


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0, through all rounds.
        round: in which it was asked for, from 0.
        settings: its values.
        results: at each rung that it has reached.
    """

    number: int
    round: int
    settings: Settings
    results: tuple[Result, ...] = ()

    @property
    def loss(self) -> float:
        """The lowest mean loss that is known."""
        return self.results[-1].loss if self.results else math.inf


class TrialLog:
    """The trials in the order of their numbers, in memory and in a file that only grows.

    What belongs together (the trials that a round asks for, the results of a rung) is written at
    once, and each line says how many they are: where a killed run left fewer, or half a line, they
    go, and are made again.

    Args:
        path: of the file.

    Raises:
        OutputError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trials: list[Trial] = []
        text = path.read_text() if path.exists() else ""
        kept = self._load(text)
        if kept != text:
            write_atomically(path, lambda temporary: temporary.write_text(kept))

    def ask(self, round_: int, settings: Sequence[Settings]) -> None:
        """Adds the trials of a round."""
        first = len(self.trials)
        lines = [
            {"trial": first + place, "round": round_, "settings": dict(each)}
            for place, each in enumerate(settings)
        ]
        self._write(lines)

    def reach(self, results: Mapping[int, Result]) -> None:
        """Adds results of a rung, by the number of the trial."""
        self._write(
            [
                {
                    "trial": number,
                    "rung": result.rung,
                    "epochs": result.epochs,
                    "losses": {
                        h: v if math.isfinite(v) else None for h, v in result.losses.items()
                    },
                    "error": result.error,
                }
                for number, result in results.items()
            ]
        )

    def of_round(self, round_: int) -> list[Trial]:
        """The trials that a round has asked for."""
        return [trial for trial in self.trials if trial.round == round_]

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        lines = [{**line, "of": len(lines)} for line in lines]
        new = not self._path.exists()
        with self._path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        sync(self._path)
        if new:
            sync(self._path.parent)
        for line in lines:
            self._take(line)

    def _load(self, text: str) -> str:
        """Takes the lines of a file; returns those that are whole."""
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        taken = 0
        try:
            while taken < len(lines):
                count = json.loads(lines[taken])["of"]
                if taken + count > len(lines):
                    break
                for line in lines[taken : taken + count]:
                    self._take(json.loads(line))
                taken += count
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise OutputError(f"{self._path}, line {taken + 1}: no trial of a sweep") from error
        return "".join(lines[:taken])

    def _take(self, line: Mapping[str, Any]) -> None:
        number = line["trial"]
        if "settings" in line:
            if number != len(self.trials):
                raise ValueError(f"trial {number} after {len(self.trials)}")
            self.trials.append(Trial(number, line["round"], line["settings"]))
            return
        losses = {head: math.inf if v is None else v for head, v in line["losses"].items()}
        result = Result(line["rung"], line["epochs"], losses, line["error"])
        trial = self.trials[number]
        self.trials[number] = dataclasses.replace(trial, results=(*trial.results, result))


def write_table(trials: Sequence[Trial], path: Path) -> None:
    """Writes a row for each trial: its round, how far it came, its losses and its values."""
    axes = dict.fromkeys(axis for trial in trials for axis in trial.settings)
    rows = [
        {
            "trial": trial.number,
            "round": trial.round,
            "rungs": len(trial.results),
            "epochs": trial.results[-1].epochs if trial.results else 0,
            "loss": trial.loss if trial.results else None,
            "error": trial.results[-1].error if trial.results else None,
            **{f"loss_{h}": v for r in trial.results[-1:] for h, v in r.losses.items()},
            **{axis: trial.settings.get(axis) for axis in axes},
        }
        for trial in trials
    ]
    write_atomically(path, pl.DataFrame(rows, infer_schema_length=None).write_parquet)
