"""One alert packet, validated: whatever the file format, the same frozen `AlertPacket`."""

import binascii
import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from acai_jax.alerts import avro, foreign
from acai_jax.errors import AvroError, PacketError, Reject, reason_of
from acai_jax.surveys import DEFAULT, SURVEYS
from acai_jax.surveys.base import Survey
from acai_jax.text import printable

Value = float | int | str | bool | bytes | None
Rows = tuple[Mapping[str, Value], ...]

_INT64: Final = range(-(2**63), 2**63)

_HISTORIES: Final = frozenset(name for each in SURVEYS.values() for name in each.histories)
_USED: Final = frozenset(
    name.partition(".")[0] for each in SURVEYS.values() for name in each.arranged_from
)
_WANTED: Final = foreign.TELLING.union(
    {"schemavsn", "publisher"}, *(each.top_fields for each in SURVEYS.values())
)
_MAX_TEXT: Final = 64  # names of objects have 12 characters, those of minor planets up to 25
_MAX_STAMP_TEXT: Final = 2 * 2**20
_FORMULA: Final = ("=", "+", "-", "@")  # what spreadsheets compute
_GZIP_OR_FITS: Final = (b"\x1f\x8b", b"SIMPLE", b"XTENSION", b"BITPIX")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AlertPacket:
    """One alert, as it was sent.

    Attributes:
        object_id: name of the object, such as "ZTF20aaelulu".
        alert_id: identifier of this alert; an exact 64-bit integer.
        fields: its scalar fields, units as in the survey's schema (for ZTF, those of `candidate`:
            magpsf [mag], ra, dec [deg], jd [day], fwhm [pixel], sky [DN], ...).
        cutouts: FITS bytes, gzipped or plain, of the science, template and difference stamps, or
            None.
        schemavsn: version of the packet's schema, where the packet says it.
        histories: records of earlier photometry, by the survey's names (for ZTF `prv_candidates`
            and `fp_hists`); without those that were not asked for, or are not there.
        origin: file (and member) that the packet came from.
        survey: that sent it.

    Example:
        >>> packet = AlertPacket("ZTF20aaelulu", 7, {"magpsf": 18.5}, (None, None, None))
        >>> packet.survey.title, packet.alert_id, packet.fields["magpsf"]
        ('ZTF', 7, 18.5)
    """

    object_id: str
    alert_id: int
    fields: Mapping[str, Value]
    cutouts: tuple[bytes | None, bytes | None, bytes | None]
    schemavsn: str | None = None
    histories: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    origin: str | None = None
    survey: Survey = DEFAULT

    @property
    def candid(self) -> int:
        """`alert_id`, as ZTF calls it."""
        return self.alert_id

    @property
    def objectId(self) -> str:  # noqa: N802 - ZTF's own name
        """`object_id`, as ZTF calls it."""
        return self.object_id

    @property
    def candidate(self) -> Mapping[str, Value]:
        """`fields`, as ZTF calls them."""
        return self.fields


def read_packet(raw: bytes, *, histories: bool = False) -> AlertPacket:
    """Reads one alert from the bytes of one message: an Avro container with its schema inside.

    Args:
        raw: what a Kafka message, or a file of ZTF's public archive, holds.
        histories: also read earlier photometry (slower).

    Raises:
        PacketError: the bytes are not one sound alert; the message says why.

    Example:
        >>> read_packet(b"not an alert")
        Traceback (most recent call last):
        acai_jax.errors.AvroError: not an Avro container: its magic bytes are missing
    """
    # two are enough to know: a hostile message holds millions
    found: list[tuple[dict[str, Any], str | None]] = []
    for item in itertools.islice(container_records(raw, histories=histories), 2):
        if isinstance(item, AvroError):
            raise item
        found.append(item)
    if len(found) != 1:
        number = "more than one record" if found else "no record"
        raise PacketError(f"not one alert: the container holds {number}")
    ((record, name),) = found
    return packet_from_record(record, schema_name=name)


