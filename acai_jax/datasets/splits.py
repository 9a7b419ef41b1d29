"""Which split an object belongs to: a stable hash of its name, so that no object ever moves."""

import hashlib
from typing import Final

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


def split_of(key: str) -> str:
    """The split of everything that has this key.

    Key alerts by their `objectId`: all alerts of an object then share a split, and adding objects
    moves none. The original ACAI split by alert, which lets one object's alerts into both training
    and test: to reproduce that, key by `str(candid)`.

    Args:
        key: the object's name, or the alert's candid as text.

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


def stable_hash(key: str) -> int:
    """A 64-bit hash that is the same in every process, on every machine and in every version.

    Example:
        >>> stable_hash("ZTF20aaaaaaa") % 100
        5
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
