"""Model cards: front matter that programs read, and text that names from outside cannot steer."""

import dataclasses
from importlib import resources
from pathlib import Path

import pytest
import yaml

from acai_jax.network.bank import HeadBank
from acai_jax.network.card import model_card
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.description import describe
from acai_jax.network.exchange import shipped_models
from acai_jax.network.head_config import HeadConfig
from tests.network.test_onnx_graph import random_bank


@pytest.fixture(scope="module")
def bank() -> HeadBank:
    config = HeadConfig(filters=(2, 2), dense_units=(3,), head_units=2)
    return random_bank(config, members=2, temperatures=(2.5,))


def front_matter(card: str) -> dict:
    start, matter, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(matter)


def test_programs_read_the_front_matter(bank):
    facts = front_matter(model_card(bank, Path("somewhere/heads.onnx")))
    description = describe(bank)
    for name in ("survey", "preset", "classes", "members", "acai_jax_version", "weights_sha256"):
        assert facts[name] == description[name]
    assert facts["model"] == "heads.onnx"
    assert facts["versions"] == bank.versions


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("heads.onnx", "onnxruntime.InferenceSession"),
        ("heads.stablehlo", "jax.export.deserialize"),
        ("heads.safetensors", 'Scorer.load("heads.safetensors")'),
        ("heads", 'Scorer.load("heads")'),
    ],
)
def test_a_card_says_how_the_heads_are_used(bank, name, use):
    card = model_card(bank, Path(name))
    assert use in card
    assert "| kilonova |" in card
    assert "| 2.5 |" in card
    assert "ensemble of 2" in card


def test_names_are_no_markup(bank):
    names = (
        "a|b",
        '<img src=x>"é𝄞',
    )
    provenance = {
        name: {"version": "1: *x*", "positives": ["[a](b)"], "note": "one\n# two\x1b[2J"}
        for name in names
    }
    hostile = dataclasses.replace(bank, classes=names, provenance=provenance)
    card = model_card(hostile, Path("heads"))
    assert front_matter(card)["classes"] == list(names)
    assert front_matter(card)["versions"] == dict.fromkeys(names, "1: *x*")
    text = card.split("---\n", 2)[2]
    assert "<img" not in text.replace("\\<img", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") - row.count("\\|") for row in rows} == {5}
    assert "\n# two" not in text
    assert "\x1b" not in card
    assert "[a]" not in text


def test_a_checkpoint_has_its_card_and_loads_with_it(bank, tmp_path):
    save_heads(bank, tmp_path / "heads")
    digest = front_matter((tmp_path / "heads" / "README.md").read_text())["weights_sha256"]
    assert digest == describe(load_heads(tmp_path / "heads"))["weights_sha256"]


@pytest.mark.parametrize("name", shipped_models())
def test_cards_of_models_that_come_with_the_package_say_what_these_are(name):
    card = resources.files("acai_jax.network") / "shipped" / f"{name}.md"
    facts, bank = front_matter(card.read_text()), load_heads(name)
    assert (facts["model"], facts["survey"], facts["preset"]) == (
        name,
        name[:4].strip("-"),
        bank.preset,
    )
    assert tuple(facts["classes"]) == bank.classes
    assert facts["versions"] == bank.versions
