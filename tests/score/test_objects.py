"""Tables of objects, held to a plain count of their alerts; filters and pages read them, too."""

import math

import numpy as np
import polars as pl
import pytest
from command_line import acai_jax
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from acai_jax.commands.filter import Filter
from acai_jax.errors import TableError
from acai_jax.filters.expressions import apply_filter
from acai_jax.filters.trial import try_filter
from acai_jax.score.columns import score_table
from acai_jax.score.objects import objects
from acai_jax.stream.tables import StreamTable, scan_tables
from acai_jax.surveys import SURVEYS
from acai_jax.surveys.base import Survey
from acai_jax.surveys.ztf import ZTF

HEADS = ("h", "kilonova")
Row = tuple[int | None, str | None, float | None, float | None, str, str]
"""Identifier, object, date, score of h (None: rejected), version, preset."""
ROWS = st.tuples(
    st.none() | st.integers(0, 5),
    st.none() | st.sampled_from("abc"),
    st.none() | st.sampled_from((2460000.5, 2460001.5, 2460002.5)),
    st.none() | st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    st.sampled_from("12"),
    st.sampled_from(("acai", "boom")),
)


def table_of(rows: list[Row], survey: Survey = ZTF) -> pl.DataFrame:
    """A score table, as `acai-jax score` writes it."""
    tables = []
    for alert, name, date, score, version, preset in rows:
        columns = {
            survey.alert_id: [alert],
            survey.object_id: [name],
            survey.time: [date],
            survey.band: [next(iter(survey.bands))],
            "reason": [None if score is not None else "null stamp"],
        }
        numbers = np.array(
            [[np.nan, np.nan]] if score is None else [[score, 1 - score]], np.float32
        )
        versions = dict.fromkeys(HEADS, version)
        tables.append(score_table(columns, numbers, versions, preset, survey))
    return pl.concat(tables)


def counted(rows: list[Row]) -> dict[tuple, tuple]:
    """What `objects` should say of h, by plain Python: object, version and preset to numbers."""
    alerts: dict[tuple, dict] = {}
    for place, (alert, name, date, score, version, preset) in enumerate(rows):
        known = alerts.setdefault((name, version, preset), {})
        key = ("unknown", place) if alert is None else alert
        if key not in known or (known[key][1] is None and score is not None):
            known[key] = (date, score)
    found = {}
    for key, known in alerts.items():
        dates = [date for date, _ in known.values() if date is not None]
        scores = [score for _, score in known.values() if score is not None]
        mean = sum(scores) / len(scores) if scores else None
        spread = (
            mean if mean is None else math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
        )
        span = (min(dates), max(dates)) if dates else (None, None)
        found[key] = (*span, len(known), len(scores), mean, max(scores, default=None), spread)
    return found


NUMBERS = (
    *("first_jd", "last_jd", "n_alerts", "n_scored"),
    *("acai_h_mean", "acai_h_max", "acai_h_spread"),
)


@settings(max_examples=25)
@given(st.lists(ROWS, min_size=1, max_size=25))
def test_objects_are_what_their_alerts_say(rows):
    # of one alert there is one date, and no two objects share it
    rows = [(a, o, d if a is None else 2460000.5 + a % 3, s, v, p) for a, o, d, s, v, p in rows]
    found = objects(table_of(rows).lazy())
    keys = found.select("objectId", "acai_h_version", "preset").rows()
    expected = counted(rows)
    assert set(keys) == set(expected)
    assert len(keys) == len(expected)
    for key, numbers in zip(keys, found.select(NUMBERS).rows(), strict=True):
        assert numbers == pytest.approx(expected[key], abs=1e-6)


NIGHT: list[Row] = [
    (1, "a", 2460000.5, 0.25, "1", "acai"),
    (2, "a", 2460002.5, None, "1", "acai"),  # newer, but not scored
    (3, "a", 2460001.5, 0.75, "1", "acai"),
    (4, "a", 2460001.5, 0.5, "2", "acai"),
    (4, "a", 2460001.5, 0.5, "2", "boom"),
    (5, "b", 2460001.5, None, "1", "acai"),
    (None, None, None, None, "1", "acai"),
    (None, None, None, None, "1", "acai"),
]


