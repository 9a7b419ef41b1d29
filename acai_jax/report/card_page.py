"""A dataset's card as files: its pictures, and one page with everything."""

import os
import re
from pathlib import Path
from typing import Final

from acai_jax.datasets.card import Card, choose_examples, count_table, fact_table, left_out_table
from acai_jax.files import write_file
from acai_jax.report import card_pictures, html

_EXAMPLES: Final = 6  # of each class


def write_card(card: Card, folder: str | os.PathLike[str]) -> Path:
    """Draws a card: a PNG for each picture, and `index.html`, which holds them all.

    Args:
        card: what to draw.
        folder: where to put the files; those of an earlier card are replaced.

    Returns:
        The page's path.

    Example:
        >>> write_card(read_card("datasets"), "card")  # doctest: +SKIP
        PosixPath('card/index.html')
    """
    drawn = {
        "counts": card_pictures.draw_counts(card),
        "sky": card_pictures.draw_sky(card),
        "magnitudes": card_pictures.draw_magnitudes(card),
        "dates": card_pictures.draw_dates(card),
        "filters": card_pictures.draw_filters(card),
    }
    examples = {
        _file_name(label, index): card_pictures.draw_gallery(label, of_class)
        for index, (label, of_class) in enumerate(choose_examples(card, _EXAMPLES).items())
    }
    page = html.render(
        "card_page.html.j2",
        title=card.title,
        introduction=f"{card.description} {card.summary}".strip(),
        counts=count_table(card),
        left_out=left_out_table(card),
        drawn=drawn.values(),
        examples=examples.values(),
        facts=fact_table(card),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (drawn | examples).items():
        write_file(folder / f"{name}.png", picture.light)
    path = folder / "index.html"
    write_file(path, page.encode())
    return path


def _file_name(label: str, index: int) -> str:
    """A name that every file system takes; the number tells apart what would look the same."""
    plain = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return f"examples_{index + 1}_{plain}".rstrip("_")
