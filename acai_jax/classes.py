"""The five classes that every survey's heads tell apart."""

from typing import Final

CLASSES: Final = ("h", "o", "n", "v", "b")
"""The five classes, in the order of every score array: hosted, orphan, nuclear, variable, bogus."""

CLASS_NAMES: Final = {
    "h": "hosted",
    "o": "orphan",
    "n": "nuclear",
    "v": "variable star",
    "b": "bogus",
}
