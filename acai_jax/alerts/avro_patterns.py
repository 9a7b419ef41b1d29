"""Records of plain fields as regular expressions over their bytes, to step over them at once.

The histories of LSST's alerts have a hundred fields of all kinds in an item, and a thousand items:
to look at each field from Python takes four times as long. No expression looks at a byte twice:
its groups are atomic and its repeats possessive.

Source: Apache Avro 1.11 specification, "Binary Encoding".
"""

import itertools
import re
from collections.abc import Callable, Collection
from typing import Any, Final

_LEAST_FIELDS: Final = 8  # of a record, before it pays
_MOST_FIELDS: Final = 300
_MOST_BRANCHES: Final = 4
_LONGEST_TEXT: Final = 15  # [byte]
_SIZES: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_TOGETHER: Final = 32  # records that one match steps over

Resolve = Callable[[Any, str, int], tuple[str, Any, str]]
"""(schema, namespace, depth) -> (type name, definition, namespace)."""
Step = Callable[[bytes, int, int], tuple[int, int]]
"""(block, position, records there) -> (position after those that match, records left)."""
Take = Callable[[bytes, int, int], tuple[int, int, bytes]]
"""The same, and the bytes of the groups of those that match, one after the other."""


def record_pattern(
    schema: Any, space: str, wanted: Collection[str], resolve: Resolve
) -> tuple[bytes, list[tuple[str, str]]] | None:
    """The expression for a record, and the name and type of each of its groups.

    Args:
        schema: of the record.
        space: its namespace.
        wanted: names of fields that the groups hold.
        resolve: follows named types.

    Returns:
        None: it is no record of plain fields, or a field that is wanted is no float or double.

    Example:
        >>> fields = [{"name": f"x{number}", "type": "double"} for number in range(8)]
        >>> schema = {"type": "record", "name": "r", "fields": fields}
        >>> pattern, groups = record_pattern(schema, "", ["x3"], lambda s, *_: (
        ...     ("record", s, "") if isinstance(s, dict) else (s, s, "")))
        >>> len(pattern), groups
        (66, [('x3', 'double')])
    """
    kind, schema, space = resolve(schema, space, 0)
    if kind != "record" or not _LEAST_FIELDS <= len(schema["fields"]) <= _MOST_FIELDS:
        return None
    parts: list[bytes] = []
    groups: list[tuple[str, str]] = []
    texts = 0
    for kind, run in itertools.groupby(schema["fields"], lambda field: field["type"]):
        names = [field["name"] for field in run]
        pattern = _value(kind, space, resolve)
        texts += len(names) * ("string" in kind)
        if pattern is None or texts > 1:  # several, and one is long, such as a file's name
            return None
        if not set(names).isdisjoint(wanted):
            if kind not in ("float", "double"):
                return None
            groups += [(name, kind) for name in names if name in wanted]
            parts += [b"(%b)" % pattern if name in wanted else pattern for name in names]
        elif isinstance(kind, list) and len(names) > 1:  # mostly, all are of one branch
            alike = [each * len(names) for each in _branches(kind, space, resolve) or ()]
            parts.append(b"(?>%b)" % b"|".join([*alike, pattern * len(names)]))
        else:
            parts.append(pattern * len(names))
    return b"".join(parts), groups


def stepper(pattern: bytes) -> Step:
    """What steps over records, most of them without a turn of Python's loop.

    Example:
        >>> stepper(b"a.")(b"..a1a2b3a4", 2, 4)
        (6, 2)
    """
    one = re.compile(pattern, re.DOTALL).match
    many = re.compile(b"(?:%b){%d}+" % (pattern, _TOGETHER), re.DOTALL).match

    def step(block: bytes, position: int, count: int) -> tuple[int, int]:
        while count >= _TOGETHER and (found := many(block, position)):
            position, count = found.end(), count - _TOGETHER
        while count and (found := one(block, position)):
            position, count = found.end(), count - 1
        return position, count

    return step


def taker(pattern: bytes) -> Take:
    """What steps over records, and keeps what the groups of their expression match.

    Example:
        >>> taker(b"a(.)")(b"..a1a2b3a4", 2, 4)
        (6, 2, b'12')
    """
    match = re.compile(pattern, re.DOTALL).match

    def take(block: bytes, position: int, count: int) -> tuple[int, int, bytes]:
        kept: list[bytes] = []
        while count and (found := match(block, position)):
            kept += found.groups()
            position, count = found.end(), count - 1
        return position, count, b"".join(kept)

    return take


def _value(schema: Any, space: str, resolve: Resolve) -> bytes | None:
    """The expression for a plain value; None for any other."""
    kind, schema, space = resolve(schema, space, 0)
    if kind in _SIZES:
        return b"." * _SIZES[kind]
    if kind in ("int", "long", "enum"):
        return rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
    if kind == "string":
        lengths = range(_LONGEST_TEXT + 1)
        return b"(?>%b)" % b"|".join(re.escape(bytes([2 * n])) + b"." * n for n in lengths)
    branches = _branches(schema, space, resolve) if kind == "union" else None
    return b"(?>%b)" % b"|".join(branches) if branches else None


def _branches(schema: list[Any], space: str, resolve: Resolve) -> list[bytes] | None:
    """An expression for each branch of a small union, the byte that tells it before it."""
    if len(schema) > _MOST_BRANCHES or any(isinstance(branch, list) for branch in schema):
        return None
    found = [_value(branch, space, resolve) for branch in schema]
    return (
        [
            re.escape(bytes([2 * index])) + pattern
            for index, pattern in enumerate(found)
            if pattern is not None
        ]
        if None not in found
        else None
    )
