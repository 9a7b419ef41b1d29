"""Filters: the paper's against NumPy, SQL's nulls, and errors that point at the place."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import acai_jax
from acai_jax.errors import FilterError, TableError
from acai_jax.filters.expressions import (
    apply_filter,
    as_toml,
    compile_filter,
    named_filter,
    read_filters,
    with_derived_columns,
)
from acai_jax.filters.trial import try_filter
from acai_jax.score.columns import score_table_schema
from acai_jax.simulate import write_alerts
from acai_jax.surveys.ztf import ZTF

SCHEMA = score_table_schema("honvb")


def score_table(count: int, seed: int, unscored: float = 0.1) -> pl.DataFrame:
    """A table of `count` alerts with random scores and fields; some have no scores."""
    rng = np.random.default_rng(seed)
    low, high = rng.beta(0.2, 4, (count, 5)), rng.beta(4, 0.2, (count, 5))
    scores = np.where(rng.random((count, 5)) < 0.8, low, high)
    missing = rng.random(count) < unscored
    columns = {
        f"acai_{c}": pl.Series(np.where(missing, np.nan, scores[:, i]), dtype=pl.Float32).fill_nan(
            None
        )
        for i, c in enumerate("honvb")
    }
    return pl.DataFrame(
        {
            "candid": np.arange(count),
            "objectId": [f"ZTF20{n:07d}" for n in rng.integers(0, count, count)],
            "ndethist": rng.integers(1, 10, count),
            "isdiffpos": [("t", "f", "1", "0", None)[i] for i in rng.integers(0, 5, count)],
            "ssdistnr": [(-999.0, 0.4, 11.9, 12.1, None)[i] for i in rng.integers(0, 5, count)],
            "magpsf": rng.uniform(15, 21, count).astype(np.float32),
            "reason": ["null feature: drb" if m else None for m in missing],
            **columns,
        },
        strict=False,
    )


# as the paper writes it, section 5
PAPERS_FILTER = (
    "acai_h > 0.8 AND MAX(acai_b, acai_n, acai_v, acai_o) < 0.1 AND n_detections < 5 "
    "AND is_positive_subtraction AND NOT is_known_ss_object"
)


def papers_filter(table: pl.DataFrame) -> list[int]:
    """The candids of the alerts that the paper's filter keeps, in NumPy."""
    h, o, n, v, b = (table[f"acai_{c}"].to_numpy() for c in "honvb")
    largest = np.max([b, n, v, o], axis=0)  # NaN, null in the table, is neither above nor below
    distance = table["ssdistnr"].cast(pl.Float32).to_numpy()
    passed = (h > np.float32(0.8)) & (largest < np.float32(0.1))
    passed &= table["ndethist"].cast(pl.Float64).to_numpy() < 5
    passed &= np.isin(table["isdiffpos"].fill_null("").to_numpy(), ["t", "1"])
    passed &= (distance < 0) | (distance > 12)
    return table["candid"].to_numpy()[passed].tolist()


def test_the_named_filter_is_the_papers():
    assert ZTF.filters["early_hosted"].where == PAPERS_FILTER


def test_the_papers_filter_equals_a_hand_written_one():
    table = score_table(20_000, seed=1)
    passed = apply_filter(table, PAPERS_FILTER)
    assert passed["candid"].to_list() == papers_filter(table)
    assert len(passed) > 5


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), nulls=st.floats(0, 0.5))
def test_the_papers_filter_with_nulls_in_every_column(seed, nulls):
    rng = np.random.default_rng(seed)
    table = score_table(300, seed).with_columns(
        # few alerts pass by chance
        acai_h=pl.lit(0.9, pl.Float32),
        **{f"acai_{c}": pl.lit(0.05, pl.Float32) for c in "onvb"},
        ndethist=pl.lit(3),
    )
    names = [name for name in table.columns if name not in ("candid", "objectId")]
    missing = {name: pl.Series(rng.random(len(table)) < nulls) for name in names}
    table = table.with_columns(
        pl.when(~missing[name]).then(pl.col(name)).alias(name) for name in names
    )
    assert apply_filter(table, PAPERS_FILTER)["candid"].to_list() == papers_filter(table)


