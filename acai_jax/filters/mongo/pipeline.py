"""Aggregation pipelines, stage by stage, -> SQL."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

import acai_jax.filters.mongo.terms as terms
from acai_jax.errors import FilterError
from acai_jax.filters.mongo.documents import (
    Computed,
    Document,
    Missing,
    Original,
    is_path,
    plain_number,
    refused,
)
from acai_jax.filters.mongo.terms import ALWAYS, NEVER, Condition, Value
from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Survey

_STAGES: Final = ("$match", "$project", "$addFields", "$set")
_COMPARISONS: Final[Mapping[str, terms.Comparison]] = {
    "$eq": "=",
    "$ne": "<>",
    "$lt": "<",
    "$lte": "<=",
    "$gt": ">",
    "$gte": ">=",
}
_QUERIES: Final = (*_COMPARISONS, "$in", "$nin", "$exists", "$not")
_MAX_TEXT: Final = 20_000  # characters; a field that uses another one twice doubles it

Term = Condition | Value


def read_pipeline(
    path: str | os.PathLike[str], *, include_unscored: bool = False, survey: Survey = DEFAULT
) -> str:
    """Translates the pipeline in a JSON file.

    Args:
        path: of the file.
        include_unscored: as for `translate_pipeline`.
        survey: as for `translate_pipeline`.

    Raises:
        FilterError: the file cannot be read, or its pipeline cannot be translated.

    Example:
        >>> read_pipeline("no_such_file.json")
        Traceback (most recent call last):
        acai_jax.errors.FilterError: cannot read no_such_file.json: No such file or directory
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return translate_pipeline(text, include_unscored=include_unscored, survey=survey)
    except OSError as error:
        raise FilterError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FilterError(f"{path}: not JSON: it is not UTF-8") from None
    except FilterError as error:
        raise FilterError(f"{path}: {error}") from None


def translate_pipeline(
    pipeline: str, *, include_unscored: bool = False, survey: Survey = DEFAULT
) -> str:
    """Translates an aggregation pipeline to an expression for `compile_filter`.

    Args:
        pipeline: a list of stages, as JSON or as MongoDB's extended JSON.
        include_unscored: whether alerts without scores may pass. Of scored ones, scores, features
            and positions are never null, which makes the expression shorter.
        survey: of the alerts.

    Returns:
        SQL that is true for the alerts that come out of the pipeline.

    Raises:
        FilterError: it is no pipeline, or has a stage, an operator or a field that a score table
            has no answer to; the message says which, and where.

    Example:
        >>> translate_pipeline('''[
        ...     {"$match": {"candidate.drb": {"$gt": 0.5}, "classifications.acai_h": {"$gt": 0.8}}},
        ...     {"$project": {"age": {"$subtract": ["$candidate.jd", "$candidate.jdstarthist"]}}},
        ...     {"$match": {"age": {"$lt": 30}}}
        ... ]''')
        'drb > 0.5 AND acai_h > 0.8 AND jd - jdstarthist < 30'
    """
    try:
        stages = json.loads(pipeline, object_pairs_hook=_object, parse_constant=_no_number)
        return _Translator(include_unscored, survey).translate(stages)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise FilterError(f"not JSON: {error.msg}: {place}") from None
    except ValueError:  # Python reads no more than some thousands of digits
        raise FilterError("a number is out of range") from None
    except RecursionError:
        raise FilterError("nested too deeply") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise FilterError(f"{name} stands twice in one document; $and takes both")
        found[name] = value
    return found


def _no_number(name: str) -> None:
    raise FilterError(f"not JSON: {name} is no number")


