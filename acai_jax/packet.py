"""One alert packet, validated: whatever the file format, the same frozen `AlertPacket`."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

from acai_jax import avro
from acai_jax.errors import PacketError, Reject
from acai_jax.schema import (
    CUTOUTS,
    HISTORIES,
    INTEGER_FIELDS,
    REQUIRED_FIELDS,
    TABLE_FIELDS,
    TEXT_FIELDS,
)

Value = float | int | str | bool | bytes | None

_INT64: Final = range(-(2**63), 2**63)
_NUMBER_FIELDS: Final = tuple(name for name in TABLE_FIELDS if name not in TEXT_FIELDS)

# What packets of other surveys have in their top level, and a ZTF packet has not.
_OTHER_SURVEYS: Final = {
    "LSST": {"diaSource", "diaSourceId", "diaObject"},
    "WINTER": {"objectid", "cutout_science", "cutout_template"},
}
_WANTED: Final = frozenset(
    {"objectId", "candid", "candidate", "schemavsn", "publisher", *CUTOUTS}
).union(*_OTHER_SURVEYS.values())


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AlertPacket:
    """One ZTF alert, as it was sent.

    Attributes:
        objectId: name of the object, such as "ZTF20aaelulu".
        candid: identifier of this alert; an exact 64-bit integer.
        candidate: scalar fields of the packet's `candidate` record, units as in the ZTF schema
            (magpsf [mag], ra, dec [deg], jd [day], fwhm [pixel], sky [DN], ...).
        cutouts: gzipped FITS bytes of the science, template and difference stamps, or None.
        schemavsn: version of the packet's schema, where the packet says it.
        prv_candidates: earlier detections and limits; None unless histories were asked for.
        fp_hists: forced photometry; None unless histories were asked for.
        origin: file (and member) that the packet came from.

    Source: https://github.com/ZwickyTransientFacility/ztf-avro-alert, schemas 3.0 to 4.02.
    """

    objectId: str  # noqa: N815 - the packet's own field name
    candid: int
    candidate: Mapping[str, Value]
    cutouts: tuple[bytes | None, bytes | None, bytes | None]
    schemavsn: str | None = None
    prv_candidates: tuple[Mapping[str, Value], ...] | None = None
    fp_hists: tuple[Mapping[str, Value], ...] | None = None
    origin: str | None = None


def read_packet(raw: bytes, *, histories: bool = False) -> AlertPacket:
    """Reads one alert from the bytes of one message: an Avro container with its schema inside.

    Args:
        raw: what a ZTF Kafka message, or a file of the public archive, holds.
        histories: also read `prv_candidates` and `fp_hists` (slower).

    Raises:
        PacketError: the bytes are not one sound ZTF alert; the message says why.

    Example:
        >>> read_packet(b"not an alert")
        Traceback (most recent call last):
        acai_jax.errors.AvroError: not an Avro container: its magic bytes are missing
    """
    refuse_confluent_framing(raw)
    # two are enough to know: a hostile message holds millions
    records = list(itertools.islice(avro.read_container(raw, wanted_fields(histories)), 2))
    for record in records:
        if isinstance(record, PacketError):
            raise record
    if len(records) != 1:
        number = "more than one record" if records else "no record"
        raise PacketError(f"not one alert: the container holds {number}")
    (record,) = records
    assert isinstance(record, dict)
    return packet_from_record(record)


def wanted_fields(histories: bool) -> frozenset[str]:
    """The top-level fields that a packet needs, or that tell other surveys' packets apart."""
    return _WANTED | frozenset(HISTORIES) if histories else _WANTED


def skipped_fields(histories: bool) -> frozenset[str]:
    """The top-level fields that a reader may step over."""
    return frozenset() if histories else frozenset(HISTORIES)


def refuse_confluent_framing(raw: bytes) -> None:
    """Raises a `PacketError` for a message in the framing that LSST uses."""
    if raw[:1] == b"\x00" and len(raw) > 5:
        number = int.from_bytes(raw[1:5], "big")
        raise PacketError(
            f"not a ZTF alert: Confluent framing (schema id {number}), as LSST sends; "
            "classifiers trained on ZTF stamps do not transfer"
        )


