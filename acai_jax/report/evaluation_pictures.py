"""The pictures of an evaluation: error rates, ROC, calibration, groups, agreement."""

import math
from collections.abc import Sequence
from typing import Final

import matplotlib
import matplotlib.ticker
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acai_jax.evaluate.figures import THRESHOLDS
from acai_jax.evaluate.judged import COMPARED, Comparison
from acai_jax.evaluate.results import Evaluation
from acai_jax.report.html import Picture
from acai_jax.report.themes import WIDTH, Theme, class_colour, draw_picture, short_name

_BAND: Final = 0.2  # opacity
_LOWEST_RATE: Final = 1e-4


def draw_error_rates(found: Evaluation) -> Picture:
    """FNR and FPR of each head against the threshold, as in figure 2 of the paper."""
    sizes = [max(head.ranking.positives, head.ranking.negatives) for head in found.heads.values()]
    floor = max(_LOWEST_RATE, 10.0 ** math.floor(math.log10(0.5 / max(sizes))))

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        for name, head in found.heads.items():
            colour = _colour(found, name)
            for rate, style in (("fnr", "-"), ("fpr", "--")):
                low, middle, high = (
                    np.maximum(getattr(each, rate), floor / 10)
                    for each in (head.low, head.figures, head.high)
                )
                axes.fill_between(THRESHOLDS, low, high, color=colour, alpha=_BAND, linewidth=0)
                axes.plot(THRESHOLDS, middle, style, color=colour, linewidth=1.6)
            axes.plot(
                head.threshold,
                np.nanmax(head.rates),
                "o",
                color=colour,
                markeredgecolor=theme.ground,
            )
        axes.set_yscale("log")
        axes.set_ylim(floor, 1)
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_formatter(_percent)
        axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.grid(color=theme.line, alpha=0.3, linewidth=0.6)
        axes.set_xlabel("score threshold")
        axes.set_ylabel("error rate")
        styles = [
            Line2D([], [], color=theme.text, linestyle="-", label="FNR"),
            Line2D([], [], color=theme.text, linestyle="--", label="FPR"),
        ]
        _legend(figure, found, styles)
        return figure

    alt = "False-negative and false-positive rates against the score threshold. At the dots: " + (
        "; ".join(
            f"{short_name(name)} {head.threshold:.3f}: {' and '.join(map(_rate, head.rates))}"
            for name, head in found.heads.items()
        )
    )
    return draw_picture(
        draw,
        alt,
        "FNR (solid) and FPR (dashed) against the threshold, with 95 % bands; dots: balanced.",
    )


def draw_roc(found: Evaluation) -> Picture:
    """Recall against the false-positive rate, as the threshold falls."""

    def draw(theme: Theme) -> Figure:
        figure, axes = _percentages(theme)
        for name, head in found.heads.items():
            curve = head.ranking.curve()
            axes.plot(curve.fpr, curve.recall, color=_colour(found, name), linewidth=1.6)
        axes.set_xscale("symlog", linthresh=1e-3)  # with a formatter of its own
        axes.set_xticks([0, 1e-3, 1e-2, 1e-1, 1])
        axes.xaxis.set_major_formatter(_percent)
        axes.set_xlim(0, 1)
        axes.set_ylim(_lowest_of_lines(axes), 1.004)
        axes.set_xlabel("false-positive rate")
        axes.set_ylabel("recall")
        _legend(figure, found, [])
        return figure

    alt = "ROC curves; area under them: " + "; ".join(
        f"{short_name(name)} {head.figures.auc:.4f}" for name, head in found.heads.items()
    )
    return draw_picture(draw, alt, "ROC; the false-positive rate is logarithmic from 0.1 %.")


def draw_precision(found: Evaluation) -> Picture:
    """Precision against recall, as the threshold falls."""

    def draw(theme: Theme) -> Figure:
        figure, axes = _percentages(theme)
        for name, head in found.heads.items():
            curve = head.ranking.curve()
            axes.plot(curve.recall, curve.precision, color=_colour(found, name), linewidth=1.6)
        axes.set_xlim(0, 1)
        axes.set_ylim(_lowest_of_lines(axes), 1.004)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        _legend(figure, found, [])
        return figure

    alt = "Precision-recall curves; average precision: " + "; ".join(
        f"{short_name(name)} {head.figures.average_precision:.4f}"
        for name, head in found.heads.items()
    )
    caption = "Precision and recall; the precision depends on how common positives are."
    return draw_picture(draw, alt, caption)


