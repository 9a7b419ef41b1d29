"""Conditions mean what DuckDB says that they mean, nulls and all."""

import os

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from acai_jax.errors import FilterError
from acai_jax.filters.expressions import with_derived_columns
from acai_jax.filters.sql import condition, parse

MANY = 5_000 if os.environ.get("ACAI_JAX_FUZZ") == "1" else 250
ROWS = 24
SEEDS = st.integers(0, 10**6)
TEXTS = ("", "a", "b", "ab", "ZTF20aa", "ZTF21", "%", "_", "a\nb", "\\", "é", ".")
# what has no value is null here; DuckDB says NaN or infinity, or stops
MACROS = """
CREATE MACRO number(x) AS CASE WHEN isnan(x::DOUBLE) THEN NULL ELSE x END;
CREATE MACRO quotient(x, y) AS number(x::DOUBLE / nullif(y, 0));
CREATE MACRO remainder(x, y) AS number(x % nullif(y, 0));
CREATE MACRO root(x) AS CASE WHEN x >= 0 THEN sqrt(x) END;
CREATE MACRO logarithm(x) AS CASE WHEN x > 0 THEN ln(x) END;
CREATE MACRO to_base(b, x) AS number(quotient(logarithm(x), logarithm(b)));
"""
DATABASE = duckdb.connect()
DATABASE.execute(MACROS)


def table_of(seed: int) -> pl.DataFrame:
    """Rows with nulls everywhere, and with NaN and infinities in one column."""
    rng = np.random.default_rng(seed)

    def some(values, kind):
        drawn = [values[i] for i in rng.integers(len(values), size=ROWS)]
        return pl.Series([None if rng.random() < 0.2 else each for each in drawn], dtype=kind)

    return pl.DataFrame(
        {
            "a": some(np.arange(-3.0, 3.25, 0.25), pl.Float64),
            "b": some([-1e300, -1.5, 0.0, 0.5, 1.0, np.nan, np.inf, -np.inf], pl.Float64),
            "i": some(range(-4, 5), pl.Int64),
            "j": some(range(-9, 10, 3), pl.Int32),
            "u": some(range(5), pl.UInt32),
            "p": some([True, False], pl.Boolean),
            "q": some([True, False], pl.Boolean),
            "s": some(TEXTS, pl.String),
            "t": some(TEXTS, pl.String),
        }
    )


def ours(table: pl.DataFrame, where: str) -> list[bool | None]:
    frame = with_derived_columns(table.lazy().with_columns(candid=0))
    found = condition(parse(where), where, frame.collect_schema())
    return frame.select(pl.repeat(None, pl.len()), x=found).collect()["x"].to_list()


def duckdbs(table: pl.DataFrame, where: str) -> list[bool | None]:
    frame = table.with_columns(pl.col("a", "b").fill_nan(None), pl.col("u").cast(pl.Int64))
    DATABASE.register("alerts", frame.to_arrow())
    return [row[0] for row in DATABASE.execute(f"SELECT {where} FROM alerts").fetchall()]


# forms of expressions: the kinds of their parts, as we write them, and as DuckDB does; a kind with
# a star stands for a few parts
Form = tuple[str, str, str]


def form(parts: str, ours: str, theirs: str | None = None) -> Form:
    return parts, ours, theirs or ours


def forms_of_any(kind: str) -> list[Form]:
    return [
        form(f"condition {kind} condition {kind}", "CASE WHEN {0} THEN {1} WHEN {2} THEN {3} END"),
        form(f"condition {kind} {kind}", "CASE WHEN {0} THEN {1} ELSE {2} END"),
        form(f"{kind} {kind} {kind} {kind}", "CASE {0} WHEN {1} THEN {2} ELSE {3} END"),
        form(f"{kind}*", "COALESCE({0})"),
    ]