def packet_from_record(record: Mapping[str, Any], origin: str | None = None) -> AlertPacket:
    """Validates a decoded record (from Avro, JSON or Parquet).

    Args:
        record: the packet's top level; `candid` may stand in `candidate` alone, and a cutout may
            be null, a record with `stampData`, or bare bytes.
        origin: file that it came from, for messages.

    Raises:
        PacketError: a field is missing or of a wrong type, or the alert is of another survey.

    Example:
        >>> packet_from_record({"objectId": "ZTF20aaelulu", "candid": 1.1e18})
        Traceback (most recent call last):
        acai_jax.errors.PacketError: missing field: candidate
    """
    if survey := _other_survey(record):
        raise PacketError(
            f"not a ZTF alert: a packet of {survey}; "
            "classifiers trained on ZTF stamps do not transfer"
        )
    candidate = record.get("candidate")
    if not isinstance(candidate, Mapping):
        raise PacketError("missing field: candidate")
    object_id = record.get("objectId")
    if object_id is None:
        raise PacketError("missing field: objectId")
    if not _is_text(object_id):
        raise PacketError(f"wrong type: objectId is {object_id!r:.40}, not text")
    candid = _candid(record.get("candid"))
    if candid is None and (candid := _candid(candidate.get("candid"))) is None:
        raise PacketError("missing field: candid")
    _check_types(candidate)
    schemavsn = record.get("schemavsn")
    return AlertPacket(
        objectId=object_id,
        candid=candid,
        candidate=candidate,
        cutouts=(
            _stamp_data(record, CUTOUTS[0]),
            _stamp_data(record, CUTOUTS[1]),
            _stamp_data(record, CUTOUTS[2]),
        ),
        schemavsn=schemavsn if isinstance(schemavsn, str) else None,
        prv_candidates=_history(record, "prv_candidates"),
        fp_hists=_history(record, "fp_hists"),
        origin=origin,
    )


def packet_or_reject(record: Mapping[str, Any], origin: str | None = None) -> AlertPacket | Reject:
    """As `packet_from_record`, with a `Reject` in place of the error."""
    try:
        return packet_from_record(record, origin)
    except PacketError as error:
        candid, object_id = None, record.get("objectId")
        candidate = record.get("candidate")
        for value in (
            record.get("candid"),
            candidate.get("candid") if isinstance(candidate, Mapping) else None,
        ):
            try:
                candid = _candid(value) if candid is None else candid
            except PacketError:
                continue
        return Reject(str(error), candid, object_id if _is_text(object_id) else None, origin)


def _other_survey(record: Mapping[str, Any]) -> str | None:
    for survey, marks in _OTHER_SURVEYS.items():
        if not marks.isdisjoint(record):
            return survey
    # WINTER's first packets had ZTF's field names
    for value in (record.get("publisher"), record.get("objectId")):
        if isinstance(value, str) and value.upper().startswith(("WINTER", "WNTR", "WIRC")):
            return "WINTER"
    return None


def _is_int64(value: float) -> bool:
    return value.is_integer() and int(value) in _INT64


def _is_text(value: object) -> bool:
    # JSON can hold half a surrogate pair, which no table can
    return isinstance(value, str) and (value.isascii() or value.isprintable())


def _candid(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    # a float has lost the last digits: two alerts of one exposure would become one
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
        raise PacketError(f"wrong type: candid is {value!r:.40}, not a 64-bit integer")
    return value


def _check_types(candidate: Mapping[str, Any]) -> None:
    """Raises unless every field that a score table carries has the type of its column."""
    for name in _NUMBER_FIELDS:
        value = candidate.get(name)
        if type(value) is float:
            # a columnar file stores a nullable integer as a float, its null as NaN
            if name in INTEGER_FIELDS and not (math.isnan(value) or _is_int64(value)):
                raise PacketError(f"wrong type: candidate.{name} is {value!r}, not an integer")
        elif value is not None and (type(value) is not int or value not in _INT64):
            raise PacketError(f"wrong type: candidate.{name} is {value!r:.40}, not a number")
    for name in TEXT_FIELDS:
        value = candidate.get(name)
        if not (value is None or isinstance(value, int) or _is_text(value)):
            raise PacketError(f"wrong type: candidate.{name} is {value!r:.40}, not text")
    for name in REQUIRED_FIELDS:
        value = candidate.get(name)
        if value is None or not math.isfinite(value):
            raise PacketError(f"missing field: candidate.{name} is {value!r}")


def _stamp_data(record: Mapping[str, Any], name: str) -> bytes | None:
    cutout = record.get(name)
    data = cutout.get("stampData") if isinstance(cutout, Mapping) else cutout
    if data is not None and not isinstance(data, bytes):
        raise PacketError(f"wrong type: {name} is {type(data).__name__}, not bytes")
    return data


def _history(record: Mapping[str, Any], name: str) -> tuple[Mapping[str, Value], ...] | None:
    rows = record.get(name)
    if rows is None:
        return None
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise PacketError(f"wrong type: {name} is not an array of records")
    return tuple(rows)