class _Translator:
    """Translates queries and expressions; `place` says where each stands, for messages."""

    def __init__(self, include_unscored: bool, survey: Survey) -> None:
        self._include_unscored = include_unscored
        self._survey = survey
        # of a scored alert; other fields may be null
        self._never_null = {
            *(survey.object_id, survey.alert_id),
            *survey.inputs.features,
            *survey.required_fields,
        }
        # a broker stores false and true where packets, and tables, have text
        self._flags = {
            each.column: (_texts(each.values, False), _texts(each.values, True))
            for each in survey.derived
            if each.values
        }
        self._computed: dict[Computed, Term] = {}

    def translate(self, stages: Any) -> str:
        if not (isinstance(stages, list) and all(_is_object(stage) for stage in stages)):
            raise FilterError("not a pipeline: a pipeline is a list of stages")
        document = Document({"": Original("")})
        matched: list[Condition] = []
        for number, stage in enumerate(stages, 1):
            name, spec = next(iter(stage.items()), ("", None))
            place = f"stage {number}, {name}"
            if name not in _STAGES or len(stage) != 1:
                named = " and ".join(stage) or "an empty stage"
                raise refused(f"stage {number}", f"no {named}; there are {', '.join(_STAGES)}")
            if not _is_object(spec):
                raise refused(place, "not a document")
            if name == "$match":
                matched.append(self._query(spec, document, place))
            elif name == "$project":
                document = document.projected(spec, place)
            else:
                document = document.with_fields(spec, place)
        if not matched:
            raise FilterError("no $match: every alert would pass")
        return _checked(terms.all_of(matched), "the whole").yes.text

    # --- queries: what a $match holds ------------------------------------------------------------

    def _query(self, spec: Any, document: Document, place: str) -> Condition:
        if not _is_object(spec):
            raise refused(place, "not a document")
        found = []
        for name, wanted in spec.items():
            where = f"{place}.{name}"
            if name in ("$and", "$or", "$nor"):
                if not isinstance(wanted, list) or not wanted:
                    raise refused(where, "needs a list of queries")
                each = [
                    self._query(part, document, f"{where}[{number}]")
                    for number, part in enumerate(wanted)
                ]
                joined = terms.all_of(each) if name == "$and" else terms.any_of(each)
                found.append(~joined if name == "$nor" else joined)
            elif name == "$expr":
                found.append(_truth(self._expression(wanted, document, where)))
            elif name.startswith("$"):
                raise refused(where, f"no {name} in queries; there are $and, $or, $nor and $expr")
            else:
                term = self._field(name, document, where)
                found.append(_field_query(term, wanted, where))
        return _checked(terms.all_of(found), place)

    # --- expressions: what $expr and computed fields hold ----------------------------------------

    def _expression(self, spec: Any, document: Document, place: str) -> Term:
        spec = plain_number(spec, place)
        if isinstance(spec, str) and spec.startswith("$$"):
            raise refused(place, f"no variables such as {spec:.40}")
        if is_path(spec):
            return self._field(spec[1:], document, place)
        if not _is_object(spec):
            return _literal(spec, place)
        name = next(iter(spec), "")
        if len(spec) != 1 or not name.startswith("$"):
            raise refused(place, "a document is no value")
        where = f"{place}.{name}"
        if name == "$cond":
            found = self._cond(spec[name], document, where)
        elif name == "$in":
            value, wanted = _arguments(spec[name], where, 2)
            if not isinstance(wanted, list):
                raise refused(where, "needs a list of values")
            found = _one_of(self._expression(value, document, where), wanted, where)
        else:
            arguments = [
                self._expression(part, document, f"{where}[{number}]")
                for number, part in enumerate(_arguments(spec[name], where))
            ]
            found = _operate(name, arguments, where)
        return _checked(found, where)

    def _cond(self, spec: Any, document: Document, place: str) -> Term:
        if _is_object(spec):
            if spec.keys() != {"if", "then", "else"}:
                raise refused(place, "needs if, then and else")
            spec = [spec["if"], spec["then"], spec["else"]]
        parts = [
            self._expression(part, document, f"{place}.{name}")
            for name, part in zip(("if", "then", "else"), _arguments(spec, place, 3), strict=True)
        ]
        condition, (then, otherwise) = _truth(parts[0]), parts[1:]
        if isinstance(then, Condition) and isinstance(otherwise, Condition):
            chosen = (terms.all_of([condition, then]), terms.all_of([~condition, otherwise]))
            return terms.any_of(chosen)
        first, second = _same_kind([then, otherwise], place)
        return terms.choose(condition, first, second)

    # --- fields ----------------------------------------------------------------------------------

    def _field(self, name: str, document: Document, place: str) -> Term:
        source = document.find(name)
        if isinstance(source, Missing):
            raise refused(place, f"{name} is not there: {source.why}")
        if isinstance(source, Computed):
            if source not in self._computed:
                term = self._expression(source.expression, source.document, source.place)
                self._computed[source] = term
            return self._computed[source]
        parent, _, column = source.path.rpartition(".")
        if parent == "classifications" and column.startswith("acai_") and column.isidentifier():
            kind = "text" if column.endswith("_version") else "number"
            return self._column(column, kind, may_be_null=False)
        survey = self._survey
        if source.path in (survey.object_id, survey.alert_id, f"{survey.record}.{survey.alert_id}"):
            return self._column(column, "text" if column == survey.object_id else "number")
        if source.path in ("coordinates.l", "coordinates.b"):
            return self._column(f"galactic_{column}", "number")
        if parent == survey.record and column in survey.table_fields:
            return self._column(column, "text" if column in survey.text_fields else "number")
        raise refused(place, f"score tables have no {source.path}")

    def _column(self, name: str, kind: terms.Kind, *, may_be_null: bool | None = None) -> Value:
        if may_be_null is None:
            may_be_null = name not in self._never_null
        null = terms.is_null(name) if may_be_null or self._include_unscored else NEVER
        return Value(name, kind, null=null, flags=self._flags.get(name))


