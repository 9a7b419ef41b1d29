"""What only a survey knows stands in its file; each file that says it too is here, with its reason.

The facts are the names of ZTF's identifier and of its time, the number of its features, and the
side of its stamps. What people read, docstrings and comments, may speak of ZTF.
"""

import ast
import re
from pathlib import Path

import pytest

import acai_jax

PACKAGE = Path(acai_jax.__file__).parent
WORDS = re.compile(r"\b(?:candid|jd)\b")
NUMBERS = {25, 63}
SHAPES = re.compile(r"\b(?:25|63)\b")


ATTRIBUTE = "a public attribute of packets and rejects; other code reads alert_id"
COLUMN = "columns of files that people write or read"
DATASET = "the dataset ztf_acai, by the names of its columns and of labels.csv"
PAGE = "what a page or a picture shows"
SIMULATOR = "the simulator writes ZTF's packets, field by field"
KNOWN = {
    "alerts/packet.py": ("candid", ATTRIBUTE),
    "errors.py": ("candid", ATTRIBUTE),
    "commands/show.py": ("candid", "an option of the command"),
    "datasets/builders/ztf_acai/builder.py": ("candid", DATASET),
    "datasets/builders/ztf_acai/features.py": ("candid jd", DATASET),
    "datasets/gather/beam.py": ("candid", DATASET),
    "datasets/gather/local.py": ("candid", DATASET),
    "datasets/gather/plan.py": ("candid", DATASET),
    "datasets/gather/records.py": ("candid jd", DATASET),
    "datasets/card.py": ("candid jd", COLUMN),
    "datasets/labels.py": ("candid", COLUMN),
    "datasets/records.py": ("candid jd", COLUMN),
    "report/card_pictures.py": ("jd", PAGE),
    "report/evaluation_json.py": ("candid", PAGE),
    "report/evaluation_page.py": ("jd", PAGE),
    "report/evaluation_pictures.py": ("25", "an angle"),
    "report/exhibits.py": ("candid jd", PAGE),
    "report/filter_page.py": ("candid jd", PAGE),
    "report/pictures.py": ("candid jd", PAGE),
    "simulate/artefacts.py": ("25", "a brightness"),
    "simulate/objects.py": ("25 jd", SIMULATOR),
    "simulate/observing.py": ("jd", SIMULATOR),
    "simulate/packets.py": ("candid jd", SIMULATOR),
    "simulate/run.py": ("candid", SIMULATOR),
    "simulate/schema402.py": ("candid jd", SIMULATOR),
    "stream/messages.py": ("jd", "a Julian date, whatever a survey calls its time"),
    "stream/metrics.py": ("jd", "the name of a metric"),
    "stream/replay.py": ("jd", "a Julian date, whatever a survey calls its time"),
    "stream/sinks.py": ("jd", "the name of a metric"),
    "times.py": ("jd", "a Julian date, whatever a survey calls its time"),
}


def facts_in(source: str) -> set[str]:
    """The facts in a program's names, texts and numbers."""
    tree = ast.parse(source)
    found: set[str] = set()
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
                found |= set(WORDS.findall(name))
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                found |= {*WORDS.findall(node.value), *axes(node.value)}
            elif type(node.value) is int and node.value in NUMBERS:
                found.add(str(node.value))
    return found


def axes(text: str) -> set[str]:
    """Numbers in the shape of an annotation, such as "b 63 63 3"."""
    return set(SHAPES.findall(text)) if re.fullmatch(r"[\w ]+", text) else set()


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("def f(candid: int): ...", {"candid"}),
        ("x.jd", {"jd"}),
        ("f(jd=1)", {"jd"}),
        ("'candidate.candid'", set()),
        ("x = 'candidate.candid'", {"candid"}),
        ("x = f'its candid {y}'", {"candid"}),
        ("def f():\n    'of a candid'", set()),
        ("a: F['b 63 63 3']", {"63"}),
        ("np.zeros((2, 25))", {"25"}),
        ("range(-(2**63), 2**63)", set()),
        ("candids, candidate, jdstarthist, 0.25, 'sha256', 2563", set()),
    ],
)
def test_facts_are_found(source, facts):
    assert facts_in(source) == facts


def test_every_place_is_known():
    found = {
        path.relative_to(PACKAGE).as_posix(): " ".join(sorted(facts))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "surveys" and (facts := facts_in(path.read_text()))
    }
    assert found == {path: facts for path, (facts, _) in KNOWN.items()}
