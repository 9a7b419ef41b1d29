"""A filter tried on a table: figures that agree with the filter, which judges each row once."""

import numpy as np
import polars as pl
import pytest
from hostile import hostile
from hypothesis import given, settings

from acai_jax.commands.filter import Filter
from acai_jax.errors import FilterError
from acai_jax.filters import sql
from acai_jax.filters.expressions import apply_filter
from acai_jax.filters.trial import Trial, try_filter
from acai_jax.surveys.ztf import ZTF
from tests.filters.test_expressions import score_table

WHERE = "acai_h > 0.5 AND acai_b < 0.1"
NASTY = "<script>alert('1 & 2')</script>"


def night(count: int, seed: int = 0) -> pl.DataFrame:
    """A score table of eight nights, with labels."""
    rng = np.random.default_rng(seed)
    return score_table(count, seed).with_columns(
        jd=pl.Series(2460500.7 + rng.integers(0, 8, count) + rng.uniform(0, 0.2, count)),
        fid=pl.Series(rng.integers(1, 4, count)),
        label=pl.Series(rng.choice(["h", "b", NASTY], count)),
        preset=pl.lit("kowalski"),
    )


@pytest.fixture(scope="module")
def trial() -> Trial:
    return try_filter(night(3_000), WHERE)


def test_pass_rates_go_down_stage_by_stage():
    table = score_table(5_000, seed=3)
    where = ZTF.filters["early_hosted"].where
    rates = try_filter(table, where).stages
    assert rates["stage"].to_list()[:2] == ["all alerts", "scored"]
    assert len(rates) == 2 + 5
    assert "MAX(acai_b, acai_n, acai_v, acai_o) < 0.1" in rates["stage"]  # as it was written
    assert rates["alerts"].to_list() == sorted(rates["alerts"], reverse=True)
    assert rates["alerts"][0] == 5_000
    assert rates["objects"][0] == table["objectId"].n_unique()
    assert rates["alerts"][-1] == len(apply_filter(table, where))
    assert rates["objects"][-1] == apply_filter(table, where)["objectId"].n_unique()


def test_groups_count_what_the_filter_lets_through(trial):
    table, passed = night(3_000), apply_filter(night(3_000), WHERE)
    assert trial.passed.equals(passed)
    for key, column in (("night", "jd"), ("label", "label")):
        groups = trial.groups[key]
        assert groups["alerts"].sum() == len(table)
        assert groups["alerts_passed"].sum() == len(passed)
        assert len(groups) == (8 if column == "jd" else 3)
    row = trial.groups["label"].row(by_predicate=pl.col("group") == "h", named=True)
    of_label = table.filter(pl.col("label") == "h")
    assert row["objects"] == of_label["objectId"].n_unique()
    assert row["objects_passed"] == passed.filter(pl.col("label") == "h")["objectId"].n_unique()


def test_the_class_is_that_of_the_largest_score():
    scores = {"acai_h": [0.9, 0.2, 0.1, None], "acai_o": [0.1, 0.3, 0.1, 0.9]}
    rows = {"candid": [1, 2, 3, 4], "objectId": ["a", "a", "b", "c"], "fid": [1] * 4}
    table = pl.DataFrame({**rows, "jd": [2460500.49, 2460500.51, None, 2460500.5], **scores})
    found = try_filter(table, "acai_o > 0.05")
    assert found.groups["class"].rows() == [
        ("h", 2, 2, 2, 2),
        ("not scored", 1, 0, 1, 0),
        ("o", 1, 1, 1, 1),
    ]
    # the UTC date changes at half a Julian day
    assert [row[:2] for row in found.groups["night"].rows()] == [
        ("2024-07-08", 1),
        ("2024-07-09", 2),
        ("unknown", 1),
    ]
    assert "label" not in found.groups


def test_the_newest_passing_alert_of_each_object(trial):
    passed = apply_filter(night(3_000), WHERE)
    newest = passed.group_by("objectId").agg(pl.col("jd").max(), pl.len())
    assert len(trial.newest) == len(newest)
    joined = trial.newest.join(newest, ["objectId", "jd"], "inner")
    assert len(joined) == len(newest)
    assert joined["passing"].to_list() == joined["len"].to_list()
    assert trial.newest["jd"].is_sorted(descending=True)


def test_groups_of_a_table_that_is_no_score_table_are_refused():
    table = pl.DataFrame({"candid": [1], "objectId": ["a"], "acai_h": [0.5]})
    found = try_filter(table, "acai_h > 0")
    assert found.passed["candid"].to_list() == [1]
    for name in ("groups", "newest"):
        with pytest.raises(FilterError, match="a column jd"):
            getattr(found, name)


@settings(max_examples=40)
@given(table=hostile(night(60), sound=("acai_h",)))
def test_no_row_keeps_others_from_the_figures(table):
    found = try_filter(table, "acai_h > 0.01")
    for groups in found.groups.values():
        assert groups["alerts"].sum() == len(table)
    dates = set(found.groups["night"]["group"]) - {"unknown"}
    assert dates <= set(try_filter(night(60), WHERE).groups["night"]["group"])


def test_a_report_judges_each_row_once(tmp_path, monkeypatch):
    judged: dict[str, int] = {}
    condition = sql.condition

    def counted(tree, where, schema):
        def count(verdicts: pl.Series) -> pl.Series:
            judged[tree.sql()] = judged.get(tree.sql(), 0) + len(verdicts)
            return verdicts

        found = condition(tree, where, schema)
        return found.map_batches(count, pl.Boolean, is_elementwise=True)

    monkeypatch.setattr(sql, "condition", counted)
    night(500).write_parquet(tmp_path / "scores.parquet")
    out = tmp_path / "passed.parquet"
    table, report = tmp_path / "scores.parquet", tmp_path / "report"
    Filter(table=table, where=WHERE, out=out, report=report).run()
    assert judged == {"acai_h > 0.5": 500, "acai_b < 0.1": 500}
    monkeypatch.undo()
    assert pl.read_parquet(out).equals(apply_filter(night(500), WHERE))


@pytest.mark.parametrize("where", ["acai_h > 0.5", "abs(galactic_b) > 20 AND max_score > 0.5"])
@pytest.mark.parametrize("include_unscored", [False, True])
def test_what_passes_is_what_the_filter_lets_through(tmp_path, where, include_unscored):
    table = score_table(2_000, seed=5, unscored=0.3).with_columns(
        ra=pl.col("candid") % 360,
        dec=pl.col("candid") % 60 - 30,
        acai_h_is_the_longest_name_of_all=0.1,
    )
    halves = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    table.head(700).write_parquet(halves[0], row_group_size=100)
    table.tail(1_300).write_parquet(halves[1], row_group_size=100)
    expected = apply_filter(table, where, include_unscored=include_unscored)
    for each in (table, table.lazy(), pl.scan_parquet(halves)):
        found = try_filter(each, where, include_unscored=include_unscored)
        assert found.passed.equals(expected)
        assert found.stages["alerts"][-1] == len(expected) > 0