def forms_of_conditions(kind: str) -> list[Form]:
    return [
        *(form(f"{kind} {kind}", f"({{0}} {how} {{1}})") for how in ("=", "<>", "<", "<=", ">")),
        form(f"{kind} {kind}", "({0} != {1} OR {0} >= {1})"),
        form(kind, "({0} IS NULL)"),
        form(kind, "({0} IS NOT NULL)"),
        form(f"{kind} {kind} {kind}", "({0} BETWEEN {1} AND {2})"),
        form(f"{kind} {kind} {kind}", "({0} NOT BETWEEN {1} AND {2})"),
        form(f"{kind} {kind}*", "({0} IN ({1}))"),
        form(f"{kind} {kind}*", "({0} NOT IN ({1}))"),
    ]


LEAVES = {
    "exact": [
        *(form("", name) for name in ("a", "i", "j", "u")),
        *(form("", text, f"{text}::BIGINT") for text in ("0", "2", "10", "(-3)")),
        *(form("", text, f"{text}::DOUBLE") for text in ("0.5", "2.25", "(-0.25)", "1e2")),
        form("", "NULL", "NULL::DOUBLE"),
    ],
    "finite": [form("exact", "{0}")],
    "number": [form("", "b"), form("exact", "{0}")],
    "text": [
        *(form("", name) for name in ("s", "t")),
        *(form("", f"'{text}'") for text in TEXTS),
        form("", "NULL", "NULL::VARCHAR"),
    ],
    "pattern": [form("", f"'{text}'") for text in ("", "%", "_", "a%", "ZTF__%", ".", "\\")],
    "condition": [
        *(form("", name) for name in ("p", "q", "TRUE", "FALSE")),
        form("", "NULL", "NULL::BOOLEAN"),
    ],
}
SMOOTH = [  # the last digit may differ
    form("number", "SQRT({0})", "root({0})"),
    form("number", "LN({0})", "logarithm({0})"),
    form("number", "EXP({0})", "exp({0}::DOUBLE)"),
    form("number", "LOG({0})", "to_base(10, {0})"),
    form("number number", "LOG({0}, {1})", "to_base({0}, {1})"),
    # the square root of minus infinity is null here
    form("finite number", "POW({0}, {1})", "number(pow({0}::DOUBLE, {1}::DOUBLE))"),
    form("finite number", "({0} ^ {1})", "number(pow({0}::DOUBLE, {1}::DOUBLE))"),
]
FORMS = {
    "exact": [],
    "pattern": [],
    "finite": [form("number", "LEAST(GREATEST({0}, -100), 100)")],
    "number": [
        *(
            form("number number", f"({{0}} {sign} {{1}})", f"number({{0}} {sign} {{1}})")
            for sign in "+-*"
        ),
        form("number number", "({0} / {1})", "quotient({0}, {1})"),
        form("exact exact", "({0} % {1})", "remainder({0}, {1})"),
        *(form("number", each) for each in ("(- {0})", "ABS({0})", "FLOOR({0})", "CEIL({0})")),
        form("number", "ROUND({0})"),
        *(form(p, f"ROUND({mine}, 2)", f"round({theirs}, 2)") for p, mine, theirs in SMOOTH),
        form("number*", "GREATEST({0})"),
        form("number*", "LEAST({0})"),
        form("number number*", "MAX({0}, {1})", "greatest({0}, {1})"),
        form("number number*", "MIN({0}, {1})", "least({0}, {1})"),
        *forms_of_any("number"),
    ],
    "text": [form("text*", "GREATEST({0})"), form("text*", "LEAST({0})"), *forms_of_any("text")],
    "condition": [
        form("condition condition", "({0} AND {1})"),
        form("condition condition", "({0} OR {1})"),
        form("condition", "(NOT {0})"),
        form("condition condition", "({0} = {1})"),
        form("condition condition", "({0} <> {1})"),
        form("condition", "({0} IS UNKNOWN)"),
        form("condition", "({0} IS NOT UNKNOWN)"),
        *(form("condition", f"({{0}} IS {how})") for how in ("TRUE", "FALSE", "NULL")),
        *(form("condition", f"({{0}} IS NOT {how})") for how in ("TRUE", "FALSE", "NULL")),
        form("text pattern", "({0} LIKE {1})"),
        form("text pattern", "({0} NOT LIKE {1})"),
        *forms_of_conditions("number"),
        *forms_of_conditions("text"),
        *forms_of_any("condition"),
    ],
}


