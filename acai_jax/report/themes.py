"""Pictures for pages: each drawn twice, for light and for dark ones, in the colours of classes."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from acai_jax.classes import CLASS_NAMES
from acai_jax.report.html import Picture
from acai_jax.report.pictures import CLASS_COLOURS

WIDTH: Final = 5.2
"""Of a picture [inch]; narrow, so that text stays readable on a phone."""
DPI: Final = 180

# for classes beyond ACAI's five: told apart from those, and from each other, by the colour-blind
_FURTHER_COLOURS: Final = ("#56B4E9", "#999933", "#882255", "#44AA99", "#7F7F7F")
_MAX_NAME: Final = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Theme:
    """Colours of what is not data.

    Attributes:
        ground: behind everything.
        text: of words.
        line: of axes and grids.
    """

    ground: str
    text: str
    line: str

    def settings(self) -> dict[Any, Any]:
        """What matplotlib has to know."""
        return {
            "figure.facecolor": self.ground,
            "savefig.facecolor": self.ground,
            "axes.facecolor": self.ground,
            "axes.edgecolor": self.line,
            "axes.labelcolor": self.text,
            "text.color": self.text,
            "xtick.color": self.line,
            "ytick.color": self.line,
            "xtick.labelcolor": self.text,
            "ytick.labelcolor": self.text,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 11,
            "legend.frameon": False,
            "text.parse_math": False,  # names from outside may hold dollars
        }


LIGHT: Final = Theme("#ffffff", "#1b1e23", "#868d99")
DARK: Final = Theme("#1c1f25", "#e6e8ec", "#7d8592")


def draw_picture(
    draw: Callable[[Theme], Figure], alt: str, caption: str, *, few_colours: bool = False
) -> Picture:
    """Draws a picture for both themes.

    Args:
        draw: makes the figure.
        alt: says in words what it shows.
        caption: stands below it.
        few_colours: half the bytes; but colours that stand for something could shift.

    Example:
        >>> draw_picture(lambda theme: Figure((1, 1)), "nothing", "Empty.").light[1:4]
        b'PNG'
    """
    light, dark = (_png(draw, theme, few_colours) for theme in (LIGHT, DARK))
    return Picture(light, dark, alt, caption)


def _png(draw: Callable[[Theme], Figure], theme: Theme, few_colours: bool) -> bytes:
    png = io.BytesIO()
    with matplotlib.rc_context(theme.settings()):
        figure = draw(theme)
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if few_colours:
        image = image.quantize(256, dither=Image.Dither.NONE)
    image.save(png, "png", optimize=True)
    return png.getvalue()


def class_colour(name: str, names: Sequence[str]) -> str:
    """The colour of a class; those beyond ACAI's five take theirs in the order of `names`.

    Example:
        >>> class_colour("h", ["h", "fast"]), class_colour("fast", ["h", "fast"])
        ('#0072B2', '#56B4E9')
    """
    further = [each for each in names if each not in CLASS_COLOURS]
    if name in further:
        return _FURTHER_COLOURS[further.index(name) % len(_FURTHER_COLOURS)]
    return CLASS_COLOURS[name]


def short_name(label: str) -> str:
    """A class as pictures name it.

    Example:
        >>> short_name("v"), short_name("a name of many words")
        ('variable star', 'a name of many …')
    """
    name = CLASS_NAMES.get(label, label)
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
