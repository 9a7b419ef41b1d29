"""A survey that is like ZTF in nothing is read as ZTF is, wherever a survey is asked."""

import datetime
import io
import math
from collections.abc import Iterator

import fastavro
import jax
import numpy as np
import polars as pl
import pytest
from synthetic import packet_record, stamp

from acai_jax import surveys
from acai_jax.alerts.packet import AlertPacket, packet_from_record, packet_or_reject
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.datasets.gather.records import example
from acai_jax.datasets.records import packet_of
from acai_jax.errors import CheckpointError, PacketError, Reject
from acai_jax.evaluate.run import evaluate_table
from acai_jax.filters.expressions import apply_filter, named_filter
from acai_jax.filters.mongo import translate_pipeline
from acai_jax.filters.trial import try_filter
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.report.exhibits import alert_exhibit
from acai_jax.score.scorer import Scorer
from acai_jax.stream import messages
from acai_jax.stream.outputs import ScoreEncoder
from acai_jax.stream.settings import night_topics
from acai_jax.surveys.base import (
    Derived,
    Field,
    Grouping,
    Inputs,
    NamedFilter,
    Recipe,
    Signs,
    Survey,
)
from acai_jax.surveys.ztf import ZTF
from acai_jax.times import DATES

SMALL = HeadConfig(filters=(4, 4, 4, 4), dense_units=(4, 4), head_units=4)


def arrange(record):
    source = record["source"]
    made = {
        "when": source["mjd"] + 2400000.5,
        "brightness": 31.4 - 2.5 * math.log10(source["flux"]),
        "visits": len(record.get("earlier") or ()),
    }
    return {**record, **source, "source": {**source, **made}}


TINY = Survey(
    name="tiny",
    title="Tiny",
    signs=Signs(("tiny",), frozenset({"tinyVersion"})),
    record="source",
    alert_id="sourceId",
    object_id="star",
    object_name="TINY-[0-9]+",
    time="when",
    band="colour",
    magnitude="brightness",
    fields=(
        Field("when", "double", "day", required=True, plausible=DATES),
        Field("ra", "double", "deg", required=True),
        Field("dec", "double", "deg", required=True),
        Field("colour", "text", required=True),
        Field("flux", unit="nJy"),
        Field("brightness", unit="mag"),
        Field("width", unit="arcsec"),
        Field("visits", "integer"),
    ),
    inputs=Inputs(("brightness", "flux", "width", "visits"), 20, ("new", "old", "less"), -1.0),
    recipes={"acai": Recipe("centred")},
    cutouts=("newStamp", "oldStamp", "lessStamp"),
    largest_stamp=30,
    histories=(),
    bands={"u": "ultraviolet", "k": "infrared"},
    derived=(Derived("is_bright", "brightness", between=(0.0, 20.5)),),
    filters={"bright": NamedFilter("is_bright AND acai_h >= 0", "What is bright.")},
    groupings={
        "filter": Grouping("colour", "colour"),
        "brightness": Grouping("brightness [mag]", "brightness", (20.0, 21.0)),
    },
    key_fields=("brightness", "width"),
    message_fields=("brightness",),
    topic="tiny-alerts",
    arrange=arrange,
    arranged_from=("earlier",),
)


def record(number: int, side: int = 20, **changes: object) -> dict:
    """A packet, with stamps whose middle does not depend on their size."""
    low, high = (side - 20) // 2, (side - 20) // 2 + 20
    image = np.random.default_rng(number).normal(9, 1, (30, 30)).astype(np.float32)
    image = image[5 - low : 35 - low - (30 - side), 5 - low : 35 - low - (30 - side)]
    assert image.shape == (side, side)
    assert high <= side
    source = {
        "sourceId": 10**17 + number,
        "star": f"TINY-{number // 2}",
        "mjd": 61000.0 + number,
        "ra": 10.0 * number,
        "dec": -5.0,
        "colour": "uk"[number % 2],
        "flux": 10_000.0 * (number + 1),
        "width": 0.7,
    }
    stamps = {name: stamp(image + channel) for channel, name in enumerate(TINY.cutouts)}
    return {"tinyVersion": 1, "source": {**source, **changes}, "earlier": [{}] * number, **stamps}


@pytest.fixture(scope="module", autouse=True)
def listed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(surveys.SURVEYS, "tiny", TINY)  # type: ignore[arg-type]
        patch.setitem(surveys._BY_NAMESPACE, "tiny", TINY)
        yield


def packet(number: int, **settings: object) -> AlertPacket:
    return packet_from_record(record(number, **settings), schema_name="tiny.alert")


def scorer_of(survey: Survey) -> Scorer:
    names = ("h", "b")
    heads = create_heads(SMALL, 2, jax.random.key(0), survey.inputs)
    return Scorer(HeadBank(heads, names, {n: {"version": "1"} for n in names}, survey=survey))


@pytest.fixture(scope="module")
def scorer(listed) -> Scorer:
    return scorer_of(TINY)


@pytest.fixture(scope="module")
def table(scorer) -> pl.DataFrame:
    return scorer.score_packets([packet(number) for number in range(6)])


