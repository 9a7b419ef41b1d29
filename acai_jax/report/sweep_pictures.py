"""The pictures of a sweep: trials side by side, what decides, learning curves, cost and quality."""

import math
from collections.abc import Sequence
from typing import Any, Final

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acai_jax.report.html import Picture
from acai_jax.report.themes import WIDTH, Theme, draw_picture
from acai_jax.sweep.choice import SweepResult
from acai_jax.sweep.trials import Trial

_COLOURS: Final = "viridis_r"
_WINNER: Final = "#D55E00"
_MOST_TICKS: Final = 6
_SPREAD: Final = 0.035  # of lines that meet at one value of an axis


def draw_parallel(found: SweepResult) -> Picture:
    """All trials as lines through their values, an axis below the other."""
    judged = _judged(found)
    axes_of = [axis for axis in judged[0].settings if len(_values(judged, axis)) > 1]
    first = [trial.results[0].loss for trial in judged]
    ranks = np.argsort(np.argsort(first)) / max(1, len(judged) - 1)

    def draw(theme: Theme) -> Figure:
        rows = [*axes_of, "loss"]
        figure = Figure(figsize=(WIDTH, 0.55 * len(rows) + 0.8), layout="constrained")
        axes = figure.subplots()
        lines = np.array([_places(judged, axis) for axis in axes_of] + [_scaled(first)])
        jitter = np.random.default_rng(0).uniform(-_SPREAD, _SPREAD, lines.shape)
        colours = matplotlib.colormaps[_COLOURS](ranks)
        for place in np.argsort(-ranks):  # the best come last, on top
            trial = judged[place]
            won = trial.number == found.choice.winner.number
            axes.plot(
                lines[:, place] + (0 if won else jitter[:, place]),
                range(len(rows)),
                color=_WINNER if won else colours[place],
                linewidth=2.4 if won else 0.8,
                alpha=1 if won else 0.7,
                zorder=3 if won else 2,
            )
        for row, axis in enumerate(axes_of):
            axes.axhline(row, color=theme.line, linewidth=0.6, zorder=1)
            for place, text in _ticks(judged, axis):
                axes.annotate(
                    text, (place, row), (0, 3), textcoords="offset points", fontsize=8, ha="center"
                )
        axes.axhline(len(axes_of), color=theme.line, linewidth=0.6, zorder=1)
        for place, loss in ((0, min(first)), (1, max(first))):
            axes.annotate(
                f"{loss:.3g}",
                (place, len(axes_of)),
                (0, -11),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlim(-0.08, 1.08)
        axes.spines[:].set_visible(False)
        return figure

    winner = ", ".join(f"{axis} {found.choice.winner.settings[axis]}" for axis in axes_of)
    return draw_picture(
        draw,
        f"Each trial's values. The winner's: {winner}.",
        "Trials as lines through their values and the loss at the first rung; orange: the winner.",
    )


def draw_importances(found: SweepResult) -> Picture:
    """How much each axis decides."""
    names = list(found.importances)[::-1]

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 0.32 * len(names) + 0.9), layout="constrained")
        axes = figure.subplots()
        shares = [found.importances[name] for name in names]
        axes.barh([name.replace("_", " ") for name in names], shares, color="#0072B2")
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the variance")
        return figure

    alt = "How much each axis decides: " + "; ".join(
        f"{name} {share:.2f}" for name, share in found.importances.items()
    )
    return draw_picture(
        draw,
        alt,
        "Share of the variance of losses at the first rung that goes with each axis alone.",
    )


def draw_curves(found: SweepResult) -> Picture:
    """The mean validation loss of each trial, epoch by epoch."""
    rungs = found.search.rungs(found.config.max_epochs)
    curves = {number: _mean_curve(heads.values()) for number, heads in found.curves.items()}
    winner = found.choice.winner.number

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 4), layout="constrained")
        axes = figure.subplots()
        for number, curve in curves.items():
            won = number == winner
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                marker=".",
                color=_WINNER if won else theme.line,
                linewidth=2 if won else 0.8,
                alpha=1 if won else 0.7,
                zorder=3 if won else 2,
            )
        for epochs in rungs[:-1]:
            axes.axvline(epochs, color=theme.line, linestyle=":", linewidth=1)
        _logarithmic_losses(axes, [loss for curve in curves.values() for loss in curve])
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        return figure

    alt = f"Validation losses of {len(curves)} trials; rungs end after epochs {rungs}."
    caption = "Mean validation loss of each trial; dotted: where the worse ones ended."
    return draw_picture(draw, alt, caption)


