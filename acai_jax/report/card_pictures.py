"""The pictures of a dataset's card, each for light and for dark pages."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib
import matplotlib.dates
import matplotlib.ticker
import numpy as np
import polars as pl
from jaxtyping import Float64
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from acai_jax.datasets.card import Card, CardExample
from acai_jax.report.html import Picture
from acai_jax.report.pictures import draw_image
from acai_jax.report.themes import DPI, WIDTH, Theme, class_colour, draw_picture, short_name
from acai_jax.times import DATES, UNIX_EPOCH_JD

_BINS: Final = 48
_ON_SKY: Final = pl.col("ra").is_between(0, 360) & pl.col("dec").is_between(-90, 90)
_MAGNITUDES: Final = (-30.0, 40.0)  # [mag] beyond which nothing was measured
_MAX_OBJECT: Final = 16  # letters
_EXAMPLES_PER_ROW: Final = 2
_STAMP_PIXELS: Final = 126  # of the page; a whole number for each pixel of ZTF's stamps
_CAPTION_PIXELS: Final = 46
_TITLE_PIXELS: Final = 34
_GAP: Final = 6  # [pixel] between stamps


def draw_counts(card: Card) -> Picture:
    """How many alerts each class has in each split."""
    counts = card.alerts.group_by("label", "split").len().rows()
    sizes = {(label, split): size for label, split, size in counts}
    shades = np.linspace(1.0, 0.3, len(card.splits))

    def draw(theme: Theme) -> Figure:
        figure, axes = _bars(card, theme)
        for row, label in enumerate(card.labels):
            left = 0
            for split, shade in zip(card.splits, shades, strict=True):
                width = sizes.get((label, split), 0)
                axes.barh(row, width, left=left, color=_colour(card, label), alpha=shade)
                left += width
            axes.annotate(f"{left:,}", (left, row), (4, 0), textcoords="offset points", va="center")
        axes.margins(x=0.18)
        axes.set_xlabel("alerts")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        for split, shade in zip(card.splits, shades, strict=True):
            axes.barh(0, 0, color=theme.text, alpha=shade, label=split)
        figure.legend(loc="outside lower center", ncols=len(card.splits), columnspacing=1)
        return figure

    alt = "Bars of the number of alerts of each class, divided into splits: " + "; ".join(
        f"{short_name(label)} "
        + ", ".join(f"{sizes.get((label, split), 0):,} {split}" for split in card.splits)
        for label in card.labels
    )
    return draw_picture(draw, alt, "Alerts of each class, by split.")


def draw_sky(card: Card) -> Picture:
    """Where the alerts lie: equatorial, Mollweide, with the galactic plane."""
    positions = card.alerts.filter(_ON_SKY)
    # drawn class by class, the last would hide the others
    alerts = positions.sample(fraction=1.0, shuffle=True, seed=0)
    longitude, latitude = _to_map(alerts["ra"].to_numpy(), alerts["dec"].to_numpy())
    palette = np.array([to_rgb(_colour(card, label)) for label in card.labels])
    codes = {label: code for code, label in enumerate(card.labels)}
    colours = palette[alerts["label"].replace_strict(codes).to_numpy()]
    size = float(np.clip(8000 / max(1, len(alerts)), 0.4, 12))
    plane = _to_map(*_galactic_plane())

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot(projection="mollweide")
        axes.grid(color=theme.line, linewidth=0.4, alpha=0.6)
        axes.plot(*plane, color=theme.text, linewidth=1, linestyle="--", label="galactic plane")
        axes.scatter(longitude, latitude, s=size, c=colours, linewidths=0, rasterized=True)
        degrees = np.arange(60, 360, 60)
        axes.set_xticks(np.radians(180.0 - degrees), [f"{degree}°" for degree in degrees])
        axes.set_yticks(np.radians([-60, -30, 0, 30, 60]))
        axes.tick_params(labelsize=9)
        for text in axes.get_xticklabels():  # they stand among the points
            text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=theme.ground)])
        for label in card.labels:
            axes.scatter([], [], s=30, color=_colour(card, label), label=short_name(label))
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1, handletextpad=0.4)
        return figure

    alt = f"Map of the sky with {len(alerts):,} alerts, coloured by class"
    if len(alerts):
        low, high = alerts["dec"].min(), alerts["dec"].max()
        alt += f", between declinations {low:.0f} and {high:+.0f} degrees"
    return draw_picture(
        draw,
        alt,
        "Where the alerts lie: equatorial coordinates, Mollweide projection, right ascension "
        f"growing to the left.{_left_out(card, alerts, 'a position')}",
    )


def _left_out(card: Card, shown: pl.DataFrame, lacking: str) -> str:
    count = len(card.alerts) - len(shown)
    return f" Left out, without {lacking}: {count:,}." if count else ""


def _to_map(
    ra: Float64[np.ndarray, " n"], dec: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Map longitude and latitude [radian] of positions [deg]: 180° in the middle, east left."""
    return np.radians(180.0 - ra % 360.0), np.radians(dec)


