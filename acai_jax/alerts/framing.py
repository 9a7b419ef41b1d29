"""Confluent's framing: a zero byte, the number of a schema, and one Avro record without it."""

import os
from pathlib import Path
from typing import Final

from acai_jax.errors import PacketError

FRAME_BYTES: Final = 5
"""Of a message, before its record."""

_LARGEST: Final = 2**31 - 1
_FOLDER: Final = "schemas"


def schema_number(raw: bytes, largest: int = _LARGEST) -> int | None:
    """The number of the schema, if these can be the first bytes of a framed message.

    Args:
        raw: the message, or its beginning.
        largest: number that is taken for one.

    Example:
        >>> schema_number(bytes([0, 0, 0, 4, 77]) + b"record"), schema_number(b"Obj")
        (1101, None)
    """
    number = int.from_bytes(raw[1:FRAME_BYTES], "big")
    framed = raw[:1] == b"\0" and len(raw) > FRAME_BYTES and 0 < number <= largest
    return number if framed else None


class SchemaFolder:
    """Avro schemas that lie in a folder, each as NUMBER.json. Each is read once.

    Example:
        >>> SchemaFolder("schemas").schema(1101)
        Traceback (most recent call last):
        acai_jax.errors.PacketError: no schema: 1101.json is not in schemas
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._known: dict[int, bytes] = {}

    def schema(self, number: int) -> bytes:
        """The schema of that number, as JSON.

        Raises:
            PacketError: there is none that can be read.
        """
        if number not in self._known:
            try:
                self._known[number] = (self._folder / f"{number}.json").read_bytes()
            except FileNotFoundError:
                raise PacketError(f"no schema: {number}.json is not in {self._folder}") from None
            except OSError as error:
                raise PacketError(f"no schema: {number}.json: {error.strerror}") from None
        return self._known[number]


def schemas_near(path: Path) -> SchemaFolder:
    """The folder `schemas` beside a file of messages, or else beside the file's folder.

    Example:
        >>> schemas_near(Path("night/1.bin")).schema(1101)
        Traceback (most recent call last):
        acai_jax.errors.PacketError: no schema: 1101.json is not in night/schemas
    """
    beside, above = (folder / _FOLDER for folder in (path.parent, path.parent.absolute().parent))
    return SchemaFolder(above if above.is_dir() and not beside.is_dir() else beside)


def is_schema(path: Path) -> bool:
    """Whether a file lies where a schema lies: it is no alert.

    Example:
        >>> is_schema(Path("night/schemas/1101.json")), is_schema(Path("night/1101.json"))
        (True, False)
    """
    return path.parent.name == _FOLDER and path.suffix == ".json" and path.stem.isdigit()
