"""The card of a dataset: of real ones, built from alerts whose contents are known."""

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import acai_jax
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import packet_from_record
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.datasets import card
from acai_jax.datasets.builders.ztf_acai import Builder
from acai_jax.datasets.splits import split_of
from acai_jax.errors import DatasetError
from acai_jax.report.card_page import write_card
from acai_jax.times import utc

LABELS = ("b", "h", "moving <fast>")
ALERTS = 90


def record(number: int) -> dict:
    """Alerts of an object come in threes; two in ninety cannot be used, one is not public."""
    changes: dict = {"objectId": f"ZTF26obj{number // 3:04d}", "magpsf": 15 + number / 16}
    if number in (7, 8):
        changes["scorr"] = None
    if number == 9:
        changes["programid"] = 2
    return packet_record(number, **changes)


def label(number: int) -> str:
    return LABELS[number // 3 % 3]


USED = [number for number in range(ALERTS - 10) if number not in (7, 8, 9)]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Builds a dataset of a config, once; gives its folder."""
    inputs = tmp_path_factory.mktemp("alerts")
    (inputs / "night.avro").write_bytes(avro_bytes(*map(record, range(ALERTS))))
    rows = [f"{record(n)['objectId']},{record(n)['candid']},{label(n)}" for n in range(ALERTS - 10)]
    (inputs / "labels.csv").write_text("\n".join(["oid,candid,label", *rows, rows[0]]))
    built: dict[str, Path] = {}

    def folder(config: str) -> Path:
        if config not in built:
            data_dir = tmp_path_factory.mktemp(config)
            builder = Builder(
                sources=inputs / "night.avro",
                labels=inputs / "labels.csv",
                num_workers=0,
                config=config,
                data_dir=data_dir,
                file_format="array_record",
            )
            builder.download_and_prepare()
            built[config] = data_dir
        return built[config]

    return folder


def test_every_record_is_counted(build):
    seen: list[tuple[int, int]] = []
    found = card.read_card(build("alerts"), report=lambda *counts: seen.append(counts))
    assert seen[-1] == (len(USED), len(USED))
    assert found.title == "ztf_acai/alerts/1.0.0"
    alerts = found.alerts.sort("candid")
    records = [record(number) for number in USED]
    assert alerts["candid"].to_list() == [each["candid"] for each in records]
    assert alerts["label"].to_list() == [label(number) for number in USED]
    assert alerts["split"].to_list() == [split_of(each["objectId"]) for each in records]
    for name in ("jd", "ra", "dec", "fid"):
        assert alerts[name].to_list() == [each["candidate"][name] for each in records]
    expected = [each["candidate"]["magpsf"] for each in records]
    np.testing.assert_allclose(alerts["magpsf"].to_numpy(), expected, rtol=1e-6)


def test_classes_and_splits_have_an_order(build):
    found = card.read_card(build("alerts"))
    assert found.labels == ["h", "b", "moving <fast>"]
    order = [split for split in ("train", "validation", "test") if split in found.splits]
    assert found.splits == order


def test_counts_add_up(build):
    found = card.read_card(build("alerts"))
    header, rows = card.count_table(found)
    assert header == ["class", *found.splits, "all alerts", "objects"]
    assert [row[0] for row in rows] == ["hosted (h)", "bogus (b)", "moving <fast>", "all"]
    assert rows[-1][1:] == [sum(row[i] for row in rows[:-1]) for i in range(1, len(header))]
    assert rows[-1][-2:] == [len(USED), len({number // 3 for number in USED})]
    assert found.summary == "77 alerts of 27 objects in 3 classes."


def test_what_was_left_out_is_named(build):
    rows = dict(card.left_out_table(card.read_card(build("alerts"))))
    assert rows["alerts read"] == ALERTS
    assert rows["unlabelled"] == 10
    assert rows["not public"] == 1
    assert rows["rejected: null feature"] == 2


def test_leaking_splits_are_found(build):
    assert card.straddling_objects(card.read_card(build("alerts"))) == 0
    found = card.read_card(build("alerts_split_by_alert"))
    splits: dict[str, set[str]] = {}
    for number in USED:
        split = split_of(str(record(number)["candid"]))
        splits.setdefault(record(number)["objectId"], set()).add(split)
    expected = sum(len(names) > 1 for names in splits.values())
    assert card.straddling_objects(found) == expected > 0
    assert dict(card.fact_table(found))["objects in several splits"] == f"{expected}: test leaks"


def test_facts_say_where_it_comes_from(build):
    facts = dict(card.fact_table(card.read_card(build("alerts"))))
    assert facts["dates"] == "2024-07-09 to 2024-07-09 (UTC)"
    assert facts["preset"] == "acai"
    assert facts["labels"] == "81 rows, 1 of them repeated"
    assert facts["sources"].startswith("files: 1; ")
    assert facts["programid"] == "1: 77"
    assert "SHA-256" in facts["labels' digest"]


def test_examples_are_the_same_each_time_and_of_different_objects(build):
    found = card.read_card(build("alerts"))
    examples = card.choose_examples(found, 4)
    assert list(examples) == found.labels
    for name, of_class in examples.items():
        assert len({each.object_id for each in of_class}) == len(of_class) == 4
        for each in of_class:
            number = each.alert_id - record(0)["candid"]
            assert label(number) == name
            triplet = alert_arrays(packet_from_record(record(number))).triplet
            np.testing.assert_array_equal(np.stack(each.images, axis=-1), triplet)
    again = card.choose_examples(found, 4)
    shuffled = found.alerts.sample(fraction=1.0, shuffle=True, seed=1)
    fields = {name: getattr(found, name) for name in card.Card.__slots__}
    other = card.choose_examples(card.Card(**{**fields, "alerts": shuffled}), 4)
    for one in (again, other):
        assert {k: [e.alert_id for e in v] for k, v in one.items()} == {
            k: [e.alert_id for e in v] for k, v in examples.items()
        }
    assert {name: len(each) for name, each in card.choose_examples(found, 999).items()} == dict(
        found.alerts["label"].value_counts().rows()
    )


def test_raw_stamps_are_shown_as_they_are(build):
    found = card.read_card(build("alerts_stamps"))
    # a record of raw stamps needs no features: nothing is rejected for one
    assert set(found.alerts["candid"]) >= {record(number)["candid"] for number in USED}
    assert found.alerts["drb_source"].null_count() == len(found.alerts)
    (example, *_) = card.choose_examples(found, 1)["h"]
    sent = record(example.alert_id - record(0)["candid"])
    for image, name in zip(example.images, ("Science", "Template", "Difference"), strict=True):
        expected = decode_stamp(sent[f"cutout{name}"]["stampData"])
        np.testing.assert_array_equal(image, expected)


def test_no_dataset_is_a_clear_error(tmp_path):
    with pytest.raises(DatasetError, match="no dataset in"):
        card.read_card(tmp_path)


@pytest.mark.parametrize("config", ["alerts", "alerts_stamps"])
def test_the_page_and_its_pictures_are_written(build, tmp_path, config):
    found = card.read_card(build(config))
    page = write_card(found, tmp_path / "new" / "card")
    names = {path.name for path in page.parent.iterdir()}
    assert names == {
        "index.html",
        *(f"{name}.png" for name in ("counts", "sky", "magnitudes", "dates", "filters")),
        *("examples_1_h.png", "examples_2_b.png", "examples_3_moving_fast.png"),
    }
    text = page.read_text()
    assert text.count("<figure>") == 8
    assert found.summary in text
    assert "moving &lt;fast&gt;" in text
    assert "moving <fast>" not in text


def test_the_command_prints_and_draws(build, tmp_path):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "index.html").write_text("an earlier card")
    result = acai_jax("dataset", build("alerts"), "--out", tmp_path / "card")
    assert result.returncode == 0, result.stderr
    assert "ztf_acai/alerts/1.0.0" in result.stdout
    assert "77 alerts of 27 objects" in result.stdout
    assert "moving <fast>" in result.stdout
    assert "rejected: null feature" in result.stdout
    assert "77 alerts" in (tmp_path / "card" / "index.html").read_text()
    assert "index.html" in result.stderr


def test_the_command_has_one_clear_line_for_mistakes(tmp_path):
    result = acai_jax("dataset", tmp_path)
    assert result.returncode == 1
    assert "error: no dataset in" in result.stderr
    assert "Traceback" not in result.stderr


def test_reading_needs_no_tensorflow(build):
    program = (
        "import sys; from acai_jax.datasets.card import read_card\n"
        "from acai_jax.report.card_page import write_card\n"
        "write_card(read_card(sys.argv[1]), sys.argv[2])\n"
        "assert not {'tensorflow', 'jax'} & set(sys.modules)"
    )
    folder = build("alerts")
    subprocess.run([sys.executable, "-c", program, folder, folder / "card"], check=True)


def test_dates_are_utc():
    found = utc(2458295.5 + 1 / 24)
    assert (
        abs(found - datetime.datetime(2018, 6, 26, 1, tzinfo=datetime.UTC)).total_seconds() < 1e-3
    )
