"""The command `acai-jax calibrate`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from acai_jax.commands.arguments import Labelled
from acai_jax.commands.console import console, output, shown, stretches_progress
from acai_jax.extras import need

if TYPE_CHECKING:
    from acai_jax.evaluate.calibration import Calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrate(Labelled):
    """Calibrate heads by temperature scaling: a checkpoint of the same weights, with temperatures.

    Whatever reads the checkpoint gives calibrated scores; the order of alerts stays.
    """

    out: Path
    """folder of the new checkpoint."""
    heads: tuple[str, ...] = ()
    """only these heads; the others stay as they are."""
    overwrite: bool = False
    """replace a checkpoint that is there."""

    def run(self) -> None:
        """Calibrates, saves, and prints the temperatures."""
        need("dataset")
        from acai_jax.evaluate.calibration import calibrate
        from acai_jax.network.checkpoints import check_place, save_heads

        check_place(self.out, overwrite=self.overwrite)
        source = self.open(default_split="validation")
        bank = self.load().bank
        with stretches_progress() as report:
            bank, found = calibrate(
                bank, source, self.heads, weights_dir=self.weights, report=report("scoring")
            )
        save_heads(bank, self.out, overwrite=self.overwrite)
        print_calibrations(found)
        versions = ", ".join(f"{name} {bank.versions[name]}" for name in found)
        console.print(f"{self.out}: {versions}", soft_wrap=True)


def print_calibrations(found: "Mapping[str, Calibration]") -> None:
    """Prints the temperature of each head to standard output, and what it changes."""
    table = Table()
    table.add_column("head")
    for column in ("T", "NLL", "calibrated", "ECE", "calibrated", "pos.", "neg.", "unscored"):
        table.add_column(column, justify="right")
    for name, each in found.items():
        numbers = (f"{number:.4f}" for number in (*each.nll, *each.ece))
        counts = (f"{count:,}" for count in (each.positives, each.negatives, each.unscored))
        table.add_row(shown(name), f"{each.temperature:g}", *numbers, *counts)
    output.print(table)
    for name, each in found.items():
        if each.held:
            separated = "its positives and negatives are perfectly separated, which leaves it open"
            why = separated if each.temperature == 1 else "the best one lies beyond"
            note = f"note: the temperature of {name} is held at {each.temperature:g}: {why}"
            console.print(note, style="yellow", soft_wrap=True)
        if each.ece[1] > each.ece[0]:
            note = f"note: the ECE of {name} rises: its scores are off as no temperature mends"
            console.print(note, style="yellow", soft_wrap=True)
