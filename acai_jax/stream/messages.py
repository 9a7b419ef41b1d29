"""Sources -> messages: each alert as ZTF sends it, an Avro container with its schema inside."""

import datetime
import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from acai_jax.alerts import avro
from acai_jax.alerts.framing import FRAME_BYTES
from acai_jax.alerts.packet import reject_of
from acai_jax.alerts.sources import Encoded, Paths, encoded_alerts
from acai_jax.errors import AvroError, PacketError, Reject, reason_of
from acai_jax.surveys import SURVEYS

_WANTED: Final = frozenset(each.record for each in SURVEYS.values())  # all that is looked at
_AVRO_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_INT64: Final = range(-(2**63), 2**63)


class Message(NamedTuple):
    """One alert to send.

    Attributes:
        content: an Avro container of one record, or one in Confluent's framing.
        origin: file (and member) that it came from.
        jd: when the alert was observed [day], where the packet says it.
    """

    content: bytes
    origin: str
    jd: float | None


def alert_messages(paths: Paths) -> Iterator[tuple[Message | Reject, int]]:
    """Reads alerts as messages, in order, one at a time.

    A container of one alert, or a message in Confluent's framing, comes as it is. A container of
    several is cut up; each record keeps its bytes and its schema. Alerts of Parquet and JSON files
    have no Avro schema: one is made of what they hold, with 64-bit numbers.

    Args:
        paths: as for `read_alerts`.

    Yields:
        (message, or a `Reject` for what is no readable Avro; bytes of the source just read).

    Raises:
        SourceError: a path does not exist, or the only file is of no known kind.

    Example:
        >>> list(alert_messages("no_such_night.tar.gz"))
        Traceback (most recent call last):
        acai_jax.errors.SourceError: no such file or directory: no_such_night.tar.gz
    """
    for encoded in encoded_alerts(paths, histories=True):
        size = encoded.source_bytes
        for message in _messages(encoded):
            yield message, size
            size = 0


def _messages(encoded: Encoded) -> Iterator[Message | Reject]:
    content, origin = encoded.content, encoded.origin
    if isinstance(content, Reject):
        yield content
    elif encoded.schema is not None:
        yield _framed(cast(bytes, content), encoded.schema, origin)
    elif isinstance(content, list):
        for record in content:
            yield record if isinstance(record, Reject) else _message(record, origin)
    else:
        try:
            yield from _cut(encoded.container(), origin)
        except Exception as error:
            yield Reject(reason_of(error), origin=origin)


def _message(record: Mapping[str, Any], origin: str) -> Message | Reject:
    try:
        return Message(avro_message(record), origin, _jd(record))
    except Exception as error:
        return reject_of(error, record, origin)


def _framed(raw: bytes, schema: bytes, origin: str) -> Message | Reject:
    try:
        return Message(raw, origin, _jd(avro.read_datum(schema, raw[FRAME_BYTES:], _WANTED)))
    except Exception as error:
        return Reject(reason_of(error), origin=origin)


def _cut(raw: bytes, origin: str) -> Iterator[Message | Reject]:
    records = avro.one_record_containers(raw, _WANTED)
    first = list(itertools.islice(records, 2))
    if not first:
        yield Reject("not one alert: the container holds no record", origin=origin)
    elif len(first) == 1 and not isinstance(first[0], AvroError):
        yield Message(raw, origin, _jd(first[0][1]))
    else:
        for item in itertools.chain(first, records):
            if isinstance(item, AvroError):
                yield Reject(str(item), origin=origin)
            else:
                yield Message(item[0], origin, _jd(item[1]))


def _jd(record: Mapping[str, Any]) -> float | None:
    survey = next((each for each in SURVEYS.values() if each.record in record), None)
    try:
        arranged = survey.arrange(record) if survey and survey.arrange else record
        time = arranged[survey.record].get(survey.time) if survey else None
    except Exception:  # whoever reads the alert will say what is wrong with it
        return None
    return float(time) if isinstance(time, int | float) and math.isfinite(time) else None


def avro_message(record: Mapping[str, Any]) -> bytes:
    """An Avro container of one record, with a schema made of the values that it holds.

    Raises:
        PacketError: a name or a value has no place in Avro; the message says which.

    Example:
        >>> from acai_jax import read_packet
        >>> candidate = {"jd": 2460500.5, "ra": 10.0, "dec": 5.0, "fid": 1, "programid": 1}
        >>> record = {"objectId": "ZTF20aaelulu", "candid": 7, "candidate": candidate}
        >>> read_packet(avro_message(record)).candidate["jd"]
        2460500.5
    """
    import fastavro

    plain = _plain(record, "alert")
    schema: Any = _record_schema("alert", [plain])
    buffer = io.BytesIO()
    try:
        fastavro.writer(buffer, fastavro.parse_schema(schema), [plain])
    except Exception as error:
        reason = reason_of(error).removeprefix("internal error: ")
        raise PacketError(f"cannot be written as Avro: {reason}") from None
    return buffer.getvalue()


def _plain(value: Any, name: str) -> Any:
    """The value in types that Avro has; a time in microseconds since 1970."""
    if isinstance(value, Mapping):
        for key in value:
            if not _AVRO_NAME.fullmatch(key):
                raise PacketError(f"cannot be written as Avro: {key!r:.40} is no name of a field")
        return {key: _plain(inner, f"{name}_{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, name) for inner in value]
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        return (value - _EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, int) and value not in _INT64:
        raise PacketError(f"cannot be written as Avro: {name} is no 64-bit integer")
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise PacketError(f"cannot be written as Avro: {name} is of type {type(value).__name__}")


def _record_schema(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of records, each of which may lack what others have."""
    keys = dict.fromkeys(itertools.chain.from_iterable(records))
    fields = []
    for key in keys:
        values = [record.get(key) for record in records]
        branches = _branches(f"{name}_{key}", values)
        kind = branches[0] if len(branches) == 1 else branches
        # a default of null lets a record lack the field; its branch stands first
        extra = {"default": None} if branches[0] == "null" else {}
        fields.append({"name": key, "type": kind, **extra})
    return {"type": "record", "name": name, "fields": fields}


def _branches(path: str, values: Sequence[Any]) -> list[Any]:
    """Types of the values, `null` first."""
    present = {type(value) for value in values}
    branches: list[Any] = [name for name, python_type in _TYPES if python_type in present]
    if records := [value for value in values if isinstance(value, Mapping)]:
        branches.append(_record_schema(path, records))
    if arrays := [value for value in values if isinstance(value, list)]:
        items = _branches(path, list(itertools.chain.from_iterable(arrays))) or ["null"]
        branches.append({"type": "array", "items": items[0] if len(items) == 1 else items})
    return branches


_TYPES: Final = (
    ("null", type(None)),
    ("boolean", bool),
    ("long", int),
    ("double", float),
    ("string", str),
    ("bytes", bytes),
)
