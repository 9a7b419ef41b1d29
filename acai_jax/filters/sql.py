"""SQL conditions over the rows of a table, as polars expressions with SQL's three values.

A comparison with null is null, and null is neither true nor false: NOT NULL is null, too. What is
not a number is null here: NaN, a division by zero, the root of a negative number, a logarithm of
what is not positive.

| | |
| --- | --- |
| `x IS [NOT] TRUE`, `FALSE`, `UNKNOWN`, `NULL` | true or false, never null |
| `a AND b`, `a OR b`, `NOT a` | null where it depends on a null |
| `x IN (1, NULL)` | true or null, never false |
| `GREATEST`, `LEAST` | pass over nulls; null where all are |
| `a / b` | a fraction, for whole numbers, too |
| `a % b` | has the sign of a |
| `ROUND(x, digits)` | a half goes away from zero |
| `LOG(x)`, `LOG(b, x)` | to base 10, to base b; `LN(x)` is the natural one |
| `x LIKE 'ZTF__a%'` | `_` is one character, `%` any number of them; neither can be escaped |
| `MAX`, `MIN` of several columns | `GREATEST` and `LEAST`, as the paper writes them |

Unlike in other dialects, numbers, texts and conditions are never taken for one another. Numbers
are compared as the table stores them, most of them in float32; whole numbers have 64 bits.
"""

import difflib
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import polars as pl
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from acai_jax.errors import FilterError
from acai_jax.filters.arithmetic import (
    logarithm,
    logarithm_to_base,
    power,
    quotient,
    remainder,
    root,
    without_nan,
)

_DIALECT: Final = "postgres"
_MAX_NODES: Final = 1_000  # some 200 comparisons; polars takes minutes for 1,000, or crashes
_MAX_WRITTEN: Final = 200_000  # characters, as polars writes it: a tenth of a second, some 50 MB
_FUNCTIONS: Final = (
    "GREATEST, LEAST, MAX, MIN, ABS, SQRT, POW, EXP, LN, LOG, ROUND, FLOOR, CEIL, COALESCE"
)
_MAX_DIGITS: Final = 15

Kind = Literal["number", "text", "condition", "null"]
_NAMES: Final[Mapping[Kind, str]] = {
    "number": "a number",
    "text": "a text",
    "condition": "a condition",
    "null": "null",
}
_TYPES: Final[Mapping[Kind, Any]] = {
    "number": pl.Float64(),
    "text": pl.String(),
    "condition": pl.Boolean(),
    "null": pl.Boolean(),
}


class _Value(NamedTuple):
    """What a part of a condition is in every row.

    Attributes:
        expression: of it.
        kind: what it is; "null" for NULL itself.
        constant: whether it is the same in every row.
    """

    expression: pl.Expr
    kind: Kind
    constant: bool = False


_Binary = Callable[[pl.Expr, pl.Expr], pl.Expr]

