"""A filter's report: figures that agree with the filter, stamps found again, a page that opens."""

import csv
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.coordinates import SkyCoord
from chromium import CHROMIUM, open_in_chromium
from command_line import acai_jax
from hostile import TEXTS, hostile
from hypothesis import given, settings

from acai_jax.alerts.lookup import stamps_of_table
from acai_jax.commands.console import clear_errors
from acai_jax.commands.filter import Filter
from acai_jax.errors import FilterError
from acai_jax.filters.expressions import apply_filter
from acai_jax.filters.mongo import read_pipeline
from acai_jax.filters.trial import Trial, try_filter
from acai_jax.report import filter_page as filter_report
from acai_jax.report.filter_page import MOST_SHOWN, shown_alerts, write_filter_report
from acai_jax.score.scorer import Scorer
from acai_jax.simulate import write_alerts
from acai_jax.surveys.ztf import ZTF
from tests.filters.test_trial import NASTY, WHERE, night
from tests.report.test_html import Reader

FORMULA_STARTS = tuple("=+-@\t\r\n")


@pytest.fixture(scope="module")
def trial() -> Trial:
    return try_filter(night(3_000), WHERE)


@pytest.fixture(scope="module")
def path(trial, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "report"
    stamp = np.random.default_rng(0).normal(10, 3, (63, 63)).astype(np.float32)
    images = dict.fromkeys(shown_alerts(trial)["candid"][1:], (stamp, stamp, None))
    return write_filter_report(
        trial, folder, images, name=f"mine {NASTY}", why="Because.", facts={"table": NASTY}
    )


@pytest.fixture(scope="module")
def page(path) -> Reader:
    return Reader(path.read_text())


# --- the page ------------------------------------------------------------------------------------


def test_text_is_escaped_and_nothing_is_fetched(page, path):
    text = "".join(page.text)
    assert f"Filter mine {NASTY}" in text
    assert len(page.all("script")) == 1
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert all((image["alt"] or "").strip() for image in page.all("img"))
    assert path.stat().st_size < 10e6


def test_the_page_says_what_passes(page, trial):
    text = "".join(page.text)
    all_objects, objects = trial.stages["objects"][0], trial.stages["objects"][-1]
    assert f"{objects} objects pass ({100 * objects / all_objects:.2f}\N{NO-BREAK SPACE}%)" in text
    assert "2024-07-09 to 2024-07-16 UTC" in text
    for stage in ("all alerts", "scored", "acai_h > 0.5", "acai_b < 0.1"):
        assert stage in page.text
    for heading in ("Stage by stage", "By night", "By class", "By label", "What passes"):
        assert heading in page.text
    assert "kowalski" in page.text


def test_the_gallery_shows_each_object_once(page, trial, monkeypatch, tmp_path):
    cards = [each for each in page.all("li") if "data-class" in each]
    shown = min(MOST_SHOWN, len(trial.newest))
    assert len(cards) == shown == len(shown_alerts(trial))
    text = "".join(page.text)
    for row in shown_alerts(trial).iter_rows(named=True):
        assert row["objectId"] in page.text
        assert f"candid {row['candid']}" in text
    # one alert's packet was not found
    assert sum("Science" in (image["alt"] or "") for image in page.all("img")) == shown - 1
    assert "The packets of 1 of these alerts were not found" in text
    monkeypatch.setattr(filter_report, "MOST_SHOWN", 10)
    small = write_filter_report(trial, tmp_path, {}).read_text()
    assert (
        f"The 10 newest are shown, and {len(trial.newest) - 10} more objects are left out" in small
    )


def test_nothing_passes(tmp_path):
    table = night(50)
    text = write_filter_report(
        try_filter(table, f"{WHERE} AND magpsf < 3"), tmp_path, {}
    ).read_text()
    assert "Nothing passes, of" in text
    assert "the last ones fail at: magpsf &lt; 3" in text
    assert "there is nothing to show" in text
    empty = write_filter_report(try_filter(table.head(0), WHERE), tmp_path, {}).read_text()
    assert "the table is empty" in empty


@settings(max_examples=3)
@given(table=hostile(night(60)))
def test_no_row_keeps_others_from_the_page(table, tmp_path_factory):
    found = try_filter(table, "acai_h > 0.01 OR label <> 'x'")
    page = write_filter_report(found, tmp_path_factory.mktemp("page"), {}).read_text()
    assert "<script>document" not in page
    assert "<img src=x" not in page


def test_impossible_dates_are_counted_apart(tmp_path):
    table = night(200).with_columns(
        jd=pl.when(pl.col("candid") < 7).then(1e308).otherwise(pl.col("jd"))
    )
    found = try_filter(table, "acai_h > 0.01")
    assert found.groups["night"].row(-1)[3:4] == (7,)
    page = write_filter_report(found, tmp_path, {}).read_text()
    assert "Left out, without a date: 7 alerts." in page


@pytest.mark.parametrize("name", ["jd_1e308", "hostile_text"])
def test_hostile_tables_are_reported(name, cases, tmp_path):
    found = try_filter(pl.read_parquet(cases / "tables" / f"{name}.parquet"), "acai_h > 0.5")
    page = write_filter_report(found, tmp_path, {}).read_text()
    assert len(found.newest) > 3
    assert "&lt;img src=x" in page or name == "jd_1e308"
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "<svg" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_in_a_browser(path, trial, width):
    dom, messages = open_in_chromium(path, width)
    assert messages == []
    shown = len(shown_alerts(trial))
    assert f"{shown} of {shown} shown" in dom


# --- stamps, and the command ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory, real_data) -> Path:
    """A folder with simulated alerts and their scores."""
    folder = tmp_path_factory.mktemp("night")
    write_alerts(folder, 60, seed=3, num_workers=0)
    scorer = Scorer.load("published", weights_dir=real_data / "acai_h5")
    scorer.score(folder / "alerts", num_workers=0).write_parquet(folder / "scores.parquet")
    return folder


def test_stamps_are_found_where_the_alerts_came_from(scored, tmp_path):
    table = pl.read_parquet(scored / "scores.parquet")
    told: list[tuple[int, int]] = []
    found = stamps_of_table(table.head(5), report=lambda done, total: told.append((done, total)))
    assert list(found) == table["candid"][:5].to_list()
    assert all(image is not None and image.shape == (63, 63) for image in found[table["candid"][0]])
    assert told[-1][0] == told[-1][1] > 0
    # elsewhere, under other names
    moved = table.with_columns(origin=pl.lit("/gone/night.tar.gz:1.avro"))
    assert stamps_of_table(moved) == {}
    again = stamps_of_table(moved.tail(3), [scored / "alerts"])
    assert sorted(again) == sorted(table["candid"][-3:])
    assert stamps_of_table(table.drop("origin")) == {}


def test_members_of_archives_are_found(scored, tmp_path):
    import tarfile

    table = pl.read_parquet(scored / "scores.parquet")
    archive = tmp_path / "night:1.tar.gz"
    files = sorted((scored / "alerts").iterdir())
    with tarfile.open(archive, "w:gz") as tar:
        for file in files:
            tar.add(file, file.name)
    rows = table.head(2).with_columns(origin=pl.lit(f"{archive}:{files[0].name}"))
    assert list(stamps_of_table(rows)) == rows["candid"].to_list()


def test_the_command_writes_a_report(scored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--where", "acai_v > 0.5 OR acai_o > 0.5", "--report", "report")
    result = acai_jax("filter", scored / "scores.parquet", *options, "--out", "passed.csv")
    assert result.returncode == 0, result.stderr
    assert "report.html: everything" in result.stderr
    page = Reader((tmp_path / "report" / "report.html").read_text())
    passed = pl.read_csv(tmp_path / "passed.csv")
    stamps = [each for each in page.all("img") if "Science" in (each["alt"] or "")]
    assert len(stamps) == passed["objectId"].n_unique() > 3
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"report.html"}


# --- what comes from outside ---------------------------------------------------------------------


def test_what_is_printed_and_written_is_harmless(tmp_path, capsys):
    hostile_rows = night(len(TEXTS)).with_columns(
        *(pl.lit(0.9).alias(f"acai_{name}") for name in "honvb"),
        objectId=pl.Series(TEXTS),
        magpsf=pl.lit(-1.5),
    )
    path = tmp_path / "scores.parquet"
    hostile_rows.write_parquet(path)
    Filter(table=path, where="acai_h > 0.5").run()
    Filter(table=path, where="acai_h > 0.5", out=tmp_path / "passed.csv").run()
    with pytest.raises(SystemExit), clear_errors():
        Filter(table=tmp_path / "\x1b2J.parquet", where="acai_h > 0.5").run()
    for printed in capsys.readouterr():
        assert all(line.isprintable() for line in printed.split("\n"))
        assert "\\x1b" in printed
    with (tmp_path / "passed.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["objectId"].removeprefix("'") for row in rows] == list(TEXTS)
    for name, cell in itertools.chain.from_iterable(row.items() for row in rows):
        assert not name.startswith(FORMULA_STARTS)
        assert not cell.startswith(FORMULA_STARTS) or hostile_rows[name].dtype.is_numeric()
    assert {row["magpsf"] for row in rows} == {"-1.5"}  # numbers stay numbers


@pytest.mark.parametrize("name", ["bright_star.json", "galactic.json", "official_purity.txt"])
def test_filters_of_tutorials_run(name, cases, real_data):
    scorer = Scorer.load("published", weights_dir=real_data / "acai_h5")
    table = scorer.score(real_data / "alerts", num_workers=0)
    path = cases / "filters" / name
    where = path.read_text() if path.suffix == ".txt" else read_pipeline(path)
    passed = apply_filter(table, where)
    assert 0 < len(passed) < len(table)
    if name == "galactic.json":
        latitude = SkyCoord(
            passed["ra"].to_numpy(), passed["dec"].to_numpy(), unit="deg"
        ).galactic.b.deg  # type: ignore[union-attr]
        assert (np.abs(latitude) > 10).all()
    else:
        # of an older table, that has no such columns
        old = table.select(pl.exclude([field.name for field in ZTF.fields if not field.packaged]))
        with pytest.raises(FilterError, match=r"no column (srmag2|magdiff)"):
            apply_filter(old, where)
        assert len(apply_filter(old, "drb > 0.5")) > 0


def test_a_huge_number_is_refused_in_one_line(cases):
    with pytest.raises(FilterError) as caught:
        read_pipeline(cases / "filters" / "huge_number.json")
    assert "out of range" in str(caught.value)
    assert len(str(caught.value)) < 300