@pytest.mark.parametrize("survey", SURVEYS.values(), ids=SURVEYS)
def test_a_row_is_the_newest_scored_alert_of_any_survey(survey):
    table = table_of(NIGHT, survey)
    found = objects(table)
    assert found.select(table.columns).schema == table.schema
    names = (survey.object_id, survey.alert_id, "acai_h", "acai_h_version", "preset", "n_alerts")
    assert found.select(names).rows() == [
        ("a", 3, 0.75, "1", "acai", 3),
        ("a", 4, 0.5, "2", "acai", 1),
        ("a", 4, 0.5, "2", "boom", 1),
        ("b", 5, None, "1", "acai", 1),
        (None, None, None, "1", "acai", 2),
    ]
    assert found["reason"].to_list() == [None, None, None, "null stamp", "null stamp"]
    assert found["n_alerts"].sum() == len(table)
    assert found[f"last_{survey.time}"][0] == 2460002.5


def test_the_order_of_rows_and_copies_of_alerts_change_nothing():
    table = table_of(NIGHT[:6])
    twice = pl.concat([table, table]).sample(fraction=1, shuffle=True, seed=0)
    assert_frame_equal(objects(twice), objects(table))


def test_filters_run_on_objects_and_count_their_alerts(tmp_path):
    found = objects(table_of(NIGHT))
    assert apply_filter(found, "acai_h_mean > 0.45 AND n_scored > 1")["objectId"].to_list() == ["a"]
    trial = try_filter(found, "acai_h_max < 0.7")
    assert trial.stages.rows()[0][1:] == (8, 2)
    assert trial.stages.rows()[1:] == [("scored", 5, 1), ("acai_h_max < 0.7", 2, 1)]
    assert trial.groups["class"]["alerts"].sum() == 8
    assert trial.newest["passing"].to_list() == [2]
    found.write_parquet(tmp_path / "objects.parquet")
    arguments = {"out": tmp_path / "few.parquet", "report": tmp_path / "report"}
    Filter(table=tmp_path / "objects.parquet", where="acai_h_max < 0.7", **arguments).run()
    assert len(pl.read_parquet(tmp_path / "few.parquet")) == 2
    assert "1 objects pass" in (tmp_path / "report" / "report.html").read_text()


def test_an_alert_that_a_stream_scored_later_counts_once(tmp_path):
    place = {"topic": pl.lit("night"), "partition": pl.lit(0, pl.Int32)}
    rows = table_of([(1, "a", 2460000.5, None, "1", "acai"), (1, "a", 2460000.5, 0.5, "1", "acai")])
    rows = rows.with_columns(offset=pl.Series([0, 1]), **place)
    for part in rows.iter_slices(1):
        StreamTable(tmp_path / "scores", ("candid",)).add(part)
    found = objects(scan_tables(tmp_path))
    assert found.select("objectId", "n_alerts", "n_scored", "acai_h").rows() == [("a", 1, 1, 0.5)]


def test_what_is_no_number_is_no_score():
    table = table_of(NIGHT[:1] + NIGHT[2:3]).drop("reason")
    score = pl.Series([0.25, np.nan], dtype=pl.Float32)
    found = objects(table.with_columns(acai_h=score))
    assert found.select("n_alerts", "n_scored", "candid", "acai_h_max").rows() == [(2, 1, 1, 0.25)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("preset"), "no column preset"),
        (lambda table: table.drop("acai_h_version"), "no column acai_h_version"),
        (lambda table: table.drop("jd"), "no column jd"),
        (lambda table: table.select("candid", "objectId", "jd", "preset"), "no column acai_"),
        (lambda table: table.drop("candid"), "no column candid"),
        (objects, "a table of objects already"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(change, message):
    with pytest.raises(TableError, match=message):
        objects(change(table_of(NIGHT)))


def test_the_command_takes_several_nights(tmp_path):
    first, second, out = (tmp_path / f"{name}.parquet" for name in ("one", "two", "objects"))
    table_of(NIGHT[:4]).write_parquet(first)
    table_of(NIGHT[3:]).write_parquet(second)
    done = acai_jax("objects", first, second, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 objects in 5 rows, of 8 alerts, 4 of them scored, 2 of no known object" in done.stderr
    assert_frame_equal(pl.read_parquet(out), objects(table_of(NIGHT)))
    again = acai_jax("objects", first, "--out", out)
    assert (again.returncode, "--overwrite replaces it" in again.stderr) == (1, True)
    table_of(NIGHT, SURVEYS["lsst"]).write_parquet(second)
    mixed = acai_jax("objects", first, second, "--out", out, "--overwrite")
    assert mixed.returncode == 1
    assert "alerts of ZTF do not go with others" in mixed.stderr
    assert acai_jax("objects", "--out", tmp_path / "x.parquet").returncode == 2
