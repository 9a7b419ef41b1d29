"""What is no alert that is read here: a true sentence for each thing that people have tried."""

import re
from collections.abc import Mapping
from typing import Any, Final

from acai_jax.alerts.framing import schema_number
from acai_jax.errors import PacketError
from acai_jax.surveys import MARKS, SURVEYS, recognise, survey_of_table
from acai_jax.surveys.base import Other, Survey

*_FIRST, _LAST = (survey.title for survey in SURVEYS.values())
_TITLES: Final = f"{', '.join(_FIRST)} or {_LAST}"
NOT_AN_ALERT: Final = f"not a {_TITLES} alert"
_PORTAL: Final = frozenset(
    f"i:{name}" for survey in SURVEYS.values() for name in (survey.alert_id, survey.object_id)
)
TELLING: Final = MARKS.union(_PORTAL)
"""Names of top-level fields that tell what a record is, whatever they hold."""

# where a packet is arranged, the name may stand nowhere in its bytes
_OBJECT_NAME: Final = re.compile(
    "|".join(each.object_name for each in SURVEYS.values() if each.arrange is None).encode()
)
MAX_SCHEMA_ID: Final = 2**20
"""That bytes of unknown kind are taken for: registries count from 1."""


def survey_of(record: Mapping[str, Any], schema_name: str | None = None) -> Survey:
    """The survey whose packet a record is, if nothing speaks against it.

    Args:
        record: the names of its top level, with what they hold.
        schema_name: full name of its Avro schema, such as "ztf.alert".

    Raises:
        PacketError: it is a packet of a survey that is not read here, or none.

    Example:
        >>> survey_of({}).title
        'ZTF'
        >>> survey_of({}, "desirt.alert")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        acai_jax.errors.PacketError: not a ZTF, LSST or WINTER alert: a packet of DECam; ...
    """
    found = recognise(schema_name, record)
    if isinstance(found, Other):
        raise PacketError(
            f"{NOT_AN_ALERT}: a packet of {found.title}; "
            "classifiers trained on other stamps do not transfer"
        )
    if not _PORTAL.isdisjoint(record):
        survey = survey_of_table(name.removeprefix("i:") for name in record if name in _PORTAL)
        raise PacketError(
            f"{NOT_AN_ALERT}: a row of a flat table of the Fink portal "
            f"(i:{survey.alert_id}, i:{survey.time}, ...), which has no stamps; needed are whole "
            f"alerts: Avro, or Parquet with {survey.record} and three cutouts"
        )
    return found


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
    if number := schema_number(head, MAX_SCHEMA_ID):
        return (
            f"Confluent framing (schema id {number}): a bare Avro record, "
            "whose schema stands in a registry"
        )
    return "its magic bytes are missing"
