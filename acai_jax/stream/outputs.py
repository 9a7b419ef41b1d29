"""Scores on their way out: Avro messages for a topic, JSON lines for standard output.

Each Avro message is an object container with its schema inside, as ZTF's alerts are: whatever reads
those reads these. Names are Kowalski's.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import fastavro
import polars as pl

from acai_jax.surveys.base import Survey

_KINDS: Final = {"float": "float", "double": "double", "integer": "long", "text": "string"}
_SYNC: Final = b"acai_jax.scores "  # 16 bytes; the same alert makes the same message


def _fields(survey: Survey) -> dict[str, str]:
    """Name -> kind of what a message says of an alert."""
    return {
        survey.alert_id: "long",
        survey.object_id: "string",
        **{name: _KINDS[survey.kinds[name]] for name in survey.required_fields},
        **{name: f"{_KINDS[survey.kinds[name]]}?" for name in survey.message_fields},
        "drb_source": "string?",
        "preset": "string",
        "reason": "string?",
    }


def score_schema(classes: Sequence[str], survey: Survey) -> dict[str, Any]:
    """Avro schema of a message: the alert, and `classifications` by the names of Kowalski.

    A score is null where the alert could not be scored; `reason` then says why.

    Example:
        >>> from acai_jax.surveys import SURVEYS
        >>> schema = score_schema(("h",), SURVEYS["ztf"])
        >>> [field["name"] for field in schema["fields"][-1]["type"]["fields"]]
        ['acai_h', 'acai_h_version']
    """
    classifications = [
        field
        for name in classes
        for field in (_field(f"acai_{name}", "float?"), _field(f"acai_{name}_version", "string"))
    ]
    record = {"type": "record", "name": "classifications", "fields": classifications}
    fields = [_field(name, kind) for name, kind in _fields(survey).items()]
    return {
        "type": "record",
        "name": "scores",
        "namespace": "acai_jax",
        "fields": [*fields, {"name": "classifications", "type": record}],
    }


class ScoreEncoder:
    """Makes records of the rows of a score table, and messages and lines of records.

    Args:
        classes: of the model.
        survey: of the alerts.

    Example:
        >>> from acai_jax.surveys import SURVEYS
        >>> encoder = ScoreEncoder(("h",), SURVEYS["ztf"])
        >>> row = {"candid": 7, "objectId": "ZTF18a", "jd": 2.0, "ra": 1.0, "dec": 1.0, "fid": 1}
        >>> row |= {"programid": 1, "magpsf": 18.5, "drb": None, "drb_source": None}
        >>> row |= {"preset": "acai", "reason": None, "acai_h": 0.5, "acai_h_version": "1"}
        >>> table = pl.DataFrame(row)
        >>> (record,) = encoder.records(table)
        >>> next(fastavro.reader(io.BytesIO(encoder.message(record))))["classifications"]
        {'acai_h': 0.5, 'acai_h_version': '1'}
        >>> encoder.line(record)[:13]
        '{"candid": 7,'
    """

    def __init__(self, classes: Sequence[str], survey: Survey) -> None:
        self._fields = tuple(_fields(survey))
        self._names = tuple(
            name for each in classes for name in (f"acai_{each}", f"acai_{each}_version")
        )
        self._schema = fastavro.parse_schema(score_schema(classes, survey))

    def records(self, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
        """What is said of each row; what is no number is null, as JSON has no other word for it."""
        # no other columns: a timestamp may be beyond what Python can hold
        for row in rows.select(*self._fields, *self._names).iter_rows(named=True):
            fields = {name: _finite(row[name]) for name in self._fields}
            yield fields | {"classifications": {name: _finite(row[name]) for name in self._names}}

    def message(self, record: Mapping[str, Any]) -> bytes:
        """A record as a message for a topic."""
        buffer = io.BytesIO()
        fastavro.writer(buffer, self._schema, [record], sync_marker=_SYNC)
        return buffer.getvalue()

    def line(self, record: Mapping[str, Any]) -> str:
        """A record as a line of JSON."""
        return json.dumps(record, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _field(name: str, kind: str) -> dict[str, Any]:
    if kind.endswith("?"):
        return {"name": name, "type": ["null", kind[:-1]], "default": None}
    return {"name": name, "type": kind}