def test_the_papers_filter_on_real_and_simulated_alerts(real_data, tmp_path):
    write_alerts(tmp_path, 100, seed=5, proportions={"h": 1.0}, num_workers=0)
    scorer = acai_jax.Scorer.load("published", weights_dir=real_data / "acai_h5")
    real = [real_data / "alerts", real_data / "fink_alerts.parquet"]
    for paths in (real, tmp_path / "alerts"):
        table = scorer.score(paths, num_workers=0)
        passed = apply_filter(table, PAPERS_FILTER)
        assert passed["candid"].to_list() == papers_filter(table)
    assert len(passed) > 0  # of the simulated ones


@pytest.mark.parametrize("name", ZTF.filters)
def test_named_filters_fit_every_score_table(name):
    table = pl.DataFrame(schema=dict(SCHEMA))
    assert len(apply_filter(table, ZTF.filters[name].where)) == 0
    assert len(ZTF.filters[name].why) > 40


def test_derived_columns():
    table = pl.LazyFrame(
        {
            "candid": [1, 2, 3],
            "ndethist": [3, 4, 5],
            "isdiffpos": ["1", "f", None],
            "ssdistnr": [12.0, -999.0, None],
            "acai_h": [0.9, 0.2, None],
            "acai_b": [0.85, 0.3, None],
            "acai_h_version": ["x", "x", "x"],
        }
    )
    found = with_derived_columns(table).collect()
    assert found["n_detections"].to_list() == [3, 4, 5]
    assert found["is_positive_subtraction"].to_list() == [True, False, None]
    assert found["is_known_ss_object"].to_list() == [True, False, None]
    assert found["max_score"].to_list() == [0.9, 0.3, None]
    assert found["n_confident"].to_list() == [2, 0, None]


def test_unscored_alerts_pass_only_when_asked_for():
    table = score_table(500, seed=2, unscored=0.5)
    always = "magpsf > 0 OR acai_h > 2"
    passed = apply_filter(table, always)
    assert passed["reason"].null_count() == len(passed) < len(table)
    assert len(apply_filter(table, always, include_unscored=True)) == len(table)


@settings(max_examples=60)
@given(
    scores=st.lists(st.none() | st.floats(0, 1, width=32), min_size=5, max_size=5),
    positive=st.sampled_from(["t", "f", "1", "0", None]),
    distance=st.none() | st.floats(-999, 40, width=32),
    where=st.sampled_from(
        [
            "NOT (acai_h > 0.5)",
            "acai_h > 0.5 OR acai_b <= 0.5",
            "MAX(acai_h, acai_o, acai_n, acai_v, acai_b) >= 0",
            "NOT is_known_ss_object OR is_positive_subtraction",
            "acai_h IS NULL OR acai_h IS NOT NULL",
        ]
    ),
)
def test_nulls_never_let_an_unscored_alert_pass(scores, positive, distance, where):
    row = {f"acai_{c}": [s] for c, s in zip("honvb", scores, strict=True)}
    kinds = {"candid": pl.Int64, "isdiffpos": pl.String, "ssdistnr": pl.Float32}
    table = pl.DataFrame(
        {"candid": [1], "isdiffpos": [positive], "ssdistnr": [distance], **row},
        schema={**kinds, **dict.fromkeys(row, pl.Float32)},
    )
    passed = len(apply_filter(table, where)) == 1
    if None in scores:
        assert not passed
    elif "IS NULL" in where or "MAX" in where:
        assert passed


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("acai_h > 0.5 AND magspf < 18", "no column magspf; do you mean magpsf?"),
        ("acai_h >", "'expression' missing"),
        ("acai_h > 0.5 AND (magpsf < 18", "Expecting )"),
        ("acai_h > 0.5 ANDD magpsf < 18", "Unexpected token"),
        ("", "nothing to filter by"),
        ("acai_h", "neither true nor false but a number"),
        ("magpsf > 'x'", "cannot compare"),
        ("isdiffpos > 1", "cannot compare"),
        ("MAX(acai_h) > 0.5", "MAX takes several columns"),
        ("SUM(acai_h) > 1", "no function SUM"),
        ("read_csv('x') > 1", "no function READ_CSV"),
        ("acai_h IN (SELECT 1)", "not for filters"),
        ("COUNT(*) > 1", "no function COUNT"),
        ("AVG(acai_h) OVER () > 0", "not for filters"),
        ("acai_h > 1; magpsf > 1", "not for filters"),
        ("acai_h b", "not for filters"),
        ("'abc", "a quote is not closed"),
    ],
)
def test_mistakes_are_pointed_at(where, message):
    schema = with_derived_columns(pl.LazyFrame(schema=dict(SCHEMA))).collect_schema()
    with pytest.raises(FilterError) as caught:
        compile_filter(where, schema)
    assert message.lower() in str(caught.value).lower()
    assert where.splitlines()[0] in str(caught.value) if where else True


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (" AND ".join(["acai_h > 0.5"] * 2_000), "the expression is too long"),
        ("(" * 5_000 + "acai_h > 0.5" + ")" * 5_000, "nested too deeply"),
    ],
)
def test_endless_expressions_are_refused(where, message):
    with pytest.raises(FilterError, match=message) as caught:
        compile_filter(where, SCHEMA)
    assert len(str(caught.value)) < 100


