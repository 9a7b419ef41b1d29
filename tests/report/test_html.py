"""Pages that stand alone: sound HTML, no outside request, usable by keyboard and screen reader."""

import base64
import hashlib
import html.parser

import jinja2
import pytest
from chromium import CHROMIUM, open_in_chromium

from acai_jax.report import html as acai_html

VOID = {"meta", "img", "source", "input"}
PICTURE = acai_html.Picture(b"light", b"dark", 'a "map" of <stars>', "The sky & more.")
NASTY = "<script>alert('1 & 2')</script>"


class Reader(html.parser.HTMLParser):
    """Collects a page's elements and text; fails if they do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(main: str, **content: object) -> str:
    """A page with the given piece of a template as its main part."""
    template = acai_html.environment().from_string(
        '{% extends "page.html.j2" %}'
        '{% from "parts.html.j2" import gallery, pictures, section, table with context %}'
        f"{{% block main %}}{main}{{% endblock %}}"
    )
    shown = {"title": "Report", "introduction": "Two.", **content}
    return acai_html.render(template, **shown)  # type: ignore[arg-type]


def table(caption: str, header: list[str], rows: list[list[str | int]]) -> Reader:
    return Reader(rendered("{{ table(*arguments) }}", arguments=(caption, header, rows)))


@pytest.fixture(scope="module")
def page() -> Reader:
    main = """
        {% call section("Numbers & more") %}
        {{ table(nasty, ["class", "alerts"], [[nasty, 2500], ["b", 7]]) }}
        {% endcall %}
        {% call section("Pictures") %}{{ pictures([picture, picture]) }}{% endcall %}
        {% call section("The rest") %}
        <p>{{ nasty }}</p>{{ table("Facts", [], [["size", "1 MB"]]) }}
        {% endcall %}
    """
    return Reader(rendered(main, title=NASTY, introduction=NASTY, nasty=NASTY, picture=PICTURE))


def test_text_is_escaped(page):
    assert not page.all("script")
    assert page.text.count(NASTY) == 6
    assert page.all("img")[0]["alt"] == PICTURE.alt


def test_nothing_is_fetched(page):
    policy = page.all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none'")
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "action", "data")
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    style = "".join(page.text)
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_have_words_and_a_dark_twin(page):
    data = f"data:image/png;base64,{base64.b64encode(b'light').decode()}"
    assert [(image["src"], image["alt"]) for image in page.all("img")] == [(data, PICTURE.alt)] * 2
    (source, _) = page.all("source")
    assert source["media"] == "(prefers-color-scheme: dark)"
    assert base64.b64decode((source["srcset"] or "").partition(",")[2]) == b"dark"


def test_sections_are_linked(page):
    anchors = [attributes["id"] for attributes in page.all("h2")]
    assert len(set(anchors)) == 3
    assert [link["href"] for link in page.all("a")] == [f"#{anchor}" for anchor in anchors]
    labelled = [section["aria-labelledby"] for section in page.all("section")]
    assert labelled == anchors


def test_tables_name_rows_and_columns_and_scroll_by_keyboard(page):
    assert [cell["scope"] for cell in page.all("th")] == ["col", "col", "row", "row", "row"]
    assert [cell.get("class") for cell in page.all("td")] == ["number", "number", None]
    assert "2,500" in page.text
    regions = [element for element in page.all("div") if element.get("role") == "region"]
    assert [(each["tabindex"], each["aria-label"]) for each in regions] == [
        ("0", NASTY),
        ("0", "Facts"),
    ]


def test_a_text_of_several_lines_is_not_broken():
    found = table("Figures", ["head", "AUC"], [["h", "0.99\n0.98-1.00"]])
    assert found.all("td") == [{"class": "lines"}]


def test_only_a_long_table_scrolls_down():
    rows = [["2026-07-01", number] for number in range(100)]
    classes = [
        table("Nights", ["night", "alerts"], part).all("div")[0]["class"]
        for part in (rows[:20], rows)
    ]
    assert classes == ["scroll", "scroll long"]


def test_a_date_is_not_broken():
    found = table("Nights", [], [["2026-07-01", "x"], ["variable star", "x"]])
    assert [cell.get("class") for cell in found.all("th")] == ["lines", None]


def test_what_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="introduction"):
        acai_html.render("page.html.j2", title="Report")
    with pytest.raises(jinja2.UndefinedError, match="nobody"):
        rendered("{{ nobody }}")


# --- galleries -------------------------------------------------------------------------------


EXHIBITS = [
    acai_html.Exhibit(
        png=b"stamp",
        alt=f"stamp of {name}",
        title=name,
        text=NASTY,
        facts=[("magpsf", f"{magnitude}")],
        groups={"head": head},
        numbers={"magpsf": magnitude},
    )
    for name, head, magnitude in (("ZTF1", "h", 19.0), ("ZTF2", "v", 9.5), ("ZTF3", "h", 17.0))
]
FILTERS = {"head": ("head", {"h": "hosted", NASTY: NASTY})}
ORDERS = [("magpsf", "brightest first", False), ("magpsf", "faintest first", True)]


@pytest.fixture(scope="module")
def gallery() -> str:
    main = """
        {% call section("Misses") %}{{ gallery("Misses", *shown) }}{% endcall %}
    """
    return rendered(main, shown=(EXHIBITS, FILTERS, ORDERS))


def test_a_gallery_needs_no_script(gallery):
    found = Reader(gallery)
    cards = found.all("li")[1:]  # the first is a link to the section
    assert [card["data-head"] for card in cards] == ["h", "v", "h"]
    assert not any("hidden" in card for card in cards)
    assert [image["alt"] for image in found.all("img")] == [each.alt for each in EXHIBITS]
    (controls,) = (each for each in found.all("div") if each.get("class") == "controls")
    assert "hidden" in controls  # they would do nothing
    assert controls["aria-label"] == "Misses"
    # every control stands in its label
    assert gallery.count("<label>") == len(found.all("select")) + len(found.all("input")) == 3


def test_only_the_script_of_the_page_may_run(gallery):
    policy = Reader(gallery).all("meta")[1]["content"] or ""
    script = gallery.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert script.strip().startswith("for (const gallery")
    assert NASTY not in gallery


def test_a_page_without_a_gallery_has_no_script(page):
    assert "script-src 'none'" in (page.all("meta")[1]["content"] or "")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
def test_the_gallery_filters_and_sorts(gallery, tmp_path):
    """Played by a script of the test, which the page's policy is told of."""
    play = """
      const shown = () => [...document.querySelectorAll(".cards li")]
        .filter((card) => !card.hidden).map((card) => card.querySelector("h3").textContent).join();
      const use = (query, value) => {
        const control = document.querySelector(query);
        control.value = value;
        control.dispatchEvent(new Event("input", { bubbles: true }));
        return shown();
      };
      document.title = [
        shown(), use("[data-order]", "magpsf -1"), use("[data-filter]", "h"),
        use("input", "ztf3"), document.querySelector("output").textContent,
        document.querySelector(".controls").hidden,
      ].join(" ");
    """
    digest = base64.b64encode(hashlib.sha256(play.encode()).digest()).decode()
    played = gallery.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    path = tmp_path / "page.html"
    path.write_text(played.replace("</body>", f"<script>{play}</script></body>"))
    dom, errors = open_in_chromium(path, 800)
    title = dom.partition("<title>")[2].partition("</title>")[0]
    assert title == "ZTF2,ZTF3,ZTF1 ZTF1,ZTF3,ZTF2 ZTF1,ZTF3 ZTF3 1 of 3 shown false"
    assert errors == []