def _galactic_plane() -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Points of the galactic plane, ra and dec [deg], in the order of ra, as one line."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    longitude = np.arange(0.0, 360.5, 1.0)
    plane: Any = SkyCoord(longitude, np.zeros_like(longitude), frame="galactic", unit=units.deg)
    ra, dec = np.asarray(plane.icrs.ra.deg), np.asarray(plane.icrs.dec.deg)
    order = np.argsort(ra)
    return ra[order], dec[order]


def draw_magnitudes(card: Card) -> Picture:
    """The distribution of magnitudes for each class."""
    return _draw_distributions(
        card,
        card.survey.magnitude,
        f"{card.survey.magnitude} [mag]",
        "Magnitude of the difference flux, each class scaled to its own peak.",
        lambda axes: None,
    )


def draw_dates(card: Card) -> Picture:
    """The distribution of observation dates for each class."""

    def label_dates(axes: Axes) -> None:
        locator = matplotlib.dates.AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))

    return _draw_distributions(
        card, "date", "date [UTC]", "Dates, each class scaled to its own peak.", label_dates
    )


def _draw_distributions(
    card: Card, column: str, axis: str, caption: str, finish: Callable[[Axes], None]
) -> Picture:
    """A histogram for each class, one below the other, over a common axis."""
    time = card.survey.time
    field, (least, most) = (time, DATES) if column == "date" else (column, _MAGNITUDES)
    known = card.alerts.filter(pl.col(field).is_between(least, most))
    values = known.with_columns(date=pl.col(time) - UNIX_EPOCH_JD).select("label", column)
    of_class = {
        label: values.filter(pl.col("label") == label)[column].to_numpy() for label in card.labels
    }
    everything = values[column].to_numpy()
    low, high = (everything.min(), everything.max()) if len(everything) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)

    def draw(theme: Theme) -> Figure:
        rows = len(of_class)
        figure = Figure(figsize=(WIDTH, 0.62 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, numbers) in zip(grid, of_class.items(), strict=True):
            counts, _ = np.histogram(numbers, edges)
            axes.stairs(counts, edges, fill=True, color=_colour(card, label))
            axes.set_yticks([])
            axes.set_ylim(0, max(1, counts.max()) * 1.08)
            axes.spines["left"].set_visible(False)
            axes.set_ylabel(short_name(label), rotation=0, ha="right", va="center")
        grid[-1].set_xlabel(axis)
        grid[-1].set_xlim(edges[0], edges[-1])
        finish(grid[-1])
        return figure

    alt = f"Histograms of {axis} for each class; medians: " + "; ".join(
        f"{short_name(label)} {_shown(column, float(np.median(numbers)))}"
        for label, numbers in of_class.items()
        if len(numbers)
    )
    lacking = "a date" if column == "date" else "a magnitude"
    return draw_picture(draw, alt, caption + _left_out(card, known, lacking))


def _shown(column: str, value: float) -> str:
    if column == "date":
        return f"{matplotlib.dates.num2date(value):%Y-%m-%d}"
    return f"{value:.1f}"


def draw_filters(card: Card) -> Picture:
    """The share of each filter in each class."""
    band = card.survey.band
    known = card.alerts.filter(pl.col(band).is_not_null())
    filters = sorted(known[band].unique())
    names = [card.survey.band_name(value) for value in filters]
    shares = {
        label: [
            float((known.filter(pl.col("label") == label)[band] == value).mean() or 0.0)  # type: ignore[arg-type]
            for value in filters
        ]
        for label in card.labels
    }
    shades = np.linspace(1.0, 0.3, len(filters))

    def draw(theme: Theme) -> Figure:
        figure, axes = _bars(card, theme)
        for row, (label, parts) in enumerate(shares.items()):
            left = 0.0
            for part, shade in zip(parts, shades, strict=True):
                axes.barh(row, part, left=left, color=_colour(card, label), alpha=shade)
                left += part
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the class's alerts")
        axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        for name, shade in zip(names, shades, strict=True):
            axes.barh(0, 0, color=theme.text, alpha=shade, label=name)
        figure.legend(loc="outside lower center", ncols=len(filters), columnspacing=1)
        return figure

    alt = "Bars of the share of each filter: " + "; ".join(
        f"{short_name(label)} "
        + ", ".join(f"{part:.0%} {name}" for name, part in zip(names, parts, strict=True))
        for label, parts in shares.items()
    )
    caption = f"Filters, as a share of each class.{_left_out(card, known, 'a filter')}"
    return draw_picture(draw, alt, caption)


def draw_gallery(label: str, examples: Sequence[CardExample]) -> Picture:
    """Example alerts of one class: science, template and difference stamp of each."""
    rows = -(-len(examples) // _EXAMPLES_PER_ROW)
    width = _EXAMPLES_PER_ROW * (3 * (_STAMP_PIXELS + _GAP) + 2 * _GAP) + _GAP
    height = rows * (_STAMP_PIXELS + _CAPTION_PIXELS) + _TITLE_PIXELS + 2 * _GAP

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(width / DPI, height / DPI))
        figure.text(2 * _GAP / width, 1 - 4 * _GAP / height, short_name(label), va="center")
        for place, example in enumerate(examples):
            row, column = divmod(place, _EXAMPLES_PER_ROW)
            left = 2 * _GAP + column * (3 * (_STAMP_PIXELS + _GAP) + 2 * _GAP)
            bottom = height - _TITLE_PIXELS - (row + 1) * (_STAMP_PIXELS + _CAPTION_PIXELS)
            top = bottom + _STAMP_PIXELS + _GAP
            figure.text(left / width, top / height, _caption(example), fontsize=9)
            for channel, image in enumerate(example.images):
                # a whole number of screen pixels for each pixel of the stamp: sharp, and small
                x = left + channel * (_STAMP_PIXELS + _GAP)
                size = (_STAMP_PIXELS / width, _STAMP_PIXELS / height)
                axes = figure.add_axes((x / width, bottom / height, *size))
                axes.set_axis_off()
                if image is None:
                    axes.text(0.5, 0.5, "no stamp", ha="center", va="center", fontsize=9)
                else:
                    draw_image(axes, image, logarithmic=channel < 2)
        return figure

    names = ", ".join(example.object_id for example in examples)
    return draw_picture(
        draw,
        f"Science, template and difference stamps of {short_name(label)} alerts: {names}",
        f"Alerts labelled {label}.",
        few_colours=True,
    )


def _caption(example: CardExample) -> str:
    magnitude = "" if example.magnitude is None else f"   {example.magnitude:.1f} mag"
    return f"{example.object_id[:_MAX_OBJECT]}   {example.band}{magnitude}"


def _bars(card: Card, theme: Theme) -> tuple[Figure, Axes]:
    """Axes with a horizontal bar for each class, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.36 * len(card.labels) + 1.3), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(card.labels)), [short_name(label) for label in card.labels])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.invert_yaxis()
    return figure, axes


def _colour(card: Card, label: str) -> str:
    return class_colour(label, card.labels)