@st.composite
def expressions(draw, kind: str = "condition", depth: int = 4) -> tuple[str, str]:
    """An expression: as we write it, and as DuckDB does."""
    if kind.endswith("*"):
        some = [draw(expressions(kind[:-1], depth)) for _ in range(draw(st.integers(1, 3)))]
        return tuple(map(", ".join, zip(*some, strict=True)))  # type: ignore[return-value]
    deeper = FORMS[kind] if depth else []
    parts, mine, theirs = draw(st.sampled_from(deeper or LEAVES[kind]))
    found = [draw(expressions(part, max(depth - 1, 0))) for part in parts.split()]
    return mine.format(*(each for each, _ in found)), theirs.format(*(each for _, each in found))


@settings(max_examples=MANY, suppress_health_check=list(HealthCheck))
@given(expression=st.integers(1, 4).flatmap(lambda depth: expressions(depth=depth)), seed=SEEDS)
def test_conditions_are_those_of_duckdb(expression, seed):
    mine, theirs = expression
    table = table_of(seed)
    try:
        expected = duckdbs(table, theirs)
    except duckdb.OutOfRangeException:  # of whole numbers
        reject()
    assert ours(table, mine) == expected


@st.composite
def flat_conditions(draw) -> str:
    """Conditions without brackets: which operator comes first is up to the reader."""

    def number() -> str:
        operands = st.sampled_from(["i", "j", "- i", "-j", "2", "3"])
        some = [draw(operands)]
        for _ in range(draw(st.integers(0, 3))):
            some += [draw(st.sampled_from(["+", "-", "*", "/", "^"])), draw(operands)]
        return " ".join(some)

    def single() -> str:
        how = draw(st.sampled_from(["{} < {}", "{} = {}", "{} IS NULL", "{} BETWEEN {} AND {}"]))
        found = how.format(*(number() for _ in range(how.count("{}"))))
        how = draw(st.sampled_from(["{}", "{} IS TRUE", "p", "p IS NOT FALSE", "p = q IS NULL"]))
        return f"{draw(st.sampled_from(['', 'NOT ', 'NOT NOT ']))}{how.format(found)}"

    found = single()
    for _ in range(draw(st.integers(0, 3))):
        found += f" {draw(st.sampled_from(['AND', 'OR']))} {single()}"
    return found


@settings(max_examples=MANY)
@given(where=flat_conditions(), seed=SEEDS)
def test_operators_come_in_sqls_order(where, seed):
    table = table_of(seed)
    # powers and quotients of ones and twos are exact, and there are no zeros to divide by
    table = table.with_columns(pl.col("i", "j") % 2 + 1)
    assert ours(table, where) == duckdbs(table, where)


TOKENS = (
    *("a", "i", "s", "p", "nope", "1", "1e", "1e999", "0x1F", "'x'", "NULL", "TRUE", "*", "(", ")"),
    *("+", "-", "/", "=", "<", "AND", "OR", "NOT", "IS", "IN", "LIKE", "BETWEEN", "CASE", "WHEN"),
    *("THEN", "END", "LOG(", "MAX(", "ROUND(", "COALESCE(", ",", "::int", "DISTINCT", "^", "."),
    *("SELECT", "FROM", "ESCAPE", "INTERVAL", "CAST(", "ANY(", "[", "]", "||", ";", "--", "/*"),
)


OFTEN_WRITTEN = (
    *("{} LIKE {}", "{} IN ({}, {})", "{} BETWEEN {} AND {}", "CASE WHEN {} THEN {} ELSE {} END"),
    *("ROUND({}, {}) > {}", "LOG({}, {}) > {}", "COALESCE({}, {}) = {}", "-{} ^ {} < {}"),
)
ODD = ("a", "i", "s", "p", "0", "1", "1.0", "1e", "1e999", "-1", "'x'", "NULL", "TRUE", "*")


