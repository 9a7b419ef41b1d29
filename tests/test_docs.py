"""README.md and the pages in docs/: each subcommand has one, every command shown there parses."""

import re
import shlex
from pathlib import Path

import pytest

from acai_jax.commands.parser import parse
from acai_jax.commands.subcommands import COMMANDS, SHELLS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts),
]


def commands(page: Path) -> list[list[str]]:
    """The `acai-jax` command lines in a page's blocks of code, as words."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.match(r"!?acai-jax (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def test_the_pages_show_commands():
    assert len(commands(ROOT / "README.md")) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_shown_parses(page):
    for name, *arguments in commands(page):
        if name == "--completion":
            assert arguments[0] in SHELLS
        else:
            assert isinstance(parse(COMMANDS[name], name, arguments), COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_a_page_that_shows_it(name):
    page = ROOT / "docs" / "how-to" / f"{name}.md"
    assert name in [first for first, *_ in commands(page)]
    assert f"_build/options/{name}.txt" in page.read_text()
    assert f"how-to/{name}\n" in (ROOT / "docs" / "index.md").read_text()


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
