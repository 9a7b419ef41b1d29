"""Pipelines: the same alerts pass as in MongoDB, nulls or not; the rest is refused by name."""

import functools
import json
from typing import Any

import polars as pl
import pytest
from command_line import acai_jax
from hypothesis import given, settings
from hypothesis import strategies as st

from acai_jax.errors import FilterError
from acai_jax.filters.expressions import apply_filter, compile_filter, with_derived_columns
from acai_jax.filters.mongo import read_pipeline, translate_pipeline
from acai_jax.score.columns import score_table_schema
from acai_jax.surveys.ztf import ZTF

NUMBERS = {
    "candidate.magpsf": "magpsf",  # never null in a scored alert
    "candidate.rb": "rb",
    "candidate.ssdistnr": "ssdistnr",
    "candidate.ndethist": "ndethist",
    "candidate.jd": "jd",
    "classifications.acai_h": "acai_h",
    "classifications.acai_b": "acai_b",
}
TEXTS = {
    "objectId": "objectId",
    "candidate.isdiffpos": "isdiffpos",
    "candidate.ssnamenr": "ssnamenr",
}
COLUMNS = {"candid": "candid", **NUMBERS, **TEXTS}
ORDERS = ("$lt", "$lte", "$gt", "$gte")

# exact in float32, and small: no rounding decides
number_values = st.integers(-8, 8).map(lambda n: n / 4)
whole_numbers = st.integers(-2, 2)
text_values = st.sampled_from(["t", "f", "1", "0", "it's", 'a "b"', "a\\b", "", "ZTF18é"])


# --- random alerts -----------------------------------------------------------------------------


SCHEMA = {n: kind for n, kind in score_table_schema("hb").items() if n in COLUMNS.values()}


@st.composite
def columns(draw: st.DrawFn, nulls: bool) -> dict[str, list[Any]]:
    """Columns of a score table of six alerts."""
    found: dict[str, list[Any]] = {"candid": list(range(6))}
    for name, kind in SCHEMA.items():
        if name != "candid":
            values = text_values if kind == pl.String else number_values
            values = whole_numbers if kind == pl.Int64 else values
            values = st.none() | values if nulls else values
            found[name] = draw(st.lists(values, min_size=6, max_size=6))
    return found