def _texts(values: Mapping[str, bool], truth: bool) -> tuple[str, ...]:
    return tuple(text for text, meant in values.items() if meant is truth)


def _is_object(spec: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(spec, dict)


def _checked(term: Any, place: str) -> Any:
    """The term, unless it has grown beyond bounds."""
    texts = (term.text,) if isinstance(term, Value) else (term.yes.text, term.no.text)
    if max(map(len, texts)) > _MAX_TEXT:
        raise refused(
            place, f"longer than {_MAX_TEXT:,} characters when computed fields are put in"
        )
    return term


def _arguments(spec: Any, place: str, count: int | None = None) -> list[Any]:
    arguments = spec if isinstance(spec, list) else [spec]
    if not arguments or count not in (None, len(arguments)):
        raise refused(place, f"takes {count or 'some'} values, not {len(arguments)}")
    return arguments


def _literal(value: Any, place: str) -> Term:
    if value is None:
        return terms.NULL
    if isinstance(value, bool):
        return ALWAYS if value else NEVER
    if isinstance(value, str):
        return terms.text(value)
    if isinstance(value, int | float):
        if not abs(value) < 2**63:  # nor is NaN
            raise refused(place, f"{str(value)[:20]} is out of range")
        return terms.number(value)
    raise refused(place, "a list is no value" if isinstance(value, list) else "not a value")


# --- operators -----------------------------------------------------------------------------------


def _operate(name: str, arguments: list[Term], place: str) -> Term:
    if name in ("$and", "$or"):
        conditions = [_truth(each) for each in arguments]
        return terms.all_of(conditions) if name == "$and" else terms.any_of(conditions)
    if name == "$not":
        (argument,) = _arguments(arguments, place, 1)
        return ~_truth(argument)
    if name in _COMPARISONS:
        first, second = _arguments(arguments, place, 2)
        return _compared(first, _COMPARISONS[name], second, place)
    if name == "$ifNull":
        return _if_null(arguments, place)
    if name in ("$max", "$min"):
        # nulls count for nothing there
        numbers = _numbers([each for each in arguments if each != terms.NULL], place)
        null = terms.all_of(each.null for each in numbers)
        return numbers[0] if len(numbers) == 1 else terms.call(name[1:].upper(), numbers, null)
    if name == "$abs":
        (number,) = _numbers(_arguments(arguments, place, 1), place)
        return terms.call("ABS", [number], number.null)
    if name in ("$add", "$multiply"):
        return terms.arithmetic("+" if name == "$add" else "*", _numbers(arguments, place))
    if name in ("$subtract", "$divide"):
        numbers = _numbers(_arguments(arguments, place, 2), place)
        return terms.arithmetic("-" if name == "$subtract" else "/", numbers)
    raise refused(place, f"no {name} for score tables")


def _truth(term: Term) -> Condition:
    """Where MongoDB takes a term for true: all but false, null and zero."""
    if isinstance(term, Condition):
        return term
    if term.flags is not None:
        return terms.one_of(term, [terms.text(each) for each in term.flags[True]])
    if term.kind == "number":
        return ~terms.one_of(term, [terms.number(0)], or_null=True)
    return ~term.null


def _compared(first: Term, how: terms.Comparison, second: Term, place: str) -> Condition:
    if isinstance(first, Condition) or isinstance(second, Condition):
        if how not in ("=", "<>"):
            raise refused(place, "true and false have no order here")
        # what is true or false is never null
        same = NEVER if terms.NULL in (first, second) else _same_truth(first, second, place)
        return same if how == "=" else ~same
    first, second = _same_kind([first, second], place)
    return terms.compare(first, how, second)


def _same_truth(first: Term, second: Term, place: str) -> Condition:
    for term, other in ((first, second), (second, first)):
        if isinstance(term, Value) and other in (ALWAYS, NEVER):
            return _one_of(term, [other == ALWAYS], place)
    if not (isinstance(first, Condition) and isinstance(second, Condition)):
        raise refused(place, "true or false is compared with a number or a text")
    return terms.any_of([terms.all_of([first, second]), terms.all_of([~first, ~second])])


def _if_null(arguments: list[Term], place: str) -> Term:
    if len(arguments) < 2:
        raise refused(place, "takes two values or more")
    if isinstance(arguments[0], Condition):  # never null
        return arguments[0]
    values = _same_kind(arguments, place)
    null = terms.all_of(each.null for each in values)
    return values[0] if values[0].null == NEVER else terms.call("COALESCE", values, null)


def _numbers(arguments: Sequence[Term], place: str) -> list[Value]:
    numbers = [each for each in arguments if isinstance(each, Value) and each.kind == "number"]
    if not numbers or len(numbers) < len(arguments):
        raise refused(place, "takes numbers")
    return numbers


def _same_kind(arguments: Sequence[Term], place: str) -> list[Value]:
    values = [each for each in arguments if isinstance(each, Value)]
    if len(values) < len(arguments) or len({each.kind for each in values} - {"null"}) > 1:
        raise refused(place, "its values are of different kinds")
    return values


def _field_query(term: Term, wanted: Any, place: str) -> Condition:
    """What a query wants of a field: a value, or a document of operators."""
    wanted = plain_number(wanted, place)
    if not _is_object(wanted):
        return _one_of(term, [wanted], place)
    found = []
    for name, operand in wanted.items():
        where, operand = f"{place}.{name}", plain_number(operand, f"{place}.{name}")
        if name not in _QUERIES:
            raise refused(where, f"no {name} in queries; there are {', '.join(_QUERIES)}")
        if name in ("$in", "$nin"):
            if not isinstance(operand, list):
                raise refused(where, "needs a list of values")
            found.append(_one_of(term, operand, where))
        elif name in ("$eq", "$ne"):
            found.append(_one_of(term, [operand], where))
        elif name == "$exists":
            null = NEVER if isinstance(term, Condition) else term.null
            found.append(~null if _truth(_literal(operand, where)) == ALWAYS else null)
        elif name == "$not":
            if not _is_object(operand):
                raise refused(where, "needs operators")
            found.append(_field_query(term, operand, where))
        else:
            found.append(_ordered(term, _COMPARISONS[name], operand, where))
        if name in ("$ne", "$nin", "$not"):
            found[-1] = ~found[-1]
    if not found:
        raise refused(place, "an empty document is no query")
    return terms.all_of(found)


def _ordered(term: Term, how: terms.Comparison, operand: Any, place: str) -> Condition:
    limit = _literal(operand, place)
    if isinstance(term, Condition) or isinstance(limit, Condition):
        raise refused(place, "true and false have no order here")
    if limit.kind != term.kind:
        raise refused(place, f"a {term.kind} is compared with {_shown(operand)}")
    return terms.query(term, how, limit)


def _one_of(term: Term, wanted: Sequence[Any], place: str) -> Condition:
    """Where a term is one of some values; those of other kinds, it never is."""
    wanted = [plain_number(each, place) for each in wanted]
    or_null = None in wanted
    if isinstance(term, Condition):
        known = [term if each else ~term for each in wanted if isinstance(each, bool)]
        if not known:
            raise refused(place, f"true or false is compared with {_shown(*wanted)}")
        return terms.any_of(known)
    values: list[Value] = []
    for each in wanted:
        if term.flags is not None and isinstance(each, bool):
            values += [terms.text(letter) for letter in term.flags[each]]
            continue
        literal = _literal(each, place)
        if isinstance(literal, Value) and literal.kind == term.kind:
            if is_path(each):
                raise refused(place, f"{each} is a field, and only values can stand there")
            values.append(literal)
    if not values and not or_null:
        raise refused(place, f"a {term.kind} is compared with {_shown(*wanted)}")
    return terms.one_of(term, values, or_null=or_null)


def _shown(*values: Any) -> str:
    return ", ".join(json.dumps(each)[:40] for each in values) or "nothing"
