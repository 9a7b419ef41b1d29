"""The command `acai-jax labels`."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from acai_jax.commands.console import console, output, shown
from acai_jax.errors import LabelsError

if TYPE_CHECKING:
    from acai_jax.labelling.export import Exported


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Export the labels that the page has stored: labels.csv, history.csv, agreement, conflicts.

    Where labellers differ, the label that more of them gave than any other stands; where there is
    none such, the alert gets no label and stands in conflicts.csv.
    """

    store: Path = Path("labels.db")
    """the file in which `acai-jax label` keeps labels."""
    out: Path = Path("labels")
    """folder to write to; files in it are replaced."""
    base: Path | None = None
    """labels.csv to which labels are added; those of the same alert are replaced."""

    def run(self) -> None:
        """Writes the files, and prints what is in them."""
        from acai_jax.labelling.export import export_labels
        from acai_jax.labelling.store import LabelStore

        if not self.store.is_file():
            raise LabelsError(f"no labels: {self.store} is not there")
        store = LabelStore(self.store)
        try:
            found = export_labels(store, self.out, self.base)
        finally:
            store.close()
        _print(found)
        console.print(f"{self.out / 'labels.csv'}: {found.labels:,} of the store", soft_wrap=True)


def _print(found: "Exported") -> None:
    if found.agreements:
        table = Table()
        table.add_column("labellers")
        for column in ("alerts", "agree", "kappa"):
            table.add_column(column, justify="right")
        for each in found.agreements:
            kappa = "none" if math.isnan(each.kappa) else f"{each.kappa:.3f}"
            names = shown(f"{each.first}, {each.second}")
            table.add_row(names, f"{each.alerts:,}", f"{100 * each.agreed:.1f} %", kappa)
        output.print(table)
    console.print(
        f"{found.events:,} events; {found.conflicts:,} alerts with different labels, "
        f"{found.undecided:,} of them undecided; {found.unsure:,} of which all are unsure",
        soft_wrap=True,
    )
