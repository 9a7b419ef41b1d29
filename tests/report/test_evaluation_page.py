"""The report of an evaluation: files that are there, numbers that agree, a page that opens."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from chromium import CHROMIUM, open_in_chromium
from command_line import acai_jax
from evaluations import PROVENANCE, score_table, small_evaluation

from acai_jax.classes import CLASSES
from acai_jax.commands.evaluate import Evaluate, print_evaluation
from acai_jax.errors import AcaiError, CheckpointError, DatasetError, EvaluationError
from acai_jax.evaluate.examples import choose_examples
from acai_jax.evaluate.results import Evaluation
from acai_jax.evaluate.run import evaluate_table
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import save_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.report.evaluation_page import write_report
from tests.report.test_html import Reader

STAMP = np.random.default_rng(0).normal(10, 3, (63, 63)).astype(np.float32)
PICTURES = {
    *("fnr_fpr.png", "roc.png", "precision_recall.png", "calibration.png"),
    *("by_filter.png", "by_magnitude.png", "by_latitude.png", "by_year.png", "by_ndethist.png"),
    *("correlation.png", "overlap.png"),
}
NASTY = "<script>alert('1 & 2')</script>"


@functools.cache
def evaluation() -> Evaluation:
    found = small_evaluation(against=True)
    heads = {name: (head.positives, head.threshold) for name, head in found.heads.items()}
    compared = list(found.comparisons)
    return dataclasses.replace(
        found,
        model=f"model {NASTY}",
        against="other",
        source={"dataset": "ztf_acai", "split": "test", "counts": {"alerts_read": 400}},
        examples=choose_examples(found.table, heads, compared, _images),
    )


def _images(rows: pl.DataFrame) -> dict:
    # of one alert, no stamp can be read
    return dict.fromkeys(rows["candid"][1:], (STAMP, STAMP, None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("new") / "report"
    path.mkdir()
    (path / "metrics.json").write_text("an earlier report")
    assert write_report(evaluation(), path, note=f"Labels of {NASTY}.") == path / "report.html"
    return path


@pytest.fixture(scope="module")
def page(folder) -> Reader:
    return Reader((folder / "report.html").read_text())


def test_the_files_are_there(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"metrics.json", "report.html", "comparison.png", *PICTURES}
    found = json.loads((folder / "metrics.json").read_text())
    assert found["heads"]["h"]["auc"] == evaluation().heads["h"].figures.auc
    assert found["note"] == f"Labels of {NASTY}."
    assert (folder / "report.html").stat().st_size < 10e6


def test_text_is_escaped(page):
    text = "".join(page.text)
    assert f"Labels of {NASTY}." in text
    assert f"Evaluation of model {NASTY}" in text
    assert len(page.all("script")) == 1


def test_every_image_has_words_and_nothing_is_fetched(page):
    assert all((image["alt"] or "").strip() for image in page.all("img"))
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))


def test_the_page_shows_the_figures(page):
    text = "".join(page.text)
    for name, head in evaluation().heads.items():
        assert f"{head.figures.auc:.4f}\n{head.low.auc:.4f}-{head.high.auc:.4f}" in text
        assert f"{100 * head.figures.balanced_fnr:.2f} %" in text
        comparison = evaluation().comparisons[name]
        assert f"{comparison.p_value:.2g}" in text
    assert "400 labelled alerts of 100 objects" in text
    assert re.search(r"Labels that no head is for count as negatives of all: other \(\d+\)", text)


def test_the_gallery_shows_the_misses(page):
    cards = [each for each in page.all("li") if "data-kind" in each]
    assert len(cards) == len(evaluation().examples)
    assert {card["data-kind"] for card in cards} == {"missed", "false alarm", "disagreement"}
    text = "".join(page.text)
    for each in evaluation().examples:
        assert f"candid {each.row['candid']}" in text
    sorted_by = {option["value"] for option in page.all("option")}
    assert {"score -1", "magnitude 1", "time -1"} < sorted_by


def test_one_head_that_is_always_right(tmp_path):
    table = score_table().with_columns(acai_h=(pl.col("label") == "h").cast(pl.Float32))
    found = evaluate_table(table, {"h": PROVENANCE["h"]}, draws=3)
    write_report(found, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.json", "report.html", *PICTURES} - {"correlation.png", "overlap.png"}
    assert "every alert is called right" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("label", "kind", "left"), [("nova", "positive", "FPR"), ("h", "negative", "FNR")]
)
def test_alerts_of_one_kind_are_said_to_be(tmp_path, capsys, label, kind, left):
    table = score_table().with_columns(label=pl.lit(label))
    found = evaluate_table(table, {"h": PROVENANCE["h"]}, draws=3)
    page = Reader(write_report(found, tmp_path).read_text())
    names = {path.name for path in tmp_path.iterdir()}
    undefined = {"correlation.png", "overlap.png", "roc.png", "precision_recall.png"}
    assert names == {"metrics.json", "report.html", *PICTURES} - undefined
    text = "".join(page.text)
    assert f"No scored alert is a {kind} of hosted: there is no" in text
    share = (table["acai_h"].to_numpy() >= 0.8).mean()
    rate = share if left == "FPR" else 1 - share
    assert f"{left} {100 * rate:.2f} %\n" in text
    print_evaluation(found)
    said = capsys.readouterr()
    assert f"No scored alert is a {kind} of hosted" in said.err
    assert "nan" not in said.out
    assert "nan" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_in_a_browser(folder, tmp_path, width, dark):
    picture = tmp_path / "page.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dom, messages = open_in_chromium(
        folder / "report.html", width, f"--screenshot={picture}", *scheme
    )
    assert messages == []
    assert f"{len(evaluation().examples)} of {len(evaluation().examples)} shown" in dom


# --- the command -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    heads = create_heads(HeadConfig(), 5, jax.random.key(0))
    path = tmp_path_factory.mktemp("heads") / "heads"
    save_heads(HeadBank(heads, CLASSES, {name: {"version": "test"} for name in CLASSES}), path)
    return path


def test_the_command_writes_a_report(simulated_dataset, checkpoint, tmp_path):
    out = tmp_path / "report"
    options = ("--split", "train", "--heads", "v", "b", "--draws", 20, "--out", out)
    result = acai_jax("evaluate", "--model", checkpoint, "--dataset", simulated_dataset, *options)
    assert result.returncode == 0, result.stderr
    found = json.loads((out / "metrics.json").read_text())
    assert list(found["heads"]) == ["v", "b"]
    assert found["source"]["split"] == "train"
    assert f"{found['heads']['v']['auc']:.4f}" in result.stdout
    assert "report.html: everything" in result.stderr


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"heads": ("x",)}, EvaluationError, "no head 'x' in the model"),
        ({"split": "nightly"}, DatasetError, "no split 'nightly'"),
        ({"dataset": None}, EvaluationError, "name a dataset, or alerts"),
        ({"model": "broken"}, CheckpointError, "no checkpoint at broken"),
        ({"against": "broken"}, CheckpointError, "no checkpoint at broken"),
        ({"draws": 0}, EvaluationError, "draws is 0"),
    ],
)
def test_mistakes_are_clear_errors(
    simulated_dataset, checkpoint, tmp_path, monkeypatch, changes, kind, message
):
    monkeypatch.chdir(tmp_path)
    Path("broken").mkdir()
    arguments = {"model": str(checkpoint), "dataset": simulated_dataset, "split": "test"}
    with pytest.raises(kind, match=message) as caught:
        Evaluate(out=tmp_path / "out", **{**arguments, **changes}).run()
    assert isinstance(caught.value, AcaiError)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_checkpoint_is_a_clear_error(simulated_dataset, checkpoint, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in checkpoint.rglob("*"):
        target = damaged / path.relative_to(checkpoint)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="checkpoint at"):
        Evaluate(out=tmp_path / "out", model=str(damaged), dataset=simulated_dataset).run()
