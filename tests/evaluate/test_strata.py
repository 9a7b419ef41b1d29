"""Alerts fall into the groups that their fields say, and errors are counted in each."""

import numpy as np
import polars as pl
import pytest
from evaluations import score_table
from hostile import hostile
from hypothesis import given, settings

from acai_jax.evaluate.strata import ErrorCounts, break_down


def groups_of(**columns: list) -> dict[str, list[str]]:
    size = len(next(iter(columns.values())))
    table = {
        "candid": 1,
        "fid": 1,
        "magpsf": 18.0,
        "ra": 0.0,
        "dec": 0.0,
        "jd": 2458300.5,
        "ndethist": 1,
    }
    values = {name: columns.get(name, [value] * size) for name, value in table.items()}
    found = break_down(pl.DataFrame(values, strict=False))
    return {name: [each.names[code] for code in each.codes] for name, each in found.items()}


@pytest.mark.parametrize(
    ("field", "breakdown", "values", "expected"),
    [
        ("fid", "filter", [2, 1, 3, 7], ["r", "g", "i", "fid 7"]),
        ("magpsf", "magnitude", [16.99, 17.0, 19.5, 21.0], ["< 17", "17-18", "19-20", "≥ 20"]),
        ("magpsf", "magnitude", [18.0, None], ["18-19", "unknown"]),
        ("ndethist", "ndethist", [1, 2, 4, 5, 100], ["< 2", "2-4", "2-4", "5-19", "≥ 100"]),
        # 2017-12-31 23:59 and 2018-01-01 00:01 UTC
        ("jd", "year", [2458119.4993, 2458119.5007], ["2017", "2018"]),
    ],
)
def test_groups_are_those_of_the_fields(field, breakdown, values, expected):
    assert groups_of(**{field: values})[breakdown] == expected


def test_galactic_latitude_has_two_sides():
    # the galactic centre, the northern pole, and 30 degrees south of the plane
    found = groups_of(ra=[266.405, 192.859, 67.97], dec=[-28.936, 27.128, 26.4])
    assert found["latitude"][:2] == ["< 10°", "≥ 40°"]
    assert groups_of(ra=[0.0], dec=[-27.0])["latitude"] == ["≥ 40°"]


def test_every_alert_is_in_one_group_of_each_breakdown():
    table = score_table()
    for breakdown in break_down(table).values():
        assert len(breakdown.codes) == len(table)
        assert set(breakdown.codes) == set(range(len(breakdown.names)))


def test_errors_are_counted_by_group_and_weight():
    table = score_table()
    objects = np.arange(len(table)) // 4
    breakdowns = break_down(table)
    errors = ErrorCounts(breakdowns, objects, 100)
    targets = table["label"].to_numpy() == "h"
    called = table["acai_h"].to_numpy() > 0.4
    scored = np.arange(len(table)) % 11 > 0
    errors.add(scored, targets, called)
    errors.add(scored, ~targets, called)
    weights = np.random.default_rng(0).integers(0, 3, 100).astype(np.float64)
    counts = errors.matrix() @ weights
    found, rates = errors.counts(counts), errors.rates(counts)
    of_alerts = weights[objects]
    place = 0
    for breakdown in breakdowns.values():
        for code in range(len(breakdown.names)):
            inside = scored & (breakdown.codes == code)
            kinds = (targets, ~targets, targets & ~called, ~targets & called)
            expected = [of_alerts[inside & kind].sum() for kind in kinds]
            np.testing.assert_array_equal(found[0, :, place], expected)
            assert found[1, 2, place] == of_alerts[inside & ~targets & ~called].sum()
            for rate in (0, 1):
                if expected[rate]:
                    share = expected[rate + 2] / expected[rate]
                    assert rates[0, rate, place] == pytest.approx(share)
                else:
                    assert np.isnan(rates[0, rate, place])
            place += 1
    assert place == errors.groups


@settings(max_examples=50)
@given(table=hostile(score_table(40), sound=("label",)))
def test_no_row_keeps_others_from_their_groups(table):
    found = break_down(table)
    for breakdown in found.values():
        assert len(breakdown.codes) == len(table)
        assert set(breakdown.codes) == set(range(len(breakdown.names)))
    names, sound = found["year"].names, break_down(score_table(40))["year"].names
    assert set(names) <= {*sound, "unknown"}


def test_what_is_no_value_is_unknown():
    impossible = [1e308, -1e308, 0.0, 5e6, float("inf"), float("nan"), None]
    assert groups_of(jd=impossible)["year"] == ["unknown"] * 7
    assert groups_of(dec=[*impossible[:2], *impossible[3:]])["latitude"] == ["unknown"] * 6
    assert groups_of(magpsf=impossible[-3:])["magnitude"] == ["unknown"] * 3


def test_a_table_with_an_impossible_date_is_broken_down(cases):
    table = pl.read_parquet(cases / "tables" / "jd_1e308.parquet")
    assert set(break_down(table)["year"].names) == {"unknown"}
