"""JSON documents out of a stream of any length: arrays, lines, or one after the other.

Answers of archives hold their alerts under a key, `{"status": "success", "data": [...]}`: what is
around the list is stepped over, and each alert in it is a document.
"""

import codecs
import io
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from acai_jax.alerts.packet import reject_of
from acai_jax.errors import PacketError, Reject, reason_of
from acai_jax.surveys import SURVEYS

_PIECE_BYTES: Final = 2**20
_LOOKAHEAD: Final = 2**16  # what stands between documents is not looked for beyond it
_MAX_DOCUMENT_BYTES: Final = 16 * 2**20
_MAX_DOCUMENT_DEPTH: Final = 32
_MAX_VALUES: Final = 250_000  # of a document; ten times what long histories take
_MAX_REFUSED_DOCUMENTS: Final = 1_000
_BYTES_OF_VALUE: Final = 64  # in memory, about
_NEXT_LINE: Final = re.compile(r"\n[ \t\r,\[]*\{")
_NEXT_BRACE: Final = re.compile(r"\}[\s,]*\{")

_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN: Final = rf"(?:{_STRING}|[-+.\w]++|\{{[^{{}}\[\]]*+\}}|\[[^{{}}\[\]]*+\])"
_OF_ALERTS: Final = "|".join(
    name for each in SURVEYS.values() for name in (each.object_id, each.alert_id, each.record)
)
_HISTORIES: Final = "|".join(name for each in SURVEYS.values() for name in each.histories)
_OF_PACKETS: Final = rf'"(?:{_OF_ALERTS}|{_HISTORIES}|dia\w+|prvDia\w+|cutout\w+)"'
_OF_ANSWERS: Final = rf"(?!{_OF_PACKETS}){_STRING}\s*+:\s*+"
_BETWEEN_DOCUMENTS: Final = re.compile(r"[\s,\[\]]*+")
_BETWEEN_WRAPPED: Final = re.compile(rf"(?:[\s,\[\]}}]|{_STRING}\s*+:\s*+{_PLAIN}?+)*+")
_WRAPPER: Final = re.compile(
    rf"\{{\s*+(?:{_OF_ANSWERS}(?:{_PLAIN}\s*+,\s*+|\{{\s*+)){{0,50}}+{_OF_ANSWERS}\[\s*+"
    rf'(?=\{{[^\[\]]{{0,4000}}?"(?:i:)?(?:{_OF_ALERTS})"\s*+:)'
)
"""The beginning of an object that is no packet, up to the first packet in a list of them."""


def json_documents(stream: io.BufferedIOBase) -> Iterator[tuple[Mapping[str, Any] | Reject, int]]:
    """The documents of a JSON array, of JSON lines, or of documents one after the other.

    A damaged document costs itself and, where lines can tell documents apart, nothing else.

    Args:
        stream: UTF-8 text, read a piece at a time.

    Yields:
        (document, or the reject for one; about how many bytes it takes in memory).

    Example:
        >>> list(json_documents(io.BytesIO(b'{"candid": {"$numberLong": "7"}} {}')))
        [({'candid': 7}, 96), ({}, 2)]
    """
    text = _Text(stream)
    decoder = json.JSONDecoder(object_hook=_from_extended)
    between = _BETWEEN_DOCUMENTS
    buffer, at, more = "", 0, True
    grown = False  # for a document that is larger than a piece
    refused = 0  # in a row
    while refused < _MAX_REFUSED_DOCUMENTS:
        if len(buffer) - at > 2 * _PIECE_BYTES and not grown:
            text.put_back(buffer[at + _PIECE_BYTES :])
            buffer, at, more = buffer[at : at + _PIECE_BYTES], 0, True
        if more and len(buffer) - at < _LOOKAHEAD:
            chunk = text.read(_PIECE_BYTES)
            buffer, at, more = buffer[at:] + chunk, 0, bool(chunk)
        at = cast(re.Match[str], between.match(buffer, at)).end()
        if wrapper := _WRAPPER.match(buffer, at):
            at, between = wrapper.end(), _BETWEEN_WRAPPED
        end = _end_of_budget(buffer, at) if grown else len(buffer)
        try:
            whole = buffer if end == len(buffer) else buffer[:end]
            document, after = decoder.raw_decode(whole, at)
        except Exception as error:
            size = len(buffer) - at
            incomplete = _is_incomplete(error)
            if incomplete and more and end == len(buffer) and size < _MAX_DOCUMENT_BYTES:
                chunk = text.read(max(_PIECE_BYTES, size))
                buffer, at, more = buffer[at:] + chunk, 0, bool(chunk)
                grown = True
                continue
            grown = False
            if not size:
                return
            too_large = incomplete and (more or end < len(buffer))
            yield Reject(_problem(error, too_large)), 0
            refused += 1
            # a damaged line costs that line only; in one long line, look for the next brace
            cut = too_large or (not more and incomplete)
            while not (
                found := _NEXT_LINE.search(buffer, at)
                or (not cut and _NEXT_BRACE.search(buffer, at))
            ):
                chunk = text.read(_PIECE_BYTES)
                if not chunk:
                    return
                buffer, at = buffer[at:][-80:] + chunk, 0
            at = found.end() - 1
            continue
        size, at, grown = after - at, after, False
        try:
            if not isinstance(document, Mapping):
                raise PacketError("damaged JSON: a document that is not a packet")
            weight = size + _BYTES_OF_VALUE * _count_values(document)
        except Exception as error:
            yield reject_of(error, document), 0
            refused += 1
        else:
            yield document, weight
            refused = 0
    yield Reject(f"damaged JSON: {refused} documents in a row; the rest of the file is not read"), 0


