"""The picture of one alert: its three stamps, its scores and its key features."""

import io
import math
import os
from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.stamps import Image, decode_stamp, north
from acai_jax.classes import CLASS_NAMES
from acai_jax.errors import StampError

# Okabe and Ito's colours, which colour-blind readers tell apart
CLASS_COLOURS: Final = {
    "h": "#0072B2",
    "o": "#E69F00",
    "n": "#009E73",
    "v": "#CC79A7",
    "b": "#D55E00",
}


def draw_alert(
    packet: AlertPacket,
    scores: Mapping[str, float | None] | None,
    path: str | os.PathLike[str] | io.BytesIO,
    *,
    reason: str | None = None,
    preset: str = "acai",
    used_drb: str | None = None,
) -> None:
    """Draws one alert to a PNG.

    Stamps are shown with their first row at the bottom, which makes north up in ZTF's; where a
    stamp says which way is north, an arrow shows it. Science and template are in a logarithmic
    stretch, the difference in a linear one, between the 1st and 99th percentile.

    Args:
        packet: the alert.
        scores: score of each class; None where there is none, or for a picture without scores.
        path: the PNG to write.
        reason: why there are no scores, where there are none.
        preset: whose preprocessing made the scores.
        used_drb: the drb behind the scores, where it is not the packet's.

    Example:
        >>> import tempfile
        >>> candidate = {"fid": 1, "jd": 2458900.5, "ra": 10.0, "dec": -5.0}
        >>> packet = AlertPacket("ZTF20aaelulu", 1, candidate, (None, None, None))
        >>> draw_alert(packet, {"h": 0.97}, tempfile.mkdtemp() + "/alert.png")
    """
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=(3, 2.2))
    titles = ("Science", "Template", "Difference")
    for index, (title, data) in enumerate(zip(titles, packet.cutouts, strict=True)):
        axes = figure.add_subplot(grid[0, 2 * index : 2 * index + 2])
        draw_stamp(axes, data, packet.survey.largest_stamp, logarithmic=title != "Difference")
        if (towards := north(data)) is not None:
            _draw_arrow(axes, towards)
        axes.set_title(title)
    if scores is not None:
        _draw_scores(figure.add_subplot(grid[1, :3]), scores, reason)
    _draw_features(figure.add_subplot(grid[1, 3 if scores is not None else 0 :]), packet, used_drb)
    survey = packet.survey
    band = survey.bands.get(packet.fields.get(survey.band), "?")
    figure.suptitle(
        f"{packet.object_id}    {survey.alert_id} {packet.alert_id}\n"
        f"JD {_number(packet, survey.time):.5f}   {band} band   "
        f"RA {_number(packet, 'ra'):.5f}°   Dec {_number(packet, 'dec'):+.5f}°"
        + (f"   preset {preset}" if scores is not None else ""),
        fontsize=12,
    )
    figure.savefig(path, dpi=130, format="png")


def draw_stamp(axes: Axes, data: bytes | None, side: int, *, logarithmic: bool) -> None:
    """Draws one cutout into `axes`, or the reason why there is none to draw."""
    try:
        draw_image(axes, decode_stamp(data, side), logarithmic=logarithmic)
    except StampError as error:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True, fontsize=9)


def _draw_arrow(axes: Axes, towards: tuple[float, float]) -> None:
    """An arrow that points to north, in a corner."""
    axes.annotate(
        "N",
        xytext=(0.12 + 0.1 * towards[0], 0.12 + 0.1 * towards[1]),
        xy=(0.12, 0.12),
        xycoords="axes fraction",
        textcoords="axes fraction",
        color="orange",
        ha="center",
        va="center",
        arrowprops={"arrowstyle": "<-", "color": "orange"},
    )


def draw_image(axes: Axes, image: Image, *, logarithmic: bool) -> None:
    """Draws one stamp into `axes`, stretched as `stretch` does it."""
    axes.set_xticks([])
    axes.set_yticks([])
    shown = stretch(image, logarithmic=logarithmic)
    axes.imshow(shown, cmap="bone", origin="upper", vmin=0, vmax=1, interpolation="nearest")


def stretch(image: Image, *, logarithmic: bool) -> Image:
    """An image, first row last, from 0 at its 1st percentile to 1 at its 99th.

    Pixels that are NaN, infinite or ±3.4e38 count as missing and come out as NaN.

    Example:
        >>> ramp = np.linspace(0, 1, 63 * 63, dtype=np.float32).reshape(63, 63)
        >>> float(stretch(ramp, logarithmic=False).max())
        1.0
    """
    image = np.flipud(image).astype(np.float64)
    image[~(np.abs(image) < 1e30)] = np.nan
    if np.isnan(image).all():
        return image.astype(np.float32)
    low, high = np.nanpercentile(image, [1, 99])
    scaled = np.clip((image - low) / (high - low or 1.0), 0, 1)
    if logarithmic:
        scaled = np.log1p(100 * scaled) / math.log1p(100)
    return scaled.astype(np.float32)


def _draw_scores(axes: Axes, scores: Mapping[str, float | None], reason: str | None) -> None:
    names = list(scores)[::-1]
    values = [scores[name] or 0.0 for name in names]
    colours = [CLASS_COLOURS.get(name, "#555555") for name in names]
    axes.barh([CLASS_NAMES.get(name, name) for name in names], values, color=colours)
    for row, name in enumerate(names):
        score = scores[name]
        if score is not None:
            text = f"{score:.3f}" if score >= 5e-4 else f"{score:.1e}"
            inside = score > 0.85
            axes.text(
                score - 0.01 if inside else score + 0.01,
                row,
                text,
                va="center",
                ha="right" if inside else "left",
                color="white" if inside else "black",
            )
    axes.set_xlim(0, 1)
    axes.set_xlabel("score")
    axes.spines[["top", "right"]].set_visible(False)
    if reason:
        axes.text(
            0.5,
            0.5,
            f"not scored\n{reason}",
            transform=axes.transAxes,
            ha="center",
            va="center",
            wrap=True,
        )


def _draw_features(axes: Axes, packet: AlertPacket, used_drb: str | None) -> None:
    axes.axis("off")
    rows = []
    for name in packet.survey.key_fields:
        value, unit = packet.fields.get(name), packet.survey.units[name]
        text = "null" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        if name == packet.survey.replaced and used_drb:
            unit = f"(used: {used_drb})"
        rows.append(f"{name:<11}{text:>9} {unit}")
    half = (len(rows) + 1) // 2
    for column, part in enumerate((rows[:half], rows[half:])):
        axes.text(
            0.02 + 0.5 * column,
            0.98,
            "\n".join(part),
            family="monospace",
            va="top",
            fontsize=9,
            linespacing=1.5,
        )


def _number(packet: AlertPacket, name: str) -> float:
    value = packet.fields.get(name)
    return float(value) if isinstance(value, int | float) else math.nan
