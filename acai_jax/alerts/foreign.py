"""What is no ZTF alert: a true sentence for each thing that people have tried to score."""

import re
from typing import Any, Final

_NAMESPACES: Final = {
    "lsst": "LSST",
    "elasticc": "LSST, simulated (ELAsTiCC)",
    "winter": "WINTER",
    "wirc": "WIRC",
    "desirt": "DECam",
    "decam": "DECam",
    "rapid": "Roman",
    "roman": "Roman",
    "pgir": "Palomar Gattini-IR",
    "turbo": "TURBO",
}
"""The first word of the name of a packet's schema, where it is a survey's own."""

# What packets of other surveys have in their top level, and a ZTF packet has not.
_MARKS: Final = (
    ("Roman", frozenset({"ssMatches", "cutoutReference", "prvDiaForcedPhotometry"})),
    ("LSST", frozenset({"diaSource", "diaSourceId", "diaObject"})),
    ("WINTER", frozenset({"objectid", "cutout_science", "cutout_template"})),
)
_PORTAL: Final = frozenset({"i:candid", "i:objectId"})
MARKS: Final = _PORTAL.union(*(names for _, names in _MARKS))
"""Names of top-level fields that tell what a record is, whatever they hold."""

# Packets that have ZTF's field names say whose they are in their publisher or objectId.
_SIGNATURES: Final = (
    ("WINTER", ("WINTER", "WNTR", "WIRC")),
    ("DECam", ("DESIRT", "DECAM", "C4D_")),
    ("Palomar Gattini-IR", ("PGIR",)),
    ("TURBO", ("TURBO",)),
)
_OBJECT_NAME: Final = re.compile(rb"ZTF\d\d[a-z]{7}")
_MAX_SCHEMA_ID: Final = 2**20  # registries count from 1


def not_a_packet(record: Any, schema_name: str | None = None) -> str | None:
    """What a record is, if it is no packet of ZTF's; None if nothing speaks against it.

    Args:
        record: the names of its top level, with what they hold.
        schema_name: full name of its Avro schema, such as "ztf.alert".

    Example:
        >>> not_a_packet({"diaSourceId": 7})
        'a packet of LSST; classifiers trained on ZTF stamps do not transfer'
        >>> not_a_packet({}, "desirt.alert")
        'a packet of DECam; classifiers trained on ZTF stamps do not transfer'
    """
    survey = _survey_of_name(schema_name) or _survey_of_record(record)
    if survey:
        return f"a packet of {survey}; classifiers trained on ZTF stamps do not transfer"
    if not _PORTAL.isdisjoint(record):
        return (
            "a row of a flat table of the Fink portal (i:candid, i:jd, ...), which has no stamps; "
            "needed are whole alerts: Avro, or Parquet with candidate and three cutouts"
        )
    return None


def _survey_of_name(schema_name: str | None) -> str | None:
    namespace, _, _ = (schema_name or "").rpartition(".")
    word = re.match("[a-z]*", namespace.lower())
    return _NAMESPACES.get(word[0]) if word else None


def _survey_of_record(record: Any) -> str | None:
    for survey, names in _MARKS:
        if not names.isdisjoint(record):
            return survey
    for value in (record.get("publisher"), record.get("objectId")):
        if isinstance(value, str) and not value.startswith("ZTF"):
            beginning = value[:8].upper()
            for survey, signatures in _SIGNATURES:
                if beginning.startswith(signatures):
                    return survey
    return None


def not_a_container(head: bytes) -> str:
    """What bytes are that are no Avro container, as far as their beginning tells.

    Args:
        head: the first bytes of a file or message, a few hundred of them.

    Example:
        >>> not_a_container(b"version https://git-lfs.github.com/spec/v1")
        'a pointer of Git LFS in place of the file: fetch it with `git lfs pull`'
        >>> not_a_container(b"some text")
        'its magic bytes are missing'
    """
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the file: fetch it with `git lfs pull`"
    if head.startswith(b"/annex/objects/") or b".git/annex/objects/" in head:
        return "a pointer of git-annex in place of the file: fetch it with `git annex get`"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, as servers send for an error"
    if not head.strip(b"\0"):
        return "it begins with zeros only: it was never written, or was lost"
    if _OBJECT_NAME.search(head[:40]):
        return (
            "a bare Avro record without its schema, as Fink's livestream sends; "
            "there the message's key holds the schema"
        )
    number = int.from_bytes(head[1:5], "big")
    if head[0] == 0 and 0 < number < _MAX_SCHEMA_ID and len(head) > 5:
        return (
            f"Confluent framing (schema id {number}): a bare Avro record, "
            "whose schema stands in a registry"
        )
    return "its magic bytes are missing"
