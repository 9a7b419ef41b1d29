"""What a stage of a pipeline sees: where each field of its documents comes from."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from acai_jax.errors import FilterError

_NUMBERS: Final = ("$numberDouble", "$numberInt", "$numberLong", "$numberDecimal")


@dataclasses.dataclass(frozen=True, slots=True)
class Original:
    """A part of the alert, as the broker stores it."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A field that a stage computes out of the document that it sees itself."""

    expression: Any
    document: "Document"
    place: str


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A field that is not there any more, and why."""

    why: str


Source = Original | Computed | Missing


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """Documents between two stages.

    Attributes:
        fields: where fields come from, by their dotted names; "" is the whole document.

    Example:
        >>> first = Document({"": Original("")})
        >>> second = first.projected({"m_now": "$candidate.magpsf"}, "stage 1, $project")
        >>> second.find("m_now"), second.find("candidate.fid")
        (Original(path='candidate.magpsf'), Missing(why='stage 1, $project leaves it out'))
    """

    fields: Mapping[str, Source]

    def find(self, name: str) -> Source:
        """Where a field comes from."""
        parts = name.split(".")
        for count in range(len(parts), -1, -1):
            source, rest = self.fields.get(".".join(parts[:count])), parts[count:]
            if isinstance(source, Original):
                return Original(".".join([source.path, *rest] if source.path else rest))
            if isinstance(source, Computed) and rest:
                return Missing(f"{source.place} computes {'.'.join(parts[:count])}")
            if source is not None:
                return source
        raise AssertionError("every document says where the whole of it comes from")

    def with_fields(self, spec: Mapping[str, Any], place: str) -> "Document":
        """The documents that `$addFields` makes of these.

        Args:
            spec: of the stage.
            place: of the stage, for messages.
        """
        fields = dict(self.fields)
        for name, expression, where in _leaves(spec, place):
            fields = {key: fields[key] for key in fields if not _within(key, name)}
            fields[name] = self._computed(expression, where)
        return Document(fields)

    def projected(self, spec: Mapping[str, Any], place: str) -> "Document":
        """The documents that `$project` makes of these; arguments as for `with_fields`."""
        leaves = [leaf for leaf in _leaves(spec, place) if leaf[0] != "_id"]
        kinds = {name: _kept(expression) for name, expression, _ in leaves}
        left_out = Missing(f"{place} leaves it out")
        if False in kinds.values():
            if set(kinds.values()) != {False}:
                raise refused(place, "it keeps fields and leaves out others")
            rest = {
                key: source
                for key, source in self.fields.items()
                if not any(_within(key, name) for name in kinds)
            }
            return Document(rest | dict.fromkeys(kinds, left_out))
        fields: dict[str, Source] = {"": left_out}
        for name, expression, where in leaves:
            if kinds[name] is None:
                fields[name] = self._computed(expression, where)
            else:
                fields |= {key: each for key, each in self.fields.items() if _within(key, name)}
                fields[name] = self.find(name)
        return Document(fields)

    def _computed(self, expression: Any, place: str) -> Source:
        return (
            self.find(expression[1:]) if is_path(expression) else Computed(expression, self, place)
        )


def is_path(expression: Any) -> bool:
    """Whether an expression is a field, such as "$candidate.drb"."""
    return isinstance(expression, str) and expression[:1] == "$" and expression[:2] != "$$"


def plain_number(value: Any, place: str) -> Any:
    """A number of extended JSON as a plain one; anything else as it is.

    Args:
        value: out of JSON.
        place: of it, for messages.

    Raises:
        FilterError: it should be a number, and is none.

    Example:
        >>> plain_number({"$numberDouble": "0.5"}, ""), plain_number("0.5", "")
        (0.5, '0.5')
    """
    if not (isinstance(value, dict) and len(value) == 1):
        return value
    ((name, digits),) = value.items()
    if name not in _NUMBERS:
        return value
    try:
        return float(digits) if name in ("$numberDouble", "$numberDecimal") else int(digits)
    except (ValueError, TypeError):
        raise refused(place, f"{name} {digits!r:.40} is no number") from None


def refused(place: str, why: str) -> FilterError:
    """The error for a part of a pipeline that cannot be translated."""
    return FilterError(f"{place}: {why}")


def _within(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


def _leaves(spec: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any, str]]:
    """The fields that a stage sets: dotted name, expression, place."""
    for name, expression in spec.items():
        where = f"{place}.{name}"
        if not name or name.startswith("$"):
            raise refused(where, "not a field")
        nested = isinstance(expression, dict) and expression
        if nested and not next(iter(expression)).startswith("$"):
            for inner, leaf, inner_place in _leaves(expression, where):
                yield f"{name}.{inner}", leaf, inner_place
        else:
            yield name, expression, where


def _kept(expression: Any) -> bool | None:
    """Whether a `$project` keeps a field or leaves it out; None where it computes it."""
    value = plain_number(expression, "")
    return bool(value) if isinstance(value, bool | int | float) else None