def _percentages(theme: Theme) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    axes.grid(color=theme.line, alpha=0.3, linewidth=0.6)
    return figure, axes


def draw_calibration(found: Evaluation) -> Picture:
    """The share of positives among alerts of each score."""

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=theme.line, linewidth=1)
        for name, head in found.heads.items():
            calibration = head.figures.calibration
            low, high = head.low.calibration.positive_shares, head.high.calibration.positive_shares
            middle = calibration.positive_shares
            errors = np.maximum([middle - low, high - middle], 0)
            axes.errorbar(
                calibration.mean_scores,
                middle,
                errors,
                color=_colour(found, name),
                marker="o",
                markersize=4,
                linewidth=1.4,
                elinewidth=0.8,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.01, 1.01)
        axes.set_xlabel("mean score")
        axes.set_ylabel("share of positives")
        axes.yaxis.set_major_formatter(_percent)
        axes.grid(color=theme.line, alpha=0.3, linewidth=0.6)
        _legend(figure, found, [])
        return figure

    alt = "Calibration; expected calibration error: " + "; ".join(
        f"{short_name(name)} {head.figures.ece:.3f}" for name, head in found.heads.items()
    )
    return draw_picture(
        draw, alt, "Calibration in ten bins of the score, with 95 % intervals; grey: perfect."
    )


def draw_groups(found: Evaluation, breakdown: str) -> Picture:
    """FNR and FPR of each head in the groups of a breakdown, at its threshold."""
    names = found.breakdowns[breakdown].names
    title = found.breakdowns[breakdown].title

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for index, (axes, rate) in enumerate(((upper, "FNR"), (lower, "FPR"))):
            highest = 0.0
            for place, (name, head) in enumerate(found.heads.items()):
                groups = head.groups[breakdown]
                shift = 0.7 * ((place + 0.5) / len(found.heads) - 0.5)
                middle = np.array([group.rates[index] for group in groups])
                low, high = (
                    np.array([getattr(group, end)[index] for group in groups])
                    for end in ("low", "high")
                )
                errors = np.nan_to_num(np.maximum([middle - low, high - middle], 0))
                x = np.arange(len(groups)) + shift
                axes.errorbar(
                    x,
                    middle,
                    errors,
                    fmt="o",
                    markersize=4,
                    elinewidth=1,
                    color=_colour(found, name),
                )
                highest = np.nanmax([highest, *(1.5 * middle), *np.minimum(high, 3 * middle)])
            top = min(1.02, max(highest, 0.01))
            axes.set_ylim(-0.03 * top, top)  # no point is cut in half
            axes.set_ylabel(rate)
            axes.yaxis.set_major_formatter(_percent)
            axes.grid(axis="y", color=theme.line, alpha=0.3, linewidth=0.6)
            for border in range(1, len(names)):
                axes.axvline(border - 0.5, color=theme.line, linewidth=0.5, alpha=0.5)
            axes.set_xlim(-0.5, len(names) - 0.5)
        lower.set_xticks(range(len(names)), names)
        lower.tick_params(axis="x", length=0)
        lower.set_xlabel(title)
        _legend(figure, found, [])
        return figure

    alt = f"FNR and FPR of each head by {title}: " + "; ".join(
        f"{short_name(name)} "
        + ", ".join(
            f"{group.name} {_rate(group.rates[0])} and {_rate(group.rates[1])}"
            for group in head.groups[breakdown]
        )
        for name, head in found.heads.items()
    )
    caption = (
        f"By {title}, at each head's balanced threshold; few alerts make intervals too narrow."
    )
    return draw_picture(draw, alt, caption)


def draw_correlation(found: Evaluation) -> Picture:
    """How the heads' scores go together."""
    return _draw_matrix(
        found,
        found.agreement.correlation,
        ("PuOr_r", -1.0),
        "Spearman correlation of the heads' scores",
        "Correlation of the heads' scores (Spearman).",
    )