@settings(max_examples=MANY)
@given(
    st.lists(st.sampled_from(TOKENS), max_size=8).map(" ".join)
    | st.builds(str.format, st.sampled_from(OFTEN_WRITTEN), *[st.sampled_from(ODD)] * 3)
)
def test_whatever_is_written_is_run_or_refused(where):
    table = table_of(0)
    try:
        found = condition(parse(where), where, table.schema)
    except FilterError:
        return
    assert table.select(x=found).dtypes == [pl.Boolean]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("(a > 0) IS NOT TRUE", [False, True, True]),
        ("(a > 0) IS NOT FALSE", [True, False, True]),
        ("NOT (a > 0) IS UNKNOWN", [True, True, False]),
        ("a NOT IN (5, NULL)", [None, None, None]),
        ("u - 1 < 0", [False, True, False]),  # of unsigned numbers
        ("LOG(u) = 3", [True, None, False]),
        ("LOG10(u) = 3 AND LOG(2, 8) = 3", [True, None, False]),
        ("SQRT(a) IS NULL", [False, True, True]),
        ("1 / u > 0 OR u % u = 0", [True, None, True]),
        ("2000000000 * 2 > 0 AND CASE WHEN a > 0 THEN 2000000000 END * 2 > 0", [True, None, None]),
        ("s LIKE '_\\%'", [True, False, False]),
        ("s = 'it''s' OR s > 'z'", [False, True, False]),
    ],
)
def test_conditions_by_hand(where, expected):
    columns = {"a": [1.0, -2.0, None], "s": ["a\\b", "it's", "abc"]}
    table = pl.DataFrame({**columns, "u": pl.Series([1000, 0, 7], dtype=pl.UInt32)})
    assert table.select(x=condition(parse(where), where, table.schema))["x"].to_list() == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("p = 1", "cannot compare a condition with a number"),
        ("a + s > 1", "a text stands where a number should"),
        ("NOT a", "a number stands where a condition should"),
        ("a IS TRUE", "a number stands where a condition should"),
        ("a IS i", "IS takes TRUE, FALSE, UNKNOWN or NULL"),
        ("p < q", "true and false have no order"),
        ("GREATEST(p, q)", "true and false have no order"),
        ("s LIKE t", "LIKE takes a text in quotes"),
        ("s LIKE 'a' ESCAPE 'b'", "not for filters: ESCAPE"),
        ("a BETWEEN SYMMETRIC 1 AND 2", "not for filters: BETWEEN"),
        ("rows.a > 1", "not for filters: COLUMN"),
        ("ROUND(a, i) > 1", "ROUND takes digits from 0 to 15"),
        ("ROUND(a, -1) > 1", "ROUND takes digits from 0 to 15"),
        ("ROUND(a, 1.0) > 1", "ROUND takes digits from 0 to 15"),
        ("s LIKE 1e", "LIKE takes a text in quotes"),
        ("i IN (-1e)", "not a number"),
        ("FLOOR(a, 2) > 1", "not for filters: FLOOR"),
        ("a < 1" + "0" * 400, "out of range"),
        ("a < 1" + "0" * 5_000, "out of range"),
    ],
)
def test_what_means_nothing_is_refused(where, message):
    table = table_of(0)
    with pytest.raises(FilterError, match=message):
        condition(parse(where), where, table.schema)


@pytest.mark.parametrize("before", ["LOG(", "LN(", "SQRT(", "(1 + ", "(a / ", "ROUND(", "POW(2, "])
def test_nested_parts_are_computed_once(before):
    """Not once for each way down to them, which takes all time and memory."""
    where = f"{before * 20}a{')' * 20} > 0"
    table = pl.DataFrame({"a": [2.0, None]})
    assert table.select(x=condition(parse(where), where, table.schema))["x"][1] is None


@pytest.mark.parametrize(
    ("before", "after"), [("(", " % 3)"), ("CASE ", " WHEN 1 THEN 1 WHEN 2 THEN 2 END")]
)
def test_what_would_be_computed_too_often_is_refused(before, after):
    where = f"{before * 20}a{after * 20} > 0"
    with pytest.raises(FilterError, match="too long, where parts that stand once are computed"):
        condition(parse(where), where, {"a": pl.Float64})


def test_columns_of_other_types_are_refused():
    where, schema = "day IS NULL", {"day": pl.Date}
    with pytest.raises(FilterError, match="column day is of the type Date"):
        condition(parse(where), where, schema)