_COMPARISONS: Final[Mapping[type[exp.Expr], _Binary]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
_ARITHMETIC: Final[Mapping[type[exp.Expr], _Binary]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: quotient,
    exp.Mod: remainder,
    exp.Pow: power,
}
_OF_ONE: Final[Mapping[type[exp.Expr], Callable[[pl.Expr], pl.Expr]]] = {
    exp.Neg: operator.neg,
    exp.Abs: operator.abs,
    exp.Sqrt: root,
    exp.Exp: lambda a: a.cast(pl.Float64).exp(),
    exp.Ln: logarithm,
    exp.Floor: pl.Expr.floor,
    exp.Ceil: pl.Expr.ceil,
}
_EXTREMES: Final[Mapping[type[exp.Expr], Callable[..., pl.Expr]]] = {
    exp.Greatest: pl.max_horizontal,
    exp.Max: pl.max_horizontal,
    exp.Least: pl.min_horizontal,
    exp.Min: pl.min_horizontal,
}
# what the parser may say of a node; whatever else it says is not for filters
_ARGUMENTS: Final[Mapping[type[exp.Expr], frozenset[str]]] = {
    **dict.fromkeys([exp.Paren, exp.Not, exp.Column, exp.Boolean, *_OF_ONE], frozenset({"this"})),
    **dict.fromkeys(
        [exp.And, exp.Or, exp.Like, exp.Log, *_COMPARISONS, *_ARITHMETIC],
        frozenset({"this", "expression", "typed", "safe"}),
    ),
    **dict.fromkeys(
        [exp.In, exp.Coalesce, *_EXTREMES], frozenset({"this", "expressions", "ignore_nulls"})
    ),
    exp.Null: frozenset(),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Is: frozenset({"this", "expression"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Round: frozenset({"this", "decimals"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true", "false"}),
}


def parse(where: str) -> exp.Expr:
    """The tree of a condition.

    Args:
        where: what would follow WHERE.

    Raises:
        FilterError: it does not parse, or is too long; the message points at the place.

    Example:
        >>> parse("acai_h >")
        Traceback (most recent call last):
        acai_jax.errors.FilterError: Required keyword: 'expression' missing
          acai_h >
                 ^
    """
    try:
        tree = sqlglot.parse_one(where, dialect=_DIALECT)
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        what = str(first.get("description") or "nothing to filter by").partition(" for <class")[0]
        raise FilterError(_pointed(what, where, first.get("line"), first.get("col"))) from None
    except TokenError:
        raise FilterError(_pointed("a quote is not closed", where)) from None
    except RecursionError:
        raise FilterError("the expression is nested too deeply") from None
    if sum(1 for _ in tree.walk()) > _MAX_NODES:
        raise FilterError(f"the expression is too long: it has more than {_MAX_NODES:,} parts")
    return tree


def condition(tree: exp.Expr, where: str, schema: Mapping[str, Any]) -> pl.Expr:
    """The condition of a tree, as a polars expression: true, false or null in every row.

    Args:
        tree: from `parse`, or a part of one.
        where: what it was parsed from, for messages.
        schema: column -> type of the table. Its numbers must not be NaN.

    Raises:
        FilterError: it names an unknown column or function, compares what cannot be compared, or
            is neither true nor false; the message points at the place.

    Example:
        >>> table = pl.DataFrame({"rb": [0.9, 0.3, None]})
        >>> where = "(rb > 0.5) IS NOT TRUE"
        >>> table.select(condition(parse(where), where, table.schema))["rb"].to_list()
        [False, True, True]
    """
    translator = _Translator(where, schema)
    try:
        found = translator.value(tree)
    except RecursionError:
        raise FilterError("the expression is nested too deeply") from None
    if found.kind not in ("condition", "null"):
        raise translator.refused(tree, f"neither true nor false but {_NAMES[found.kind]}")
    return found.expression


class _Translator:
    """Translates trees, from the leaves up."""

    def __init__(self, where: str, schema: Mapping[str, Any]) -> None:
        self._where, self._schema = where, schema

    def value(self, node: exp.Expr) -> _Value:
        """What a node stands for."""
        self._check(node)
        found = self._plain_value(node)
        if len(str(found.expression)) > _MAX_WRITTEN:
            raise self.refused(node, "too long, where parts that stand once are computed twice")
        negated = node.args.get("negate")  # NOT BETWEEN, NOT IN, NOT LIKE, IS NOT
        return found._replace(expression=~found.expression) if negated else found

    def _plain_value(self, node: exp.Expr) -> _Value:
        kind = type(node)
        if kind is exp.Paren:
            return self.value(node.this)
        if kind is exp.Column:
            return self._column(node)
        if isinstance(node, exp.Literal):
            return self._literal(node)
        if kind is exp.Null:
            return _Value(pl.lit(None, pl.Boolean()), "null", constant=True)
        if kind is exp.Boolean:
            return _Value(pl.lit(bool(node.this)), "condition", constant=True)
        if kind in (exp.And, exp.Or):
            parts = [self._only("condition", part, node) for part in node.flatten()]
            join = operator.and_ if kind is exp.And else operator.or_
            return _of(functools.reduce(join, (part.expression for part in parts)), parts)
        if kind is exp.Not:
            inner = self._only("condition", node.this, node)
            return _of(~inner.expression, [inner])
        if kind in _COMPARISONS:
            return self._compared(node, _COMPARISONS[kind], node.this, node.expression)
        if kind is exp.Between:
            parts = self._alike(node, [node.this, node.args["low"], node.args["high"]])
            value, low, high = (part.expression for part in parts)
            return _of((low <= value) & (value <= high), parts)
        if kind is exp.Is:
            return self._is(node)
        if kind is exp.In:
            return self._in(node)
        if kind is exp.Like:
            return self._like(node)
        if kind in (exp.Case, exp.If):
            return self._case(node)
        if kind in _EXTREMES or kind is exp.Coalesce:
            choose = _EXTREMES.get(kind, pl.coalesce)
            parts = self._alike(node, [node.this, *node.expressions])
            if kind in _EXTREMES and parts[0].kind == "condition":
                raise self.refused(node, "true and false have no order here")
            return _of(choose([part.expression for part in parts]), parts, parts[0].kind)
        return self._number(node)

    def _check(self, node: exp.Expr) -> None:
        """Raises for what filters have not."""
        if isinstance(node, exp.Max | exp.Min) and not node.expressions:
            name = type(node).__name__.upper()
            raise self.refused(node, f"{name} takes several columns: it is taken over each row")
        if isinstance(node, exp.Func) and type(node) not in _ARGUMENTS:
            name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
            message = f"no function {name.upper()} in filters; there are {_FUNCTIONS}"
            raise self._pointing(message, self._where.upper().find(name.upper()), len(name))
        given = {name for name, value in node.args.items() if value and name != "negate"}
        if type(node) not in _ARGUMENTS or not given <= _ARGUMENTS[type(node)]:
            start = self._where.find(node.sql(dialect=_DIALECT))
            raise self._pointing(f"not for filters: {node.key.upper()}", start, 1)

    def _column(self, node: exp.Expr) -> _Value:
        name = node.name
        kind = self._schema.get(name)
        if kind is None:
            close = difflib.get_close_matches(name, list(self._schema), n=1)
            hint = f"; do you mean {close[0]}?" if close else ""
            start = node.this.meta.get("start", self._where.find(name))
            raise self._pointing(f"no column {name}{hint}", start, len(name))
        column = pl.col(name)
        if kind == pl.Boolean:
            return _Value(column, "condition")
        if kind in (pl.String, pl.Categorical, pl.Enum):
            return _Value(column if kind == pl.String else column.cast(pl.String), "text")
        if kind.is_integer() and kind != pl.Int64:  # an unsigned one has nothing below zero
            return _Value(column.cast(pl.Int64), "number")
        if kind.is_numeric():
            return _Value(column, "number")
        raise self.refused(node, f"column {name} is of the type {kind}, which filters cannot use")

    def _literal(self, node: exp.Literal) -> _Value:
        if node.is_string:
            return _Value(pl.lit(node.this), "text", constant=True)
        number = _plain(node)
        if number is None:
            raise self.refused(node, "not a number")
        if not math.isfinite(number):
            raise self.refused(node, "a number is out of range")
        return _Value(pl.lit(number), "number", constant=True)

    def _compared(
        self, node: exp.Expr, how: _Binary, left: exp.Expr | _Value, right: exp.Expr
    ) -> _Value:
        parts = self._alike(node, [left, right])
        if parts[0].kind == "condition" and how not in (operator.eq, operator.ne):
            raise self.refused(node, "true and false have no order here")
        return _of(how(parts[0].expression, parts[1].expression), parts)

    def _is(self, node: exp.Expr) -> _Value:
        wanted = node.expression
        if isinstance(wanted, exp.Null):
            value = self.value(node.this)
            found = value.expression.is_null()
        elif isinstance(wanted, exp.Boolean):
            value = self._only("condition", node.this, node)
            truth = value.expression if wanted.this else ~value.expression
            found = truth.fill_null(False)
        else:
            raise self.refused(node, "IS takes TRUE, FALSE, UNKNOWN or NULL")
        return _of(found, [value])

    def _in(self, node: exp.Expr) -> _Value:
        if not node.expressions:
            raise self.refused(node, "IN takes values in parentheses")
        parts = self._alike(node, [node.this, *node.expressions])
        value, *others = (part.expression for part in parts)
        plain = [_plain(each) for each in node.expressions]
        column = isinstance(node.this, exp.Column) and self._schema[node.this.name]
        if (parts[0].kind == "text" and all(isinstance(each, str) for each in plain)) or (
            column == pl.Int64 and all(isinstance(each, int) for each in plain)
        ):
            return _of(value.is_in(plain), parts)  # many values at once
        return _of(pl.any_horizontal([value == other for other in others]), parts)

    def _like(self, node: exp.Expr) -> _Value:
        value = self._only("text", node.this, node)
        if isinstance(node.expression, exp.Null):
            return _of(pl.lit(None, pl.Boolean()), [value])
        pattern = _plain(node.expression)
        if not isinstance(pattern, str):
            raise self.refused(node, "LIKE takes a text in quotes")
        regex = pl.escape_regex(pattern).replace("%", ".*").replace("_", ".")
        return _of(value.expression.str.contains(f"(?s)^{regex}$"), [value])

    def _case(self, node: exp.Expr) -> _Value:
        cases = node.args["ifs"] if isinstance(node, exp.Case) else [node]
        otherwise = node.args.get("default") or node.args.get("false") or exp.Null()
        if isinstance(node, exp.Case) and node.this is not None:
            subject = self.value(node.this)
            conditions = [self._compared(node, operator.eq, subject, c.this) for c in cases]
        else:
            conditions = [self._only("condition", each.this, node) for each in cases]
        parts = self._alike(node, [*(each.args["true"] for each in cases), otherwise])
        found = parts[-1].expression
        for each, then in zip(reversed(conditions), reversed(parts[:-1]), strict=True):
            found = pl.when(each.expression).then(then.expression).otherwise(found)
        return _of(found, [*conditions, *parts], parts[0].kind)

    def _number(self, node: exp.Expr) -> _Value:
        """Arithmetic, and functions of numbers."""
        kind = type(node)
        if kind is exp.Neg and isinstance(node.this, exp.Literal) and not node.this.is_string:
            self.value(node.this)
            return _Value(pl.lit(-_plain(node.this)), "number", constant=True)
        if kind is exp.Round:
            digits = 0 if "decimals" not in node.args else _plain(node.args["decimals"])
            if not isinstance(digits, int) or digits not in range(_MAX_DIGITS + 1):
                raise self.refused(node, f"ROUND takes digits from 0 to {_MAX_DIGITS}")
            parts = self._numbers(node, [node.this])
            found = parts[0].expression.round(digits, mode="half_away_from_zero")
        elif kind is exp.Log and node.expression is None:
            parts = self._numbers(node, [node.this])
            found = logarithm_to_base(pl.lit(10.0), parts[0].expression)
        elif kind is exp.Log:
            parts = self._numbers(node, [node.this, node.expression])
            found = logarithm_to_base(*(part.expression for part in parts))
        elif kind in _OF_ONE:
            parts = self._numbers(node, [node.this])
            found = _OF_ONE[kind](parts[0].expression)
        else:
            parts = self._numbers(node, [node.this, node.expression])
            found = _ARITHMETIC[kind](*(part.expression for part in parts))
        settled = found.map_batches(without_nan, is_elementwise=True)
        return _of(settled, parts, "number")

    def _numbers(self, node: exp.Expr, parts: list[exp.Expr]) -> list[_Value]:
        return _settled([self._only("number", part, node) for part in parts])

    def _only(self, kind: Kind, node: exp.Expr, user: exp.Expr) -> _Value:
        """A value of a kind, or NULL in its place."""
        found = self.value(node)
        if found.kind not in (kind, "null"):
            raise self.refused(user, f"{_NAMES[found.kind]} stands where {_NAMES[kind]} should")
        return found if found.kind == kind else _null(kind)

    def _alike(self, node: exp.Expr, parts: list[Any]) -> list[_Value]:
        """Values that are all of one kind, NULL apart."""
        found = [part if isinstance(part, _Value) else self.value(part) for part in parts]
        kinds: list[Kind] = []
        for each in found:
            if each.kind not in (*kinds, "null"):
                kinds.append(each.kind)
        if len(kinds) > 1:
            message = f"cannot compare {_NAMES[kinds[0]]} with {_NAMES[kinds[1]]}"
            raise self.refused(node, message)
        kind: Kind = kinds[0] if kinds else "null"
        return _settled([each if each.kind == kind else _null(kind) for each in found])

    def refused(self, node: exp.Expr, message: str) -> FilterError:
        """The error for a part that means nothing; it points there."""
        sql = node.sql(dialect=_DIALECT)
        return self._pointing(message, self._where.find(sql), len(sql))

    def _pointing(self, message: str, start: int, length: int) -> FilterError:
        return FilterError(_pointed(message, self._where, start=start, length=length))


def _of(expression: pl.Expr, parts: list[_Value], kind: Kind = "condition") -> _Value:
    return _Value(expression, kind, all(part.constant for part in parts))


def _null(kind: Kind) -> _Value:
    return _Value(pl.lit(None, _TYPES[kind]), kind, constant=True)


def _settled(values: list[_Value]) -> list[_Value]:
    """The values; whole constants among themselves would be of 32 bits in polars."""
    if values[0].kind != "number" or not all(each.constant for each in values):
        return values
    return [each._replace(expression=each.expression + pl.lit(0, pl.Int64)) for each in values]


def _plain(node: exp.Expr) -> Any:
    """The text or number of a literal; None for everything else, such as 1e."""
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        number = _plain(node.this)
        return -number if isinstance(number, int | float) else None
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string:
        return node.this
    try:
        whole = node.this.isdigit() and float(node.this) < 2**63
        return int(node.this) if whole else float(node.this)
    except ValueError:
        return None


def _pointed(
    message: str,
    where: str,
    line: int | None = None,
    column: int | None = None,
    *,
    start: int | None = None,
    length: int = 1,
) -> str:
    """The message, the line of the expression that it is about, and a mark below the place."""
    lines = where.splitlines() or [""]
    if start is not None and start >= 0:
        before = where[:start]
        line, column = before.count("\n") + 1, start - (before.rfind("\n") + 1) + 1
    shown = lines[min(line or 1, len(lines)) - 1]
    if column is None or line is None:
        return f"{message}\n  {shown}"
    mark = "^" * max(1, min(length, len(shown) - column + 1))
    return f"{message}\n  {shown}\n  {' ' * (column - 1)}{mark}"
