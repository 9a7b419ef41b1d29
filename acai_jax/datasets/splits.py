"""Which split an object belongs to: a stable hash of its name, so that no object ever moves."""

import hashlib
import math
from typing import Final

import polars as pl

from acai_jax.surveys.base import Survey

TRAIN_PERCENT: Final = 81
VALIDATION_PERCENT: Final = 9
SPLITS: Final = ("train", "validation", "test")
"""Names of the splits: 81, 9 and 10 percent."""

RULE: Final = (
    "h = first 8 bytes of SHA-256 of the key (UTF-8), as a big-endian integer, modulo 100; "
    f"train if h < {TRAIN_PERCENT}, "
    f"validation if h < {TRAIN_PERCENT + VALIDATION_PERCENT}, else test"
)
"""The rule in words, for those who reproduce it elsewhere; it is part of a dataset's metadata."""

PATCHES: Final = (
    "The key is that of a patch of sky, ROW:COLUMN: rows are degrees of declination, from -90 on; "
    "a row has as many columns, of equal width from right ascension 0 on, as its middle has degrees"
)
"""How positions become keys, in words."""


def sky_patch(ra: float, dec: float) -> str:
    """The key of the patch of sky in which a position [deg] lies; see `PATCHES`.

    Example:
        >>> sky_patch(150.1, 2.2), sky_patch(0.0, 90.0), sky_patch(360.0, -90.0)
        ('92:150', '179:0', '0:0')
    """
    row = min(179, int(dec + 90))
    columns = max(1, round(360 * math.cos(math.radians(row - 89.5))))
    return f"{row}:{int(ra % 360 / 360 * columns)}"


def split_of(key: str) -> str:
    """The split of everything that has this key.

    Key alerts by their `objectId`: all alerts of an object then share a split, and adding objects
    moves none. The original ACAI split by alert, which lets one object's alerts into both training
    and test: to reproduce that, key by `str(candid)`. Where several objects' names may share one
    place, key by `sky_patch`.

    Args:
        key: the object's name, the alert's candid as text, or a patch of sky.

    Returns:
        "train", "validation" or "test"; see `RULE`.

    Example:
        >>> [split_of(name) for name in ("ZTF20aaaaaaa", "ZTF20aaaaaac", "ZTF20aaaaaab")]
        ['train', 'validation', 'test']
    """
    bucket = stable_hash(key) % 100
    if bucket < TRAIN_PERCENT:
        return "train"
    return "validation" if bucket < TRAIN_PERCENT + VALIDATION_PERCENT else "test"


def split_keys(table: pl.DataFrame, survey: Survey) -> list[str]:
    """What decides the split of each alert of a table of scores, as datasets of its survey have it.

    Example:
        >>> from acai_jax.surveys.lsst import LSST
        >>> split_keys(pl.DataFrame({"ra": [150.1, None], "dec": [2.2, None]}), LSST)
        ['92:150', '']
    """
    if survey.split_by == "object":
        return table[survey.object_id].to_list()
    positions = table.select("ra", "dec").iter_rows()
    return ["" if None in position else sky_patch(*position) for position in positions]


def stable_hash(key: str) -> int:
    """A 64-bit hash that is the same in every process, on every machine and in every version.

    Example:
        >>> stable_hash("ZTF20aaaaaaa") % 100
        5
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
