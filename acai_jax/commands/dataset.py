"""The command `acai-jax dataset`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.table import Table

from acai_jax.commands.console import console, output, records_progress, shown
from acai_jax.extras import need

if TYPE_CHECKING:
    from acai_jax.datasets.card import Card


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Print the card of a packaged dataset: what is in it; and draw it."""

    directory: tyro.conf.Positional[Path]
    """of the dataset, such as datasets/ztf_acai/alerts/1.0.0, or a folder above it."""
    out: Path | None = None
    """folder for the pictures, and for index.html with everything."""

    def run(self) -> None:
        """Prints the card, and draws it."""
        need("dataset", *(["report"] if self.out else []))
        from acai_jax.datasets.card import read_card

        with records_progress() as report:
            card = read_card(self.directory, report=report)
        print_card(card)
        if self.out is not None:
            from acai_jax.report.card_page import write_card

            with console.status("drawing"):
                page = write_card(card, self.out)
            console.print(f"{page}: everything; its pictures are beside it", soft_wrap=True)


def print_card(found: "Card") -> None:
    """Prints a dataset's card to standard output."""
    from acai_jax.datasets import card

    output.print(found.title, style="bold", soft_wrap=True)
    output.print(f"{found.description} {found.summary}".strip(), soft_wrap=True)
    header, rows = card.count_table(found)
    counts = Table()
    for index, name in enumerate(header):
        counts.add_column(shown(name), justify="right" if index else "left")
    for row in rows:
        cells = [shown(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row]
        counts.add_row(*cells, end_section=row is rows[-2])
    output.print(counts)
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")  # paths and digests are shown whole
    for name, value in [*card.fact_table(found), *card.left_out_table(found)]:
        facts.add_row(shown(name), shown(f"{value:,}" if isinstance(value, int) else value))
    output.print(facts)
