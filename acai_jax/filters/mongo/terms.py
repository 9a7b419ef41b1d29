"""SQL that is true exactly where MongoDB's comparison is: nulls are where the two differ.

In SQL a comparison with null is null, and so is its opposite. In MongoDB it is true or false. So
each condition here carries its opposite, which SQL's NOT would not give.

| | where a field is null |
| --- | --- |
| query, `{field: {$lt: 5}}`, and `$lte`, `$gt`, `$gte` | false; with `$not` or `$nor`: true |
| query, `{field: 5}`, `{field: {$in: […]}}` | false, unless null is asked for |
| query, `{field: {$ne: 5}}`, `{field: {$nin: […]}}` | true, unless null is asked for |
| expression, `{$lt: ["$field", 5]}` | null is below every number and text, and equal to null |
"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

Kind = Literal["number", "text", "null"]
Comparison = Literal["=", "<>", "<", "<=", ">", ">="]

_OR, _AND, _ATOM = 0, 1, 2  # how tightly a condition binds
SUM, PRODUCT, UNIT = 0, 1, 2
"""How tightly a value binds."""

_OPPOSITES: Final[dict[Comparison, Comparison]] = {
    "=": "<>",
    "<>": "=",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}
_ORDER: Final[dict[Comparison, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Sql(NamedTuple):
    """A piece of SQL that is true, false or null.

    Attributes:
        text: of it.
        level: how tightly it binds.
        parts: the pieces that AND or OR joins at its top.
    """

    text: str
    level: int
    parts: tuple["Sql", ...] = ()


_TRUE: Final = Sql("TRUE", _ATOM)
_FALSE: Final = Sql("FALSE", _ATOM)


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """A condition that is true or false of every alert, in SQL.

    Attributes:
        yes: true exactly where it holds; false or null elsewhere.
        no: true exactly where it does not hold.

    Example:
        >>> faint = compare(Value("ssmagnr", "number", null=is_null("ssmagnr")), ">", number(20))
        >>> (~faint).yes.text
        'ssmagnr <= 20 OR ssmagnr IS NULL'
    """

    yes: Sql
    no: Sql

    def __invert__(self) -> "Condition":
        return Condition(self.no, self.yes)


ALWAYS: Final = Condition(_TRUE, _FALSE)
NEVER: Final = Condition(_FALSE, _TRUE)


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A number or a text of every alert, in SQL.

    Attributes:
        text: the SQL.
        kind: what it is; "null" for the null of a pipeline.
        level: how tightly it binds.
        null: where it is null.
        flags: the texts that a broker stores as false and as true, where it does so.
    """

    text: str
    kind: Kind
    level: int = UNIT
    null: Condition = NEVER
    flags: tuple[tuple[str, ...], tuple[str, ...]] | None = None


NULL: Final = Value("NULL", "null", null=ALWAYS)


def number(value: int | float) -> Value:
    """A number of the pipeline.

    Example:
        >>> number(19.0).text, number(-0.5).text
        ('19', '-0.5')
    """
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return Value(repr(int(value) if whole else value), "number")


def text(value: str) -> Value:
    """A text of the pipeline.

    Example:
        >>> text("Barnard's star").text
        "'Barnard''s star'"
    """
    return Value("'" + value.replace("'", "''") + "'", "text")


def is_null(sql: str) -> Condition:
    """Where a column is null."""
    return Condition(Sql(f"{sql} IS NULL", _ATOM), Sql(f"{sql} IS NOT NULL", _ATOM))


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Where all hold.

    Example:
        >>> all_of([ALWAYS, is_null("rb"), is_null("rb")]).yes.text
        'rb IS NULL'
    """
    found = list(conditions)
    return Condition(_and(each.yes for each in found), _or(each.no for each in found))


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Where at least one holds."""
    found = list(conditions)
    return Condition(_or(each.yes for each in found), _and(each.no for each in found))


def _and(parts: Iterable[Sql]) -> Sql:
    return _joined(_AND, " AND ", parts, _TRUE, _FALSE)


def _or(parts: Iterable[Sql]) -> Sql:
    return _joined(_OR, " OR ", parts, _FALSE, _TRUE)


def _joined(level: int, word: str, parts: Iterable[Sql], neutral: Sql, decisive: Sql) -> Sql:
    flat = (each for part in parts for each in (part.parts if part.level == level else [part]))
    # each once, in their order
    found = tuple(dict.fromkeys(part for part in flat if part != neutral))
    if decisive in found:
        return decisive
    if len(found) < 2:
        return found[0] if found else neutral
    text = word.join(p.text if p.level >= level else f"({p.text})" for p in found)
    return Sql(text, level, found)


