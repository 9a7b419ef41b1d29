"""What only a survey knows stands in its file; each file that says it too is here, with its reason.

The facts are the names of ZTF's identifiers and of its time, the number of its features, and the
side of its stamps. What people read, docstrings and comments, may speak of ZTF.
"""

import ast
import re
from pathlib import Path

import pytest

import acai_jax

PACKAGE = Path(acai_jax.__file__).parent
WORDS = re.compile(r"\b(?:candid|objectId|jd)\b")
NUMBERS = {25, 63}
SHAPES = re.compile(r"\b(?:25|63)\b")


# the files of which ZTF is the subject
OWN = ("surveys/", "simulate/", "datasets/builders/ztf_acai/")
ATTRIBUTE = "a public attribute, for those who know ZTF's names; nothing here reads it"
JULIAN = "a Julian date, whatever a survey calls its time"
METRIC = "the name of a public metric"
KNOWN = {
    "alerts/packet.py": ("candid objectId", ATTRIBUTE),
    "errors.py": ("candid objectId", ATTRIBUTE),
    "commands/show.py": ("candid candid candid", "an option of the command"),
    "datasets/labels.py": ("candid", "a column of labels.csv, whatever the survey"),
    "report/evaluation_pictures.py": ("25", "an angle"),
    "spark/fink.py": (
        "candid candid candid candid candid objectId objectId objectId",
        "columns of Fink, which reads ZTF's alerts",
    ),
    "stream/messages.py": ("jd", JULIAN),
    "stream/metrics.py": ("jd", METRIC),
    "stream/replay.py": ("jd jd jd jd jd", JULIAN),
    "stream/sinks.py": ("jd", METRIC),
    "times.py": ("jd jd jd jd", JULIAN),
}


def facts_in(source: str) -> list[str]:
    """The facts in a program's names, texts and numbers, as often as they are there."""
    tree = ast.parse(source)
    found: list[str] = []
    passed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)  # a docstring
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            passed.add(node.right)  # 2**63 is no stamp
    for node in ast.walk(tree):
        if node in passed:
            continue
        for field in ("id", "attr", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                found += WORDS.findall(name)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                found += WORDS.findall(node.value) + axes(node.value)
            elif type(node.value) is int and node.value in NUMBERS:
                found.append(str(node.value))
    return sorted(found)


def axes(text: str) -> list[str]:
    """Numbers in the shape of an annotation, such as "b 63 63 3"."""
    return SHAPES.findall(text) if re.fullmatch(r"[\w ]+", text) else []


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("def f(candid: int): ...", ["candid"]),
        ("x.jd", ["jd"]),
        ("f(jd=1)", ["jd"]),
        ("'candidate.candid'", []),
        ("x = 'candidate.candid'", ["candid"]),
        ("x = f'its candid {y}'", ["candid"]),
        ("def f():\n    'of a candid'", []),
        ("a: F['b 63 63 3']", ["63", "63"]),
        ("row['objectId'] or row['candid']", ["candid", "objectId"]),
        ("np.zeros((2, 25))", ["25"]),
        ("range(-(2**63), 2**63)", []),
        ("candids, candidate, jdstarthist, 0.25, 'sha256', 2563", []),
    ],
)
def test_facts_are_found(source, facts):
    assert facts_in(source) == facts


def test_every_place_is_known():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(OWN) and (facts := facts_in(path.read_text())):
            found[name] = " ".join(facts)
    assert found == {path: facts for path, (facts, _) in KNOWN.items()}
