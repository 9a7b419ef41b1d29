"""JSON documents out of a stream of any length: arrays, lines, or one after the other."""

import codecs
import io
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from acai_jax.errors import Reject

_PIECE_BYTES: Final = 2**20
_MAX_DOCUMENT_BYTES: Final = 16 * 2**20
_MAX_DOCUMENT_DEPTH: Final = 32
_MAX_REFUSED_DOCUMENTS: Final = 1_000
_BETWEEN_DOCUMENTS: Final = re.compile(r"[\s,\[\]]*")
_NEXT_LINE: Final = re.compile(r"\n[ \t\r,\[]*\{")
_NEXT_BRACE: Final = re.compile(r"\}[\s,]*\{")


def json_documents(stream: io.BufferedIOBase) -> Iterator[Mapping[str, Any] | Reject]:
    """The documents of a JSON array, of JSON lines, or of documents one after the other.

    A damaged document costs itself and, where lines can tell documents apart, nothing else.

    Args:
        stream: UTF-8 text, read a piece at a time.

    Example:
        >>> list(json_documents(io.BytesIO(b'{"candid": {"$numberLong": "7"}} {}')))
        [{'candid': 7}, {}]
    """
    # unlike a TextIOWrapper, this leaves the file open when it is dropped
    text = codecs.getreader("utf-8")(stream, "replace")
    decoder = json.JSONDecoder(object_hook=_from_extended)
    buffer, at, more = "", 0, True
    refused = 0  # in a row
    while refused < _MAX_REFUSED_DOCUMENTS:
        at = cast(re.Match[str], _BETWEEN_DOCUMENTS.match(buffer, at)).end()
        try:
            document, at = decoder.raw_decode(buffer, at)
        except (ValueError, RecursionError) as error:
            size = len(buffer) - at
            if more and _is_incomplete(error) and size < _MAX_DOCUMENT_BYTES:
                chunk = text.read(max(_PIECE_BYTES, size))
                buffer, at, more = buffer[at:] + chunk, 0, bool(chunk)
                continue
            if not size:
                return
            yield Reject(f"damaged JSON: {getattr(error, 'msg', error)}")
            refused += 1
            # a damaged line costs that line only; in one long line, look for the next brace
            cut = not more and _is_incomplete(error)
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
        if isinstance(document, Mapping) and not _is_deep(document):
            yield document
            refused = 0
        else:
            problem = "nested too deeply" if isinstance(document, Mapping) else "not a packet"
            yield Reject(f"damaged JSON: a document that is {problem}")
            refused += 1
    yield Reject(f"damaged JSON: {refused} documents in a row; the rest of the file is not read")


def _is_incomplete(error: Exception) -> bool:
    """Whether more text may mend it: the decoder stopped at the end of what it was given."""
    return isinstance(error, json.JSONDecodeError) and (
        error.msg.startswith("Unterminated string") or error.pos > len(error.doc) - 16
    )


def _is_deep(document: Mapping[str, Any]) -> bool:
    """Whether values are nested so deeply that pickling or printing them could fail."""
    level: list[Any] = [document]
    for _ in range(_MAX_DOCUMENT_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


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
