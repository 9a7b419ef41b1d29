"""Who sends alerts: every fact about a survey, and nothing else knows it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from acai_jax.errors import TableError, UsageError
from acai_jax.surveys.base import Other, Survey
from acai_jax.surveys.lsst import LSST
from acai_jax.surveys.others import OTHERS
from acai_jax.surveys.winter import WINTER
from acai_jax.surveys.ztf import ZTF, DrbSource

__all__ = [
    "DEFAULT",
    "MARKS",
    "SURVEYS",
    "DrbSource",
    "Preset",
    "find_survey",
    "recognise",
    "survey_of_table",
]

SURVEYS: Final[Mapping[str, Survey]] = {each.name: each for each in (ZTF, LSST, WINTER)}
"""The surveys whose alerts are read, by name."""
DEFAULT: Final = ZTF
"""Of packets, checkpoints and datasets that name none: when they were made, there was no other."""

Preset = Literal["acai", "kowalski", "boom", "lsst", "lsst-snr", "winter"]
"""How a packet becomes arrays. ZTF's: as the original ACAI did, as Kowalski does, as BOOM does.
LSST's: stamps as they are, or in units of their noise."""

_KNOWN: Final = (*OTHERS, *SURVEYS.values())
_BY_NAMESPACE: Final = {word: known for known in _KNOWN for word in known.signs.namespaces}
_BEGINNINGS: Final = tuple(
    (beginning, known) for known in _KNOWN for beginning in known.signs.beginnings
)
MARKS: Final = frozenset[str]().union(*(known.signs.fields for known in _KNOWN))
"""Names of top-level fields that tell whose a packet is, whatever they hold."""


def recognise(schema_name: str | None, record: Mapping[str, Any]) -> Survey | Other:
    """Whose a packet is: by the name of its schema, or else by its fields.

    A packet that says nothing of itself is ZTF's, as those that brokers write anew are.

    Args:
        schema_name: full name of its Avro schema, such as "ztf.alert".
        record: the names of its top level, with what they hold.

    Example:
        >>> recognise("desirt.alert", {}).title, recognise(None, {"diaSourceId": 7}).title
        ('DECam', 'LSST')
    """
    namespace, _, _ = (schema_name or "").rpartition(".")
    word = re.match("[a-z]*", namespace.lower())
    if word and (known := _BY_NAMESPACE.get(word[0])):
        return known
    if not MARKS.isdisjoint(record):
        for known in _KNOWN:
            if not known.signs.fields.isdisjoint(record):
                return known
    for value in (record.get("publisher"), record.get(DEFAULT.object_id)):
        if isinstance(value, str):
            start = value[:8].upper()
            for beginning, known in _BEGINNINGS:
                if start.startswith(beginning):
                    return known
    return DEFAULT


def find_survey(name: str) -> Survey:
    """The survey of that name.

    Raises:
        UsageError: there is none.

    Example:
        >>> find_survey("lsst")
        Survey('lsst')
    """
    if name not in SURVEYS:
        raise UsageError(f"unknown survey {name!r:.40}; known: {', '.join(SURVEYS)}")
    return SURVEYS[name]


def survey_of_table(columns: Iterable[str]) -> Survey:
    """Whose alerts a table holds, or a record of a dataset: told by its columns of identifiers.

    Args:
        columns: names of the columns.

    Raises:
        TableError: it has no identifiers of a survey that is known.

    Example:
        >>> survey_of_table(["candid", "acai_h"])
        Survey('ztf')
    """
    names = frozenset(columns)
    # surveys may call one of the two alike, and a table may lack one of them
    for identifiers in (("alert_id", "object_id"), ("alert_id",), ("object_id",)):
        for survey in SURVEYS.values():
            if names.issuperset(getattr(survey, identifier) for identifier in identifiers):
                return survey
    known = " or ".join(f"{each.alert_id} ({each.title})" for each in SURVEYS.values())
    raise TableError(f"not a table of alerts: it has no column {known}")
