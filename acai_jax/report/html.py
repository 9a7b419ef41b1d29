"""One HTML page that holds all it shows: no outside request, light and dark, wide and narrow.

Each function returns a piece of HTML; `page` puts the pieces together. Text is escaped here, so
that callers pass it as it is.
"""

import base64
import dataclasses
import hashlib
import html
from collections.abc import Mapping, Sequence
from typing import Final

# nothing is loaded from anywhere, not even by mistake, and no script runs but ours
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script}"
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
td { min-width: 4rem; }
.facts td { overflow-wrap: anywhere; }
.lines { white-space: pre; }
.number { text-align: right; white-space: nowrap; }
.long { max-height: 30rem; overflow-y: auto; }
.long thead th { position: sticky; top: 0; background: var(--panel); }
.pictures { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; padding: 0.75rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 0.5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.5rem; }
.controls { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: end; margin: 0.75rem 0; }
.controls[hidden], .cards > [hidden] { display: none; }
.controls label { display: grid; color: var(--soft); font-size: 0.9rem; }
.controls select, .controls input { font: inherit; color: var(--text); background: var(--panel);
  border: 1px solid var(--line); border-radius: 0.35rem; padding: 0.35rem 0.5rem; max-width: 100%; }
.controls output { color: var(--soft); padding: 0.35rem 0; }
.cards { display: grid; gap: 0.75rem; list-style: none; padding: 0; margin: 0.75rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.cards li { background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem;
  padding: 0.6rem; }
.cards img { display: block; width: 100%; height: auto; image-rendering: pixelated;
  background: var(--line); }
.cards h3 { font-size: 0.95rem; margin: 0.5rem 0 0.1rem; overflow-wrap: anywhere; }
.cards p { margin: 0 0 0.3rem; font-size: 0.9rem; overflow-wrap: anywhere; white-space: pre-line; }
.cards dl { display: grid; grid-template-columns: auto 1fr auto 1fr; gap: 0 0.6rem; margin: 0;
  font-size: 0.8rem; font-variant-numeric: tabular-nums; }
.cards dt { color: var(--soft); }
.cards dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
@media print { body { max-width: none; } figure { break-inside: avoid; }
  .long { max-height: none; } }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A PNG for light pages and its twin for dark ones, with the words for who cannot see it."""

    light: bytes
    dark: bytes
    alt: str
    caption: str


_MANY_ROWS: Final = 40  # of a table that scrolls
_LONG_WORD: Final = 16  # letters of what may be broken, such as a date may not
_GALLERY: Final = 'class="gallery"'
_SCRIPT: Final = """
for (const gallery of document.querySelectorAll(".gallery")) {
  const controls = gallery.querySelector(".controls"), list = gallery.querySelector(".cards");
  const cards = [...list.children], order = controls.querySelector("[data-order]");
  const filters = [...controls.querySelectorAll("[data-filter]")];
  const search = controls.querySelector("input"), status = controls.querySelector("output");
  const update = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const card of cards) {
      card.hidden = !card.textContent.toLowerCase().includes(wanted) ||
        filters.some((each) => each.value && card.dataset[each.dataset.filter] !== each.value);
    }
    const [key, sign] = order.value.split(" ");
    list.append(...cards.toSorted((a, b) => sign * (a.dataset[key] - b.dataset[key])));
    status.textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} shown`;
  };
  controls.addEventListener("input", update);
  controls.hidden = false;
  update();
}
"""


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
    # only a page with a gallery needs a script, and reads well without it
    script = _SCRIPT if any(_GALLERY in body for _, body in sections) else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = _POLICY.format(script=f"'sha256-{digest}'" if script else "'none'")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{html.escape(title)}</h1>\n{paragraph(introduction)}\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{bodies}\n</main>\n"
        f"{f'<script>{script}</script>' if script else ''}</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text.

    Example:
        >>> paragraph("magpsf < 20")
        '<p>magpsf &lt; 20</p>'
    """
    return f"<p>{html.escape(text)}</p>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """A table, whose first column names its rows; it scrolls where it is too wide, or too long.

    Args:
        caption: what it shows.
        header: a heading for each column; none at all for a table of names and values.
        rows: its cells; integers are set as numbers, and a text of several lines is not broken.

    Example:
        >>> "2,500" in table("Alerts", ["class", "alerts"], [["hosted", 2500]])
        True
    """
    columns = range(len(rows[0]) if rows else 0)
    numeric = {i for i in columns if all(isinstance(row[i], int) for row in rows)}

    def cell(index: int, value: str | int) -> str:
        text = html.escape(value if isinstance(value, str) else f"{value:,}")
        if index == 0:
            word = "" if " " in text or len(text) > _LONG_WORD else " class=lines"
            return f'<th scope="row"{word}>{text}</th>'
        if index in numeric:
            return f'<td class="number">{text}</td>'
        return f'<td class="lines">{text}</td>' if "\n" in text else f"<td>{text}</td>"

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
        f'<div class="scroll{" long" if len(rows) > _MANY_ROWS else ""}" role="region" '
        f'tabindex="0" aria-label="{name}">'
        f"<table{'' if header else ' class=facts'}>\n"
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


def gallery(
    name: str,
    exhibits: Sequence[Exhibit],
    filters: Mapping[str, tuple[str, Mapping[str, str]]],
    orders: Sequence[tuple[str, str, bool]],
) -> str:
    """Cards that can be filtered, sorted and searched; without scripts, all are shown.

    Args:
        name: of the gallery.
        exhibits: its cards, in the order of the first of `orders`.
        filters: key of `Exhibit.groups` -> heading, and the values to choose from with their names.
        orders: (key of `Exhibit.numbers`, heading, whether the largest comes first).

    Example:
        >>> card = Exhibit(b"png", "a star", "ZTF20aaelulu", "", [], {"head": "v"}, {"rank": 1.0})
        >>> heads = {"head": ("head", {"v": "variable star"})}
        >>> shown = gallery("Misses", [card], heads, [("rank", "worst first", False)])
        >>> shown.count("<li"), shown.count("<option")
        (1, 3)
    """
    chosen = "".join(
        f'<label>{html.escape(heading)}<select data-filter="{key}"><option value="">all</option>'
        + "".join(
            f'<option value="{html.escape(value)}">{html.escape(shown)}</option>'
            for value, shown in values.items()
        )
        + "</select></label>"
        for key, (heading, values) in filters.items()
    )
    ordered = "".join(
        f'<option value="{key} {-1 if descending else 1}">{html.escape(heading)}</option>'
        for key, heading, descending in orders
    )
    cards = "\n".join(map(_card, exhibits))
    return (
        f"<div {_GALLERY}>\n"
        f'<div class="controls" role="group" aria-label="{html.escape(name)}" hidden>{chosen}'
        f"<label>sort by<select data-order>{ordered}</select></label>"
        '<label>find<input type="search" size="14"></label><output></output></div>\n'
        f'<ul class="cards">\n{cards}\n</ul>\n</div>'
    )


def _card(exhibit: Exhibit) -> str:
    keys = {**exhibit.groups, **exhibit.numbers}
    data = " ".join(f'data-{key}="{html.escape(str(value))}"' for key, value in keys.items())
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in exhibit.facts
    )
    picture = ""
    if exhibit.png is not None:
        source, alt = _data(exhibit.png), html.escape(exhibit.alt)
        picture = f'<img src="{source}" alt="{alt}" loading="lazy">'
    return (
        f"<li {data}>{picture}<h3>{html.escape(exhibit.title)}</h3>"
        f"<p>{html.escape(exhibit.text)}</p><dl>{facts}</dl></li>"
    )


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
