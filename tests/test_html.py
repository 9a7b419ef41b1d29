"""Pages that stand alone: sound HTML, no outside request, usable by keyboard and screen reader."""

import base64
import html.parser

import pytest

from acai_jax import html as acai_html

VOID = {"meta", "img", "source"}
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


@pytest.fixture(scope="module")
def page() -> Reader:
    sections = [
        ("Numbers & more", acai_html.table(NASTY, ["class", "alerts"], [[NASTY, 2500], ["b", 7]])),
        ("Pictures", acai_html.pictures([PICTURE, PICTURE])),
        ("The rest", acai_html.paragraph(NASTY) + acai_html.table("Facts", [], [["size", "1 MB"]])),
    ]
    return Reader(acai_html.page(NASTY, NASTY, sections))


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