def container_records(
    raw: bytes, *, histories: bool = False
) -> Iterator[tuple[dict[str, Any], str | None] | AvroError]:
    """The records of an Avro container, and an error for what cannot be read of it.

    Yields:
        (record, full name of its schema, which tells whose packet it is), or an `AvroError`.
    """
    if not raw.startswith(avro.MAGIC):
        yield AvroError(f"not an Avro container: {foreign.not_a_container(raw[:512])}")
        return
    try:
        header = avro.read_header(raw)
    except AvroError as error:
        yield error
        return
    name = avro.record_name(header.schema)
    for item in avro.read_container(raw, wanted_fields(histories), header=header):
        yield item if isinstance(item, AvroError) else (item, name)


def wanted_fields(histories: bool) -> frozenset[str]:
    """The top-level fields that a packet needs, or that tell other surveys' packets apart."""
    return _WANTED | _HISTORIES if histories else _WANTED


def skipped_fields(histories: bool) -> frozenset[str]:
    """The top-level fields that a reader may step over."""
    return frozenset() if histories else _HISTORIES - _USED


def packet_from_record(
    record: Mapping[str, Any], origin: str | None = None, schema_name: str | None = None
) -> AlertPacket:
    """Validates a decoded record (from Avro, JSON or Parquet).

    Args:
        record: the packet's top level; the alert's identifier may stand among its fields alone, and
            a cutout may be null, a record with `stampData`, or bare; its bytes may be base64 text.
        origin: file that it came from, for messages.
        schema_name: full name of its Avro schema, where it has one.

    Raises:
        PacketError: a field is missing, of a wrong type or implausible, or the alert is of
            another survey.

    Example:
        >>> packet_from_record({"objectId": "ZTF20aaelulu", "candid": 1.1e18})
        Traceback (most recent call last):
        acai_jax.errors.PacketError: missing field: candidate
    """
    survey = foreign.survey_of(record, schema_name)
    if survey.arrange is not None:
        record = survey.arrange(record)
    return arranged_packet(record, survey, origin)


def arranged_packet(
    record: Mapping[str, Any], survey: Survey, origin: str | None = None
) -> AlertPacket:
    """As `packet_from_record`, of a record that is arranged as `Survey.arrange` does it."""
    fields = record.get(survey.record)
    if not isinstance(fields, Mapping):
        flat = survey.time in record and "ra" in record
        why = " (a flat table holds no packets)" if flat else ""
        raise PacketError(f"missing field: {survey.record}{why}")
    object_id = record.get(survey.object_id)
    if object_id is None:
        raise PacketError(f"missing field: {survey.object_id}")
    if not object_id or not _is_text(object_id):
        raise PacketError(f"wrong type: {survey.object_id} is {_shown(object_id)}, not {_TEXT}")
    name = survey.alert_id
    alert_id = _int64(record.get(name), name)
    if alert_id is None and (alert_id := _int64(fields.get(name), name)) is None:
        raise PacketError(f"missing field: {name}")
    _check_types(fields, survey)
    science, template, difference = survey.cutouts
    schemavsn = record.get("schemavsn")
    return AlertPacket(
        object_id,
        alert_id,
        fields,
        cutouts=(
            _stamp_data(record, science),
            _stamp_data(record, template),
            _stamp_data(record, difference),
        ),
        schemavsn=schemavsn if isinstance(schemavsn, str) else None,
        histories={
            name: _history(rows, name)
            for name in survey.histories
            if (rows := record.get(name)) is not None
        },
        origin=origin,
        survey=survey,
    )


def packet_or_reject(
    record: Mapping[str, Any], origin: str | None = None, schema_name: str | None = None
) -> AlertPacket | Reject:
    """As `packet_from_record`, with a `Reject` in place of whatever is raised."""
    try:
        return packet_from_record(record, origin, schema_name)
    except Exception as error:
        return reject_of(error, record, origin)


def reject_of(error: Exception, record: object, origin: str | None = None) -> Reject:
    """The reject for a record that caused an error, with its identifiers where known.

    Example:
        >>> reject_of(PacketError("null stamp"), {"candid": "7", "objectId": "ZTF20aaelulu"})
        Reject(reason='null stamp', alert_id=7, object_id='ZTF20aaelulu', origin=None)
    """
    alert_id = object_id = None
    try:
        if isinstance(record, Mapping):
            alert_id, object_id = _identity(record)
    except Exception:  # the record itself is what raises
        pass
    return Reject(reason_of(error), alert_id, object_id, origin)


