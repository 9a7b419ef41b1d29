"""Pages from templates: each is one file that holds all it shows, for a browser without a network.

`templates/page.html.j2` is the frame, with the style and the script of `static`; `parts.html.j2`
has what pages are put together from. Text is escaped there, so that callers pass it as it is.
"""

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources

import jinja2


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A PNG for light pages and its twin for dark ones, with the words for who cannot see it."""

    light: bytes
    dark: bytes
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True, slots=True)
class Exhibit:
    """One card of a gallery.

    Attributes:
        png: its picture, for light and for dark pages, if it has one.
        alt: the words for who cannot see it.
        title: its heading.
        text: lines below it.
        facts: names and values.
        groups: what it can be filtered by: a key of letters, and its value.
        numbers: what it can be sorted by: a key of letters, and its number.
    """

    png: bytes | None
    alt: str
    title: str
    text: str
    facts: Sequence[tuple[str, str]]
    groups: Mapping[str, str]
    numbers: Mapping[str, float]


def render(template: str | jinja2.Template, *, title: str, **content: object) -> str:
    """A whole page.

    Args:
        template: one that extends `page.html.j2`, or its name.
        title: its heading.
        content: what else the template shows; a name that it lacks is an error.

    Returns:
        An HTML document that needs nothing else.

    Example:
        >>> "<h1>A &amp; B</h1>" in render("page.html.j2", title="A & B", introduction="Two.")
        True
    """
    script = _static("gallery.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    frame = {"style": _static("page.css"), "script": script, "digest": digest}
    headings: list[str] = []  # sections add theirs
    page = environment().get_template(template)
    return page.render(content, title=title, headings=headings, **frame)


@functools.cache
def environment() -> jinja2.Environment:
    """What templates are read and rendered with."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("acai_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["data"] = _data
    return found


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _static(name: str) -> str:
    return resources.files("acai_jax.report").joinpath("static", name).read_text(encoding="utf-8")