def draw_overlap(found: Evaluation) -> Picture:
    """How often two heads call the same alerts positive."""
    return _draw_matrix(
        found,
        found.agreement.overlap,
        ("viridis", 0.0),
        "Of the alerts that the first head calls positive, the share that the second does, too",
        "Of the alerts that the row's head calls positive, the share that the column's does, too.",
    )


def _draw_matrix(
    found: Evaluation,
    values: Float64[np.ndarray, "k k"],
    scale: tuple[str, float],
    what: str,
    caption: str,
) -> Picture:
    """A square of numbers; `scale` is a colour map, and the value at its lower end."""
    names = [short_name(name) for name in found.heads]
    palette, lowest = matplotlib.colormaps[scale[0]], scale[1]

    def draw(theme: Theme) -> Figure:
        del theme
        figure = Figure(figsize=(WIDTH, 0.42 * len(names) + 1.2), layout="constrained")
        axes = figure.subplots()
        axes.imshow(values, cmap=palette, vmin=lowest, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            text = "" if np.isnan(value) else f"{value:.2f}"
            red, green, blue, _ = palette((np.nan_to_num(value) - lowest) / (1 - lowest))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=25, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return figure

    alt = f"{what}: " + "; ".join(
        f"{names[i]} and {names[j]} {value:.2f}"
        for (i, j), value in np.ndenumerate(values)
        if i != j
    )
    return draw_picture(draw, alt, caption)


def draw_comparison(found: Evaluation) -> Picture:
    """Differences of two models' figures, with intervals."""
    names = list(found.comparisons)

    def draw(theme: Theme) -> Figure:
        figure = Figure(
            figsize=(WIDTH, 0.28 * len(names) * len(COMPARED) + 2), layout="constrained"
        )
        grid = figure.subplots(len(COMPARED), 1)
        for axes, (key, title) in zip(grid, COMPARED.items(), strict=True):
            axes.axvline(0, color=theme.line, linewidth=1)
            for row, (name, each) in enumerate(found.comparisons.items()):
                middle = each.first[key] - each.second[key]
                errors = np.nan_to_num(
                    [[max(middle - each.low[key], 0)], [max(each.high[key] - middle, 0)]]
                )
                axes.errorbar(
                    [middle], [row], xerr=errors, fmt="o", color=_colour(found, name), markersize=5
                )
            axes.set_yticks(range(len(names)), [short_name(name) for name in names], fontsize=9)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.margins(x=0.1)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
            axes.tick_params(axis="y", length=0)
            axes.set_title(f"difference in {title}", fontsize=11, color=theme.text)
        return figure

    alt = f"Differences of {found.model} and {found.against}, {found.model} minus the other: " + (
        "; ".join(
            f"{short_name(name)} AUC {_difference(each, 'auc')}, "
            f"balanced error {_difference(each, 'balanced_error')}"
            for name, each in found.comparisons.items()
        )
    )
    return draw_picture(
        draw,
        alt,
        "This model minus the other, with 95 % intervals of the same draws. Larger is better for "
        "AUC and average precision, smaller for the others.",
    )


def _difference(comparison: Comparison, key: str) -> str:
    middle = comparison.first[key] - comparison.second[key]
    return f"{middle:+.4f} ({comparison.low[key]:+.4f} to {comparison.high[key]:+.4f})"


def _colour(found: Evaluation, head: str) -> str:
    return class_colour(head, list(found.heads))


def _legend(figure: Figure, found: Evaluation, styles: Sequence[Line2D]) -> None:
    lines = [
        Line2D([], [], color=_colour(found, name), linewidth=3, label=short_name(name))
        for name in found.heads
    ]
    figure.legend(
        handles=[*lines, *styles],
        loc="outside lower center",
        ncols=3,
        columnspacing=1,
        handlelength=1.4,
    )


def _lowest_of_lines(axes: Axes) -> float:
    """A round lower end of an axis for curves that keep near 1."""
    ends = [
        float(np.nanquantile(np.asarray(line.get_ydata(), float), 0.02))
        for line in axes.get_lines()
        if np.isfinite(np.asarray(line.get_ydata(), float)).any()
    ]
    return math.floor(10 * min(ends, default=0.0)) / 10


@matplotlib.ticker.FuncFormatter
def _percent(value: float, position: int | None) -> str:
    return f"{100 * value:g} %"


def _rate(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{100 * value:.2f} %"