def compare(left: Value, how: Comparison, right: Value) -> Condition:
    """An expression's comparison: null is below all else, and equal to null.

    Args:
        left: of the same kind as `right`, unless one is null.
        how: SQL's operator.
        right: as `left`.

    Example:
        >>> magnitude = Value("ssmagnr", "number", null=is_null("ssmagnr"))
        >>> compare(magnitude, "<", number(20)).yes.text
        'ssmagnr < 20 OR ssmagnr IS NULL'
    """
    return Condition(_holds(left, how, right), _holds(left, _OPPOSITES[how], right))


def _holds(left: Value, how: Comparison, right: Value) -> Sql:
    compared = [] if ALWAYS in (left.null, right.null) else [_compared(left, how, right)]
    # where a side is null, which ones are decides: null is 0, and anything else 1
    sides = [(a, b) for a, b in ((0, 0), (0, 1), (1, 0)) if _ORDER[how](a, b)]
    if sides == [(0, 0), (0, 1)]:
        return _or([*compared, left.null.yes])
    if sides == [(0, 0), (1, 0)]:
        return _or([*compared, right.null.yes])
    return _or([*compared, *(_and([_side(left, a), _side(right, b)]) for a, b in sides)])


def _side(value: Value, side: int) -> Sql:
    return value.null.no if side else value.null.yes


def _compared(left: Value, how: Comparison, right: Value) -> Sql:
    return Sql(f"{left.text} {how} {right.text}", _ATOM)


def query(value: Value, how: Comparison, wanted: Value) -> Condition:
    """A query's comparison with a number or text: never true of null.

    Example:
        >>> magnitude = Value("ssmagnr", "number", null=is_null("ssmagnr"))
        >>> query(magnitude, "<", number(20)).yes.text
        'ssmagnr < 20'
    """
    opposite = _compared(value, _OPPOSITES[how], wanted)
    return Condition(_compared(value, how, wanted), _or([opposite, value.null.yes]))


def one_of(value: Value, wanted: Sequence[Value], *, or_null: bool = False) -> Condition:
    """Where a value is one of some.

    Args:
        value: of the same kind as all of `wanted`.
        wanted: numbers or texts of the pipeline.
        or_null: whether null is wanted, too.

    Example:
        >>> one_of(Value("isdiffpos", "text"), [text("t"), text("1")]).yes.text
        "isdiffpos IN ('t', '1')"
    """
    shown = list(dict.fromkeys(each.text for each in wanted))
    if not shown:
        return value.null if or_null else NEVER
    if len(shown) == 1:
        yes, no = f"= {shown[0]}", f"<> {shown[0]}"
    else:
        yes, no = (f"{word} ({', '.join(shown)})" for word in ("IN", "NOT IN"))
    inside, outside = (Sql(f"{value.text} {word}", _ATOM) for word in (yes, no))
    if or_null:
        return Condition(_or([inside, value.null.yes]), outside)
    return Condition(inside, _or([outside, value.null.yes]))


def arithmetic(sign: Literal["+", "-", "*", "/"], parts: Sequence[Value]) -> Value:
    """Numbers, added up and so on; null where one of them is.

    Example:
        >>> difference = arithmetic("-", [Value("jd", "number"), Value("jdstarthist", "number")])
        >>> arithmetic("*", [number(2), difference]).text
        '2 * (jd - jdstarthist)'
    """
    level = SUM if sign in "+-" else PRODUCT
    first, *others = parts
    # a - (b - c), a / (b * c)
    least = level + 1 if sign in "-/" else level
    shown = [_within(first, level), *(_within(each, least) for each in others)]
    null = any_of(each.null for each in parts)
    return Value(f" {sign} ".join(shown), "number", level if others else first.level, null)


def _within(value: Value, level: int) -> str:
    return value.text if value.level >= level else f"({value.text})"


def call(name: str, parts: Sequence[Value], null: Condition) -> Value:
    """A function of values, of the first one's kind."""
    return Value(f"{name}({', '.join(each.text for each in parts)})", parts[0].kind, null=null)


def choose(condition: Condition, then: Value, otherwise: Value) -> Value:
    """One value where a condition holds, the other where it does not."""
    shown = f"CASE WHEN {condition.yes.text} THEN {then.text} ELSE {otherwise.text} END"
    null = any_of([all_of([condition, then.null]), all_of([~condition, otherwise.null])])
    return Value(shown, otherwise.kind if then.kind == "null" else then.kind, null=null)