def _identity(record: Mapping[str, Any]) -> tuple[int | None, str | None]:
    values: list[Any] = []
    names: list[Any] = []
    for survey in SURVEYS.values():
        inner = record.get(survey.record)
        inner = inner if isinstance(inner, Mapping) else {}
        if survey.arrange is not None and inner:
            # where a number has a wrong type, the identifiers may still be sound
            sure = (survey.alert_id, *survey.integer_fields)
            others = dict.fromkeys(name.partition(".")[0] for name in survey.arranged_from)
            bare = {**record, **others, survey.record: {name: inner.get(name) for name in sure}}
            for known in (bare, record):
                with contextlib.suppress(Exception):
                    record = survey.arrange(known)
            inner = record[survey.record]
        for found, name in ((values, survey.alert_id), (names, survey.object_id)):
            found += [record.get(name), inner.get(name), record.get(f"i:{name}")]
    alert_id = next((each for each in map(_known, values) if each is not None), None)
    return alert_id, next((name for name in names if name and _is_text(name)), None)


def _known(value: object) -> int | None:
    try:
        return _int64(value, "")
    except PacketError:
        return None


def _is_int64(value: float) -> bool:
    return value.is_integer() and int(value) in _INT64


_TEXT: Final = f"text of up to {_MAX_TEXT} printable characters that starts no formula"


def _is_text(value: object) -> bool:
    """Whether it is short and harmless in a terminal, a page, a table and a spreadsheet."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        return False
    return not value.startswith(_FORMULA) or _is_number(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _shown(value: object) -> str:
    """A value in a message, however large it is."""
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if value in _INT64 else f"of {value.bit_length()} bits"
    if isinstance(value, str):
        return f"'{printable(value, 40)}'"
    return f"a {type(value).__name__}"


def _int64(value: object, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    # a float has lost the last digits: two alerts of one exposure would become one
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
        raise PacketError(f"wrong type: {name} is {_shown(value)}, not a 64-bit integer")
    return value


def _check_types(fields: Mapping[str, Any], survey: Survey) -> None:
    """Raises unless every field that a score table carries has the type of its column."""
    integers = survey.integer_fields
    for name in survey.number_fields:
        value = fields.get(name)
        if type(value) is float:
            # a columnar file stores a nullable integer as a float, its null as NaN
            if name in integers and not (math.isnan(value) or _is_int64(value)):
                raise PacketError(f"wrong type: {_path(name, survey)} is {value!r}, not an integer")
        elif value is not None and (type(value) is not int or value not in _INT64):
            raise PacketError(f"wrong type: {_path(name, survey)} is {_shown(value)}, not a number")
    for name in survey.text_fields:
        value = fields.get(name)
        if not (value is None or isinstance(value, int) or _is_text(value)):
            raise PacketError(f"wrong type: {_path(name, survey)} is {_shown(value)}, not {_TEXT}")
    for name in survey.required_fields:
        value = fields.get(name)
        if value is None or (type(value) is float and not math.isfinite(value)):
            raise PacketError(f"missing field: {_path(name, survey)} is {value!r}")
    for name, (low, high) in survey.plausible.items():
        if not low <= fields[name] <= high:
            value = fields[name]
            raise PacketError(
                f"implausible value: {_path(name, survey)} is {value!r}, not in {low} to {high}"
            )


def _path(name: str, survey: Survey) -> str:
    return f"{survey.record}.{name}"


def _stamp_data(record: Mapping[str, Any], name: str) -> bytes | None:
    cutout = record.get(name)
    data = cutout.get("stampData") if isinstance(cutout, Mapping) else cutout
    if data is None or isinstance(data, bytes):
        return data
    if isinstance(data, str) and len(data) <= _MAX_STAMP_TEXT:
        try:
            decoded = binascii.a2b_base64(data)
        except ValueError:
            decoded = b""
        if decoded.startswith(_GZIP_OR_FITS):
            return decoded
    raise PacketError(f"wrong type: {name} is {type(data).__name__}, not bytes")


def _history(rows: object, name: str) -> Rows:
    # there may be a thousand, but of one type
    if isinstance(rows, list | tuple) and all(issubclass(t, Mapping) for t in {*map(type, rows)}):
        return tuple(rows)
    raise PacketError(f"wrong type: {name} is not an array of records")