def test_the_mark_stands_below_the_place():
    with pytest.raises(FilterError) as caught:
        compile_filter("acai_h > 0.5\n  AND nope < 2", {"acai_h": pl.Float32})
    message, line, mark = str(caught.value).splitlines()
    assert message == "no column nope"
    assert line[mark.index("^") : mark.rindex("^") + 1] == "nope"


def test_filters_of_ones_own(tmp_path):
    path = tmp_path / "filters.toml"
    path.write_text("[bright]\nwhere = 'magpsf < 16'\nwhy = 'for small telescopes'\n")
    assert read_filters(path)["bright"].why == "for small telescopes"
    assert named_filter("bright", path).where == "magpsf < 16"
    assert named_filter("moving", path) == ZTF.filters["moving"]
    with pytest.raises(FilterError, match="no filter 'dim'; known: early_hosted"):
        named_filter("dim", path)
    for text, message in (
        ("[bright\n", "cannot read filters"),
        ("bright = 3\n", "needs where"),
        ("[bright]\nwhere = 'a'\nwhat = 1\n", "unknown key 'what'"),
    ):
        path.write_text(text)
        with pytest.raises(FilterError, match=message):
            read_filters(path)
    with pytest.raises(FilterError, match="cannot read filters"):
        read_filters(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["mine", "my filter", 'a "b" \\ c', "é"])
def test_filters_are_read_as_they_are_written(name, tmp_path):
    where = "ssnamenr = 'it''s \"x\" \\ é' AND magpsf < 16"
    path = tmp_path / "filters.toml"
    path.write_text(as_toml(name, where), encoding="utf-8")
    assert read_filters(path)[name].where == where


def test_scores_compare_as_they_are_stored():
    # 0.1 in float32 is above 0.1 in float64
    scores = pl.Series([0.1, math.nextafter(0.1, 0)], dtype=pl.Float32)
    table = pl.DataFrame({"candid": [1, 2], "acai_h": scores})
    assert len(apply_filter(table, "acai_h >= 0.1")) == 2


def test_what_is_no_number_is_null():
    magnitudes = [float("nan"), 21.0]
    table = pl.DataFrame({"candid": [1, 2], "acai_h": [0.9, 0.9], "ssmagnr": magnitudes})
    assert apply_filter(table, "ssmagnr > 20")["ssmagnr"].to_list() == [21.0]
    assert len(apply_filter(table, "ssmagnr IS NULL")) == 1


def test_a_table_of_nobodys_alerts_is_refused():
    for use in (apply_filter, try_filter):
        with pytest.raises(TableError, match=r"not a table of alerts: .* no column candid \(ZTF\)"):
            use(pl.DataFrame({"acai_h": [0.9], "magpsf": [18.0]}), "acai_h > 0.5")