class _Text:
    """Decoded text; what was read too early can be put back."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        # unlike a TextIOWrapper, this leaves the file open when it is dropped
        self._reader = codecs.getreader("utf-8")(stream, "replace")
        self._held = ""

    def read(self, size: int) -> str:
        if not self._held:
            return self._reader.read(size)
        part, self._held = self._held[:size], self._held[size:]
        return part

    def put_back(self, text: str) -> None:
        self._held = text + self._held


def _problem(error: Exception, too_large: bool) -> str:
    if too_large:
        return (
            f"too large: a JSON document of more than {_MAX_DOCUMENT_BYTES // 2**20} MiB "
            f"or {_MAX_VALUES} values; reading goes on at the next line"
        )
    if isinstance(error, json.JSONDecodeError):
        return f"damaged JSON: {error.msg}"
    return f"unreadable JSON: {reason_of(error).removeprefix('internal error: ')}"


def _end_of_budget(buffer: str, at: int) -> int:
    """Where a document that starts at `at` must end, not to hold more values than it may.

    The decoder builds all of them before they can be counted.
    """
    values = 0
    for start in range(at, len(buffer), _LOOKAHEAD):
        values += sum(buffer.count(mark, start, start + _LOOKAHEAD) for mark in ",[{")
        if values > _MAX_VALUES:
            return min(start + _LOOKAHEAD, len(buffer))
    return len(buffer)


def _is_incomplete(error: Exception) -> bool:
    """Whether more text may mend it: the decoder stopped at the end of what it was given."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or error.pos > len(error.doc) - 16
    )


def _count_values(document: Mapping[str, Any]) -> int:
    """How many values it holds, on all levels.

    Raises:
        PacketError: they are too many, or nested so deeply that pickling them could fail.
    """
    level: list[Any] = [document]
    count = 0
    for _ in range(_MAX_DOCUMENT_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        count += len(level)
        if not level:
            break
    if level:
        raise PacketError("damaged JSON: a document that is nested too deeply")
    if count > _MAX_VALUES:
        raise PacketError(f"too large: a JSON document of {count} values")
    return count


def _from_extended(value: dict[str, Any]) -> Any:
    """MongoDB extended JSON, both versions: `{"$numberLong": "1"}` -> 1, `$binary` -> bytes."""
    if len(value) > 2 or not any(key.startswith("$") for key in value):
        return value
    try:
        match value:
            case {"$binary": {"base64": str(text)}} | {"$binary": str(text)}:
                return b64decode(text)
            case {"$numberLong": str(text)} | {"$numberInt": str(text)}:
                return int(text[:40])
            case {"$numberDouble": str(text)}:
                return float(text)
            case {"$oid": plain} | {"$date": plain}:
                return plain
    except ValueError:
        pass  # left as it is, it has the wrong type for the packet's reader, which says so
    return value
