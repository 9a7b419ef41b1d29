"""Rounds of labelling and training as one page: what the labels have brought."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from acai_jax.files import write_file
from acai_jax.report import html
from acai_jax.report.themes import WIDTH, Theme, class_colour, draw_picture, short_name


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """What one round has brought.

    Attributes:
        number: of the round; 0 is the first.
        labels: that there were when its heads were trained.
        picked: how many alerts were picked for each reason.
        auc: of each head that could be evaluated.
        error: of each such head, the mean of FNR and FPR at the balanced threshold.
    """

    number: int
    labels: int
    picked: Mapping[str, int]
    auc: Mapping[str, float]
    error: Mapping[str, float]


def write_active_page(
    rounds: Sequence[Round], path: str | os.PathLike[str], *, facts: Mapping[str, str]
) -> Path:
    """Writes a page that needs nothing else: learning curves, and a table of all rounds.

    Args:
        rounds: in their order.
        path: of the page; an earlier one is replaced.
        facts: what else there is to say, such as where the alerts come from.

    Example:
        >>> import tempfile
        >>> first = Round(0, 100, {"random": 100}, {"h": 0.9}, {"h": 0.1})
        >>> write_active_page([first], tempfile.mkdtemp() + "/rounds.html", facts={}).name
        'rounds.html'
    """
    heads = list(dict.fromkeys(head for each in rounds for head in each.auc))
    last = rounds[-1]
    page = html.render(
        "active_page.html.j2",
        title="Choose, label, retrain",
        introduction=f"{len(rounds)} rounds, {last.labels:,} labels.",
        drawn=[
            _draw(rounds, heads, "error", "balanced error"),
            _draw(rounds, heads, "auc", "AUC"),
        ]
        if heads
        else [],
        header=["round", "labels", "picked", *(short_name(head) for head in heads)],
        rows=[_row(each, heads) for each in rounds],
        facts=[list(fact) for fact in facts.items()],
    )
    write_file(Path(path), page.encode())
    return Path(path)


def _row(each: Round, heads: Sequence[str]) -> list[str | int]:
    picked = ", ".join(f"{count} {why}" for why, count in sorted(each.picked.items()))
    errors = (f"{100 * each.error[h]:.2f} %" if h in each.error else "none" for h in heads)
    return [str(each.number), each.labels, picked, *errors]


def _draw(rounds: Sequence[Round], heads: Sequence[str], figure: str, name: str) -> html.Picture:
    def values(head: str) -> list[tuple[int, float]]:
        found = ((each.labels, getattr(each, figure).get(head)) for each in rounds)
        return [(labels, value) for labels, value in found if value is not None]

    def draw(theme: Theme) -> Figure:
        drawn = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = drawn.subplots()
        for head in heads:
            labels, found = zip(*values(head), strict=True)
            colour = class_colour(head, heads)
            axes.plot(labels, found, "o-", color=colour, label=short_name(head), markersize=4)
        axes.grid(color=theme.line, alpha=0.3, linewidth=0.6)
        axes.set_xlabel("labels")
        axes.set_ylabel(name)
        drawn.legend(loc="outside upper center", ncols=3)
        return drawn

    ends = (f"{short_name(h)} {values(h)[0][1]:.3f} to {values(h)[-1][1]:.3f}" for h in heads)
    alt = f"{name} against the number of labels, first to last round: {'; '.join(ends)}"
    return draw_picture(draw, alt, f"{name} of each head against the number of labels.")
