"""Who sends alerts: every fact about a survey, and nothing else knows it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from acai_jax.surveys.base import Other, Survey
from acai_jax.surveys.others import OTHERS
from acai_jax.surveys.ztf import ZTF

SURVEYS: Final[Mapping[str, Survey]] = {ZTF.name: ZTF}
"""The surveys whose alerts are read, by name."""

_KNOWN: Final = (*SURVEYS.values(), *OTHERS)
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
    for value in (record.get("publisher"), record.get("objectId")):
        if isinstance(value, str):
            start = value[:8].upper()
            for beginning, known in _BEGINNINGS:
                if start.startswith(beginning):
                    return known
    return ZTF
