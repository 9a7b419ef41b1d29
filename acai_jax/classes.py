"""The five classes that every survey's heads tell apart, and what stands beside their scores."""

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

BESIDE_SCORES: Final = {
    "_version": "version",
    "_std": "deviation",
    "_mi": "information",
    "_mean": "mean",
    "_max": "maximum",
    "_spread": "spread",
}
"""Ends of the names of columns beside a score: of its model; of an ensemble the standard deviation
of the members' scores, and their mutual information [nat]; of an object the mean, the maximum and
the standard deviation of its alerts' scores."""