def documents(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The alerts as Kowalski stores them."""
    found = []
    for row in table.iter_rows(named=True):
        document: dict[str, Any] = {"_id": row["candid"], "candidate": {}, "classifications": {}}
        for path, column in COLUMNS.items():
            parent, _, name = path.rpartition(".")
            (document[parent] if parent else document)[name] = row[column]
        found.append(document)
    return found


# --- random pipelines --------------------------------------------------------------------------


def fields(paths: Any) -> st.SearchStrategy[str]:
    return st.sampled_from([f"${path}" for path in paths])


@functools.cache
def numbers(depth: int = 2) -> st.SearchStrategy[Any]:
    leaf = fields(NUMBERS) | number_values | whole_numbers
    if depth == 0:
        return leaf
    inner = numbers(depth - 1)
    several = st.lists(inner, min_size=1, max_size=3)
    pair = st.tuples(inner, inner).map(list)
    return (
        leaf
        | st.sampled_from(["$add", "$multiply", "$max", "$min"]).flatmap(
            lambda name: several.map(lambda parts: {name: parts})
        )
        | pair.map(lambda parts: {"$subtract": parts})
        | inner.map(lambda part: {"$divide": [part, 2]})
        | inner.map(lambda part: {"$abs": part})
        | pair.map(lambda parts: {"$ifNull": parts})
        | st.tuples(truths(depth - 1), inner, inner).map(lambda parts: {"$cond": list(parts)})
        | st.tuples(truths(depth - 1), inner).map(
            lambda parts: {"$cond": {"if": parts[0], "then": None, "else": parts[1]}}
        )
    )


@functools.cache
def truths(depth: int = 2) -> st.SearchStrategy[Any]:
    how = st.sampled_from([*ORDERS, "$eq", "$ne"])
    small = numbers(min(depth, 1))
    leaf = (
        st.tuples(how, small, small).map(lambda parts: {parts[0]: list(parts[1:])})
        | st.tuples(how, fields(TEXTS), text_values).map(lambda parts: {parts[0]: list(parts[1:])})
        | st.tuples(st.sampled_from(["$eq", "$ne"]), fields([*NUMBERS, *TEXTS])).map(
            lambda parts: {parts[0]: [parts[1], None]}
        )
        | st.tuples(fields(NUMBERS), st.lists(number_values, min_size=1, max_size=3)).map(
            lambda parts: {"$in": list(parts)}
        )
        | fields(NUMBERS).map(lambda field: {"$and": [field]})  # any number but 0 is true
    )
    if depth == 0:
        return leaf
    inner = truths(depth - 1)
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        leaf
        | several.map(lambda parts: {"$and": parts})
        | several.map(lambda parts: {"$or": parts})
        | inner.map(lambda part: {"$not": part})
        | st.tuples(inner, inner, inner).map(lambda parts: {"$cond": list(parts)})
        | st.tuples(inner, st.booleans()).map(lambda parts: {"$eq": list(parts)})
    )


@functools.cache
def queries(depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    def asked(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        single = st.sampled_from(ORDERS).flatmap(
            lambda how: values.map(lambda value: {how: value})
        ) | st.sampled_from(["$eq", "$ne"]).flatmap(
            lambda how: (st.none() | values).map(lambda value: {how: value})
        )
        lists = st.lists(st.none() | values, min_size=1, max_size=3)
        listed = st.sampled_from(["$in", "$nin"]).flatmap(
            lambda how: lists.map(lambda value: {how: value})
        )
        both = st.tuples(values, values).map(lambda ends: {"$gte": ends[0], "$lt": ends[1]})
        negated = (single | listed | both).map(lambda operators: {"$not": operators})
        return single | listed | both | negated | values | st.none()

    leaf = st.one_of(
        st.tuples(st.sampled_from([*NUMBERS]), asked(number_values)),
        st.tuples(st.sampled_from([*TEXTS]), asked(text_values)),
    ).map(lambda pair: {pair[0]: pair[1]})
    leaf = leaf | truths(1).map(lambda truth: {"$expr": truth})
    if depth == 0:
        return leaf
    joined = st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]),
        st.lists(queries(depth - 1), min_size=1, max_size=3),
    ).map(lambda pair: {pair[0]: pair[1]})
    return leaf | joined


@st.composite
def pipelines(draw: st.DrawFn) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [{"$match": draw(queries())}]
    computed = {
        "age": {"$add": [draw(numbers()), 0]},
        "flag": draw(truths()),
        "mag": "$candidate.magpsf",
    }
    keep = dict.fromkeys(("candid", "objectId", "candidate", "classifications"), 1)
    stages.append(
        draw(st.sampled_from([{"$addFields": computed}, {"$project": {**keep, **computed}}]))
    )
    stages.append({"$project": {"candid": 1, "age": 1, "flag": 1, "m": "$mag", "_id": 0}})
    flag: Any = draw(st.booleans() | st.sampled_from([{"$ne": True}, {"$in": [True, "t"]}]))
    stages.append(
        {
            "$match": {
                "flag": flag,
                "age": draw(st.none() | number_values.map(lambda v: {"$gte": v})),
            }
        }
        if draw(st.booleans())
        else {"$match": {"$or": [{"flag": flag}, {"$expr": {"$lt": ["$m", "$age"]}}]}}
    )
    return stages[: draw(st.sampled_from([1, 4]))]


# --- the judges ----------------------------------------------------------------------------------


def passing(table: pl.DataFrame, pipeline: list[dict[str, Any]], **options: bool) -> list[int]:
    where = translate_pipeline(json.dumps(pipeline), **options)
    return apply_filter(table, where, include_unscored=True)["candid"].to_list()


def in_mongomock(table: pl.DataFrame, pipeline: list[dict[str, Any]]) -> list[int]:
    mongomock = pytest.importorskip("mongomock", reason="mongomock is not installed")
    collection = mongomock.MongoClient().test.alerts
    collection.insert_many(documents(table))
    return [document["candid"] for document in collection.aggregate(pipeline)]


def by_hand(table: pl.DataFrame, pipeline: list[dict[str, Any]]) -> list[int]:
    """MongoDB's rules, written down a second time: its order of types, its three ways of nulls."""
    found = documents(table)
    for stage in pipeline:
        ((name, spec),) = stage.items()
        if name == "$match":
            found = [document for document in found if matches(document, spec)]
        else:
            found = [computed(document, spec, keep=name == "$addFields") for document in found]
    return [document["candid"] for document in found]


def computed(document: dict[str, Any], spec: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    result = json.loads(json.dumps(document)) if keep else {}
    for path, expression in spec.items():
        if expression == 0:
            continue
        value = (
            at(document, path) if expression == 1 and not keep else evaluated(expression, document)
        )
        target = result
        *parents, last = path.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return result


def at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def rank(value: Any) -> tuple[int, Any]:
    """MongoDB's order: null, numbers, text, booleans."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (3, value)
    return (2, value) if isinstance(value, str) else (1, value)


def compared(how: str, first: Any, second: Any) -> bool:
    first, second = rank(first), rank(second)
    return {
        "$eq": first == second,
        "$ne": first != second,
        "$lt": first < second,
        "$lte": first <= second,
        "$gt": first > second,
        "$gte": first >= second,
    }[how]


def matches(document: dict[str, Any], query: dict[str, Any]) -> bool:
    for name, wanted in query.items():
        if name == "$expr":
            passed = evaluated(wanted, document) not in (None, False, 0)
        elif name.startswith("$"):
            each = [matches(document, part) for part in wanted]
            passed = {"$and": all(each), "$or": any(each), "$nor": not any(each)}[name]
        else:
            passed = asked_of(at(document, name), wanted)
        if not passed:
            return False
    return True


def asked_of(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return rank(value) == rank(wanted)
    for how, operand in wanted.items():
        if how == "$not":
            passed = not asked_of(value, operand)
        elif how in ("$in", "$nin"):
            passed = (rank(value) in [rank(each) for each in operand]) == (how == "$in")
        elif how == "$exists":
            passed = (value is not None) == operand
        else:
            comparable = how in ("$eq", "$ne") or rank(value)[0] == rank(operand)[0]
            passed = comparable and compared(how, value, operand)
        if not passed:
            return False
    return True


def evaluated(spec: Any, document: dict[str, Any]) -> Any:
    if isinstance(spec, str) and spec.startswith("$"):
        return at(document, spec[1:])
    if not isinstance(spec, dict):
        return spec
    ((name, operands),) = spec.items()
    if name == "$cond":
        if isinstance(operands, dict):
            operands = [operands["if"], operands["then"], operands["else"]]
        chosen = 1 if evaluated(operands[0], document) not in (None, False, 0) else 2
        return evaluated(operands[chosen], document)
    if name == "$in":
        return rank(evaluated(operands[0], document)) in [rank(each) for each in operands[1]]
    operands = operands if isinstance(operands, list) else [operands]
    values = [evaluated(each, document) for each in operands]
    present = [value for value in values if value is not None]
    truth = [value not in (None, False, 0) for value in values]
    if name in ("$and", "$or", "$not"):
        return {"$and": all(truth), "$or": any(truth), "$not": not truth[0]}[name]
    if name in (*ORDERS, "$eq", "$ne"):
        return compared(name, *values)
    if name == "$ifNull":
        return present[0] if present else None
    if name in ("$max", "$min"):
        return (max if name == "$max" else min)(present, default=None)
    if len(present) < len(values):
        return None
    if name == "$abs":
        return abs(values[0])
    result = values[0]
    for value in values[1:]:
        result = {
            "$add": result + value,
            "$subtract": result - value,
            "$multiply": result * value,
            "$divide": result / (value or 1),
        }[name]
    return result


def test_the_judges_are_independent_and_agree_on_nulls():
    table = pl.DataFrame(
        {"candid": [0, 1, 2], "rb": [0.5, None, 2.0], "isdiffpos": ["t", None, "f"]},
        schema_overrides={"candid": pl.Int64},
    ).with_columns(
        pl.lit(1.0).alias(name) for name in {*COLUMNS.values()} - {"candid", "rb", "isdiffpos"}
    )
    expected = {
        '{"candidate.rb": {"$lt": 1}}': [0],
        '{"candidate.rb": {"$ne": 0.5}}': [1, 2],
        '{"candidate.rb": {"$not": {"$lt": 1}}}': [1, 2],
        '{"candidate.rb": null}': [1],
        '{"$expr": {"$lt": ["$candidate.rb", 1]}}': [0, 1],
        '{"$expr": {"$gt": ["$candidate.rb", 1]}}': [2],
        '{"$expr": {"$ne": ["$candidate.rb", 0.5]}}': [1, 2],
        '{"candidate.isdiffpos": {"$nin": ["t"]}}': [1, 2],
    }
    for query, candids in expected.items():
        pipeline = [{"$match": json.loads(query)}]
        assert by_hand(table, pipeline) == candids
        assert passing(table, pipeline) == candids


@settings(max_examples=80)
@given(data=columns(nulls=False), pipeline=pipelines())
def test_without_nulls_the_same_alerts_pass_as_in_mongomock(data, pipeline):
    table = pl.DataFrame(data, schema=SCHEMA)
    assert passing(table, pipeline) == in_mongomock(table, pipeline)


@settings(max_examples=80)
@given(data=columns(nulls=True), pipeline=pipelines())
def test_with_nulls_the_same_alerts_pass_as_by_mongodbs_rules(data, pipeline):
    table = pl.DataFrame(data, schema=SCHEMA)
    assert passing(table, pipeline, include_unscored=True) == by_hand(table, pipeline)


# --- what filters look like ----------------------------------------------------------------------

FILTER = [
    {
        "$match": {
            "candidate.drb": {"$gt": {"$numberDouble": "0.5"}},
            "candidate.programid": {"$in": [{"$numberInt": "1"}]},
        }
    },
    {
        "$project": {
            "_id": 0,
            "objectId": 1,
            "prv_candidates.jd": 1,
            "isdiffpos": "$candidate.isdiffpos",
            "m_now": "$candidate.magpsf",
            "distance": "$candidate.ssdistnr",
            "age": {"$subtract": ["$candidate.jd", "$candidate.jdstarthist"]},
            "highest": {"$max": ["$classifications.acai_b", "$classifications.acai_v"]},
            "peak": {"$min": [{"$map": {"input": "$prv_candidates", "in": "$$this.magpsf"}}]},
        }
    },
    {
        "$project": {
            "age": 1,
            "highest": 1,
            "bright": {"$lt": ["$m_now", 19.0]},
            "positive": {"$in": ["$isdiffpos", [1, "1", "t", True]]},
            "rock": {"$and": [{"$gte": ["$distance", 0]}, {"$lt": ["$distance", 12]}]},
            "annotations": {"peak": "$peak", "mean": {"$avg": "$prv_candidates.magpsf"}},
        }
    },
    {
        "$match": {
            "bright": True,
            "positive": True,
            "rock": False,
            "age": {"$lt": 30},
            "highest": {"$lt": 0.1},
        }
    },
]
EXPRESSION = (
    "drb > 0.5 AND programid = 1 AND magpsf < 19 AND isdiffpos IN ('1', 't') "
    "AND (ssdistnr < 0 OR ssdistnr IS NULL OR ssdistnr >= 12) "
    "AND jd - jdstarthist < 30 AND MAX(acai_b, acai_v) < 0.1"
)


def test_a_filter_as_brokers_hold_it():
    """Computed fields are put in; those that no $match uses may be anything."""
    assert translate_pipeline(json.dumps(FILTER)) == EXPRESSION
    stages = compile_filter(EXPRESSION, score_table_schema("honvb")).stages
    assert len(stages) == 7


def test_every_field_of_a_score_table_can_be_asked_for():
    schema = with_derived_columns(pl.LazyFrame(schema=dict(score_table_schema("honvb"))))
    paths = [
        *("objectId", "candid", "candidate.candid", "classifications.acai_o"),
        *(f"candidate.{name}" for name in ZTF.table_fields),
        "classifications.acai_h_version",
    ]
    for path in paths:
        column = path.rpartition(".")[2]
        kind = dict(score_table_schema("honvb"))[column]
        wanted = "x" if kind == pl.String else 1
        where = translate_pipeline(json.dumps([{"$match": {path: wanted}}]))
        assert where == f"{column} = {'1' if wanted == 1 else repr('x')}"
        compile_filter(where, schema.collect_schema())


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"candidate.isdiffpos": True}, "isdiffpos IN ('t', '1')"),
        (
            {"candidate.isdiffpos": {"$ne": True}},
            "isdiffpos NOT IN ('t', '1') OR isdiffpos IS NULL",
        ),
        ({"$expr": {"$eq": ["$candidate.isdiffpos", False]}}, "isdiffpos IN ('f', '0')"),
        ({"$expr": {"$and": ["$candidate.isdiffpos"]}}, "isdiffpos IN ('t', '1')"),
        ({"candid": {"$numberLong": "1105522281015015000"}}, "candid = 1105522281015015000"),
        ({"candidate.rb": {"$exists": True}}, "rb IS NOT NULL"),
        (
            {"$expr": {"$gt": [{"$abs": "$coordinates.b"}, 10]}, "coordinates.l": {"$lt": 180}},
            "ABS(galactic_b) > 10 AND galactic_l < 180",
        ),
        ({"candidate.rb": {"$exists": 0}}, "rb IS NULL"),
        ({"candidate.rb": {"$gt": -0.5, "$lt": 1e-7}}, "rb > -0.5 AND rb < 1e-07"),
        (
            {"$nor": [{"candidate.rb": {"$lt": 1}}, {"candidate.drb": 0}]},
            "(rb >= 1 OR rb IS NULL) AND drb <> 0",
        ),
        (
            {"$expr": {"$gt": [{"$divide": [1, {"$add": ["$candidate.drb", 2]}]}, 0.2]}},
            "1 / (drb + 2) > 0.2",
        ),
        (
            {"$expr": {"$lt": [{"$subtract": [1, {"$subtract": ["$candidate.jd", 2]}]}, 3]}},
            "1 - (jd - 2) < 3",
        ),
        ({"$expr": {"$cond": [{"$gt": ["$candidate.drb", 1]}, True, False]}}, "drb > 1"),
        ({}, "TRUE"),
        ({"$expr": False}, "FALSE"),
    ],
)
def test_translations(query, where):
    assert translate_pipeline(json.dumps([{"$match": query}])) == where
    table = pl.DataFrame(schema=dict(score_table_schema("honvb")))
    assert len(apply_filter(table, where)) == 0


def test_what_a_stage_sees():
    stages = [
        {"$set": {"near.x": "$candidate.ssdistnr", "candidate.fwhm": {"$abs": "$candidate.sky"}}},
        {"$project": {"near": 1, "candidate": 1, "all": "$candidate"}},
        {"$project": {"candidate.magpsf": 0, "near": {"y": 0}}},
    ]

    def where(query: dict[str, Any]) -> str:
        return translate_pipeline(json.dumps([*stages, {"$match": query}]))

    assert where({"near.x": {"$gt": 1}}) == "ssdistnr > 1"
    assert where({"candidate.fwhm": {"$gt": 1}}) == "ABS(sky) > 1"
    assert where({"all.rb": {"$gt": 1}}) == "rb > 1"
    with pytest.raises(FilterError, match=r"candidate\.magpsf is not there: stage 3, \$project"):
        where({"candidate.magpsf": 1})
    with pytest.raises(
        FilterError, match=r"objectId is not there: stage 2, \$project leaves it out"
    ):
        where({"objectId": "x"})
    with pytest.raises(FilterError, match=r"near\.x\.z is not there|score tables have no"):
        where({"near.x.z": 1})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            {"$lookup": {"from": "ZTF_alerts_aux"}},
            "stage 1: no $lookup; there are $match, $project",
        ),
        ({"$match": {}, "$limit": 1}, "stage 1: no $match and $limit"),
        ({}, "stage 1: no an empty stage"),
        ({"$match": []}, "stage 1, $match: not a document"),
        (
            {"$match": {"properties.rock": False}},
            "stage 1, $match.properties.rock: score tables have no properties.rock",
        ),
        ({"$match": {"cross_matches.CLU.0": {"$exists": True}}}, "no cross_matches.CLU.0"),
        ({"$match": {"candidate.aimage": 3}}, "score tables have no candidate.aimage"),
        ({"$match": {"candidate": {"$exists": True}}}, "score tables have no candidate"),
        ({"$match": {"_id": 3}}, "score tables have no _id"),
        ({"$match": {"candidate.ssnamenr": {"$regex": "x"}}}, "no $regex in queries"),
        ({"$match": {"$where": "1"}}, "no $where in queries"),
        ({"$match": {"$or": []}}, "$match.$or: needs a list"),
        ({"$match": {"$or": [{"candidate.x": 1}]}}, "$match.$or[0].candidate.x: score tables"),
        ({"$match": {"candidate.drb": "x"}}, 'a number is compared with "x"'),
        ({"$match": {"candidate.drb": {"$gt": True}}}, "true and false have no order"),
        ({"$match": {"candidate.drb": {"$gt": None}}}, "a number is compared with null"),
        ({"$match": {"candidate.drb": {"$in": 3}}}, "needs a list of values"),
        ({"$match": {"candidate.drb": {"$in": []}}}, "compared with nothing"),
        ({"$match": {"candidate.drb": [1]}}, "a list is no value"),
        ({"$match": {"candidate.drb": {"$not": 3}}}, "$not: needs operators"),
        ({"$match": {"candidate.drb": {}}}, "an empty document is no query"),
        ({"$match": {"candidate.drb": {"$numberDouble": "NaN"}}}, "nan is out of range"),
        ({"$match": {"candidate.drb": {"$numberDouble": "x"}}}, "'x' is no number"),
        ({"$match": {"candidate.drb": 2**63}}, "out of range"),
        ({"$match": {"candidate.drb": {"$lt": 10**4000}}}, "drb.$lt: 1000000000"),
        ({"$match": {"$expr": {"$lt": ["$candidate.drb", -(10**4000)]}}}, "is out of range"),
        ({"$match": {"$expr": {"$size": "$candidate.drb"}}}, "$expr.$size: no $size"),
        ({"$match": {"$expr": {"$gt": ["$prv_candidates.jd", 1]}}}, "no prv_candidates.jd"),
        ({"$match": {"$expr": {"$gt": ["$$NOW", 1]}}}, "no variables such as $$NOW"),
        ({"$match": {"$expr": {"$gt": ["$candidate.drb"]}}}, "takes 2 values, not 1"),
        ({"$match": {"$expr": {"$gt": ["$candidate.drb", "x"]}}}, "of different kinds"),
        ({"$match": {"$expr": {"$add": ["$objectId", 1]}}}, "$expr.$add: takes numbers"),
        ({"$match": {"$expr": {"$max": []}}}, "takes some values, not 0"),
        ({"$match": {"$expr": {"$in": [1, "$x"]}}}, "$expr.$in: needs a list"),
        ({"$match": {"$expr": {"$in": ["$objectId", ["$candidate.x"]]}}}, "is a field"),
        ({"$match": {"$expr": {"$lt": [{"$gt": ["$candid", 1]}, 1]}}}, "have no order"),
        ({"$match": {"$expr": {"$cond": {"if": True}}}}, "needs if, then and else"),
        ({"$match": {"$expr": {"a": 1}}}, "a document is no value"),
        ({"$project": {"candidate": 1, "cutoutScience": 0}}, "keeps fields and leaves out"),
        ({"$addFields": {"$x": 1}}, "$addFields.$x: not a field"),
        ({"$project": {"objectId": 1}}, "no $match: every alert would pass"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(stage, message):
    with pytest.raises(FilterError) as caught:
        translate_pipeline(json.dumps([stage]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_computed_fields_do_not_grow_without_end():
    doubled = [{"$set": {"x": {"$add": ["$x", "$x"]}}}] * 60
    stages = [{"$set": {"x": {"$abs": "$candidate.rb"}}}, *doubled, {"$match": {"x": 1}}]
    with pytest.raises(FilterError, match="longer than 20,000 characters"):
        translate_pipeline(json.dumps(stages))
    deep = '[{"$match":' + '{"$and":[' * 5000 + "{}" + "]}" * 5000 + "}]"
    with pytest.raises(FilterError, match="nested too deeply"):
        translate_pipeline(deep)


def test_files(tmp_path):
    path = tmp_path / "filter.json"
    for content, message in (
        (b"[{$match: 1}]", "not JSON: Expecting property name enclosed in double quotes: line 1"),
        (b"\xff", "not UTF-8"),
        (b'[{"$match": {"candid": NaN}}]', "NaN is no number"),
        (b'[{"$match": {"candid": 1%s}}]' % (b"0" * 10_000), "a number is out of range"),
        (b'{"pipeline": []}', "a pipeline is a list of stages"),
        (b"[1]", "a pipeline is a list of stages"),
        (b'[{"$match": {"candid": 1, "candid": 2}}]', "candid stands twice"),
    ):
        path.write_bytes(content)
        with pytest.raises(FilterError) as caught:
            read_pipeline(path)
        assert str(caught.value).startswith(str(path))
        assert message in str(caught.value)


def test_the_command_translates_and_filters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = {"drb": [0.9] * 3, "acai_h": [0.9, 0.2, None]}
    table = pl.DataFrame({"candid": [1, 2, 3], "objectId": ["a", "b", "c"], **scores})
    table.write_parquet(tmp_path / "scores.parquet")
    query = {"candidate.drb": {"$gt": 0.5}, "classifications.acai_h": {"$gt": 0.5}}
    (tmp_path / "mine.json").write_text(json.dumps([{"$match": query}]))
    result = acai_jax("filter", "scores.parquet", "--mongo", "mine.json")
    assert result.returncode == 0, result.stderr
    assert '[mine]\nwhere = "drb > 0.5 AND acai_h > 0.5"' in result.stderr
    assert "0.900" in result.stdout
    assert "0.200" not in result.stdout