def test_a_packet_of_another_layout():
    found = packet(3)
    assert found.survey is TINY
    assert (found.alert_id, found.object_id) == (10**17 + 3, "TINY-1")
    assert (found.fields["when"], found.fields["visits"]) == (2461003.5, 3)
    assert messages._jd(record(3)) == 2461003.5
    assert messages._jd({"source": {}}) is None


def test_a_reject_says_which_alert_it_is():
    reject = packet_or_reject(record(3, colour=None), schema_name="tiny.alert")
    assert reject == Reject("missing field: source.colour is None", 10**17 + 3, "TINY-1")


def test_of_a_large_stamp_the_middle_is_taken():
    small, large = (alert_arrays(packet(2, side=side)) for side in (20, 26))
    assert small.triplet.shape == (20, 20, 3)
    np.testing.assert_array_equal(large.triplet, small.triplet)
    with pytest.raises(PacketError, match="odd-shaped stamp"):
        alert_arrays(packet_from_record(too_large(), schema_name="tiny.alert"))


def too_large() -> dict:
    return {**record(2), "oldStamp": stamp(np.ones((31, 31), np.float32))}


def test_a_table_has_the_surveys_columns_and_the_arrays_scores(scorer, table):
    assert table.columns[:2] == ["sourceId", "star"]
    assert table.schema["colour"] == pl.String
    assert table["reason"].null_count() == 6
    arrays = [alert_arrays(packet(number)) for number in range(6)]
    scores = scorer.score_arrays(
        np.stack([each.features for each in arrays]), np.stack([each.triplet for each in arrays])
    )
    np.testing.assert_allclose(table.select("acai_h", "acai_b").to_numpy(), scores, atol=1e-6)


def test_alerts_of_another_survey_are_refused_by_name(scorer):
    ztfs = packet_from_record(packet_record(1))
    (row,) = scorer.score_packets([ztfs]).rows(named=True)
    assert (row["sourceId"], row["reason"]) == (ztfs.alert_id, "not a Tiny alert: a packet of ZTF")
    (row,) = scorer_of(ZTF).score_packets([packet(1)]).rows(named=True)
    assert (row["candid"], row["reason"]) == (10**17 + 1, "not a ZTF alert: a packet of Tiny")


def test_filters_are_the_surveys(table):
    where = named_filter("bright", survey=TINY).where
    bright = [10**17 + number for number in (2, 3, 4, 5)]
    assert apply_filter(table, where)["sourceId"].to_list() == bright
    trial = try_filter(table, where)
    assert trial.stages["objects"].to_list() == [3, 3, 2, 2]
    assert trial.newest["star"].to_list() == ["TINY-2", "TINY-1"]
    pipeline = '[{"$match": {"source.colour": "u", "star": {"$ne": "TINY-1"}}}]'
    found = apply_filter(table, translate_pipeline(pipeline, survey=TINY))
    assert found["sourceId"].to_list() == [10**17, 10**17 + 4]


def test_evaluations_and_pages_are_the_surveys(table):
    labelled = table.with_columns(label=pl.Series(["h", "b"] * 3))
    found = evaluate_table(labelled, {name: {"version": "1"} for name in "hb"}, draws=2)
    assert found.survey is TINY
    groups = {name: each.names for name, each in found.breakdowns.items()}
    assert groups["filter"] == ("infrared", "ultraviolet")
    assert groups["brightness"] == ("< 20", "20-21", "≥ 21")
    exhibit = alert_exhibit(table.row(0, named=True), None, "h", text="", groups={}, numbers={})
    assert (exhibit.title, exhibit.text) == ("TINY-0", f"sourceId {10**17}")
    facts = dict(exhibit.facts)
    assert (facts["filter"], facts["brightness"]) == ("ultraviolet", "21.4 mag")


def test_messages_and_topics_are_the_surveys(scorer, table):
    encoder = ScoreEncoder(scorer.bank.classes, TINY)
    sent = encoder.message(next(encoder.records(table)))
    (found,) = fastavro.reader(io.BytesIO(sent))
    assert (found["sourceId"], found["star"], found["colour"]) == (10**17, "TINY-0", "u")
    assert night_topics(TINY, datetime.date(2026, 1, 1), 1) == ("tiny-alerts",)


def test_a_record_of_a_dataset_is_the_alert():
    alert = packet(3)
    kept = example(alert, "h", "acai", stamps=True)
    numbers = dict(zip(TINY.dataset_numbers, kept["source"].tolist(), strict=True))
    back = packet_of({**kept, "source": numbers})
    assert (back.survey, back.alert_id, back.object_id) == (TINY, 10**17 + 3, "TINY-1")
    for ours, theirs in zip(alert_arrays(back), alert_arrays(alert), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_knows_its_survey(scorer, tmp_path, monkeypatch):
    save_heads(scorer.bank, tmp_path / "heads")
    assert load_heads(tmp_path / "heads").survey is TINY
    monkeypatch.delitem(surveys.SURVEYS, "tiny")
    with pytest.raises(CheckpointError, match="its heads read alerts of 'tiny'"):
        load_heads(tmp_path / "heads")
