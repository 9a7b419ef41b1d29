"""One HTML page that holds all it shows: no outside request, light and dark, wide and narrow.

Each function returns a piece of HTML; `page` puts the pieces together. Text is escaped here, so
that callers pass it as it is.
"""

import base64
import dataclasses
import html
from collections.abc import Sequence
from typing import Final

# nothing is loaded from anywhere, not even by mistake
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1e23; --soft: #5a6270; --line: #d7dbe2;
  --panel: #ffffff; --ground: #f5f6f8; --link: #005a9c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ec; --soft: #a3abb8; --line: #383d47;
  --panel: #1c1f25; --ground: #131519; --link: #7cc0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(0.75rem, 3vw, 2rem) 3rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; list-style: none; padding: 0;
  margin: 0.75rem 0; }
nav a { display: inline-block; padding: 0.25rem 0; }
.scroll { display: inline-block; vertical-align: top; overflow-x: auto; max-width: 100%;
  background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem;
  margin: 0.5rem 0.75rem 0.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0.5rem 0.75rem 0.25rem; }
th, td { padding: 0.3rem 0.75rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
tbody th { font-weight: 600; }
@media (min-width: 40rem) { tbody th { white-space: nowrap; } }
td { overflow-wrap: anywhere; min-width: 4rem; }
.number { text-align: right; white-space: nowrap; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; padding: 0.75rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 0.5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.5rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A PNG for light pages and its twin for dark ones, with the words for who cannot see it."""

    light: bytes
    dark: bytes
    alt: str
    caption: str


def page(title: str, introduction: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole page.

    Args:
        title: its heading.
        introduction: a sentence or two below the heading.
        sections: (heading, HTML below it) of each section.

    Returns:
        An HTML document that needs nothing else.

    Example:
        >>> "<title>A &amp; B</title>" in page("A & B", "Two.", [("First", paragraph("One."))])
        True
    """
    anchors = [f"section-{number}" for number in range(1, len(sections) + 1)]
    links = "".join(
        f'<li><a href="#{anchor}">{html.escape(heading)}</a></li>'
        for anchor, (heading, _) in zip(anchors, sections, strict=True)
    )
    bodies = "\n".join(
        f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{html.escape(heading)}</h2>\n'
        f"{body}\n</section>"
        for anchor, (heading, body) in zip(anchors, sections, strict=True)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{html.escape(title)}</h1>\n{paragraph(introduction)}\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{bodies}\n</main>\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text.

    Example:
        >>> paragraph("magpsf < 20")
        '<p>magpsf &lt; 20</p>'
    """
    return f"<p>{html.escape(text)}</p>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """A table, whose first column names its rows; it scrolls sideways where it is too wide.

    Args:
        caption: what it shows.
        header: a heading for each column; none at all for a table of names and values.
        rows: its cells; integers are set as numbers.

    Example:
        >>> "2,500" in table("Alerts", ["class", "alerts"], [["hosted", 2500]])
        True
    """
    columns = range(len(rows[0]) if rows else 0)
    numeric = {i for i in columns if all(isinstance(row[i], int) for row in rows)}

    def cell(index: int, value: str | int) -> str:
        text = html.escape(value if isinstance(value, str) else f"{value:,}")
        if index == 0:
            return f'<th scope="row">{text}</th>'
        return f'<td class="number">{text}</td>' if index in numeric else f"<td>{text}</td>"

    head = "".join(
        f'<th scope="col"{" class=number" if i in numeric else ""}>{html.escape(name)}</th>'
        for i, name in enumerate(header)
    )
    body = "\n".join(
        "<tr>" + "".join(cell(i, value) for i, value in enumerate(row)) + "</tr>" for row in rows
    )
    name = html.escape(caption)
    return (
        # focusable, so that the keyboard can scroll it
        f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>\n'
        f"<caption>{name}</caption>\n{f'<thead><tr>{head}</tr></thead>' if header else ''}\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def pictures(drawn: Sequence[Picture]) -> str:
    """Pictures beside each other, as many as there is room for.

    Example:
        >>> pictures([Picture(b"light", b"dark", "a map", "The sky.")]).count("data:image/png")
        2
    """
    figures = "\n".join(
        f'<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_data(each.dark)}"><img src="{_data(each.light)}" alt="{html.escape(each.alt)}">'
        f"</picture><figcaption>{html.escape(each.caption)}</figcaption></figure>"
        for each in drawn
    )
    return f'<div class="pictures">\n{figures}\n</div>'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