def draw_cost(found: SweepResult) -> Picture:
    """The loss of the trials that came to the last rung, beside the work for an alert."""
    last = max(len(trial.results) for trial in found.trials)
    final = [t for t in found.trials if len(t.results) == last and math.isfinite(t.loss)]
    best, winner = found.choice.best, found.choice.winner
    error = best.results[-1].error or 0.0

    def work(trial: Trial) -> float:
        return found.sizes[trial.number].multiplications / 1e6

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 4), layout="constrained")
        axes = figure.subplots()
        axes.axhspan(best.loss, best.loss + error, color=theme.line, alpha=0.25, linewidth=0)
        for trial in final:
            won = trial.number == winner.number
            weights = found.sizes[trial.number].weights
            axes.scatter(
                work(trial),
                trial.loss,
                s=12 + 6 * math.sqrt(weights / 1000),
                color=_WINNER if won else "#0072B2",
                edgecolors=theme.ground,
                zorder=3 if won else 2,
            )
            axes.annotate(
                str(trial.number),
                (work(trial), trial.loss),
                (5, 3),
                textcoords="offset points",
                fontsize=8,
            )
        works = list(map(work, final))
        if max(works) > 5 * min(works):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.set_xlabel("multiplications for an alert and a head [million]")
        axes.set_ylabel("validation loss")
        axes.grid(color=theme.line, alpha=0.3, linewidth=0.6)
        return figure

    alt = "Loss and work of the trials at the last rung: " + "; ".join(
        f"{t.number}: {t.loss:.4f}, {work(t):.2f} million" for t in final
    )
    caption = (
        "Loss and work of the trials at the last rung, by number; larger dots have more weights; "
        "band: one standard error above the best; orange: the winner."
    )
    return draw_picture(draw, alt, caption)


def _judged(found: SweepResult) -> list[Trial]:
    """The trials that have a loss."""
    return [t for t in found.trials if t.results and math.isfinite(t.results[0].loss)]


def _values(trials: Sequence[Trial], axis: str) -> list[Any]:
    return sorted({trial.settings[axis] for trial in trials})


def _places(trials: Sequence[Trial], axis: str) -> np.ndarray:
    """Where the trials stand along an axis, from 0 to 1."""
    values = [trial.settings[axis] for trial in trials]
    if isinstance(values[0], float):
        return _scaled(np.log(values) if axis == "learning_rate" else values)
    known = _values(trials, axis)
    return np.array([known.index(value) for value in values]) / (len(known) - 1)


def _ticks(trials: Sequence[Trial], axis: str) -> list[tuple[float, str]]:
    known = _values(trials, axis)
    if isinstance(known[0], float):
        return [(0.0, f"{known[0]:.2g}"), (1.0, f"{known[-1]:.2g}")]
    step = -(-len(known) // _MOST_TICKS)
    return [(i / (len(known) - 1), str(v)) for i, v in enumerate(known) if i % step == 0]


def _scaled(values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    return (values - values.min()) / ((values.max() - values.min()) or 1.0)


def _mean_curve(heads: Any) -> list[float]:
    """Mean over the heads; one that has stopped keeps its last loss."""
    curves = [list(curve) for curve in heads]
    length = max(map(len, curves))
    filled = [curve + curve[-1:] * (length - len(curve)) for curve in curves]
    return np.mean(filled, axis=0).tolist()


def _logarithmic_losses(axes: Axes, losses: Sequence[float]) -> None:
    """A logarithmic axis of losses; those of trials that diverged lie beyond its end."""
    finite = np.array([loss for loss in losses if math.isfinite(loss)])
    axes.set_yscale("log")
    axes.set_ylim(0.95 * finite.min(), 1.1 * np.quantile(finite, 0.98))
    axes.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axes.set_ylabel("validation loss")
