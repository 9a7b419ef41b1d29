"""Dates and times, as astronomers and as computers count them."""

import datetime
from typing import Final

UNIX_EPOCH_JD: Final = 2440587.5
"""Julian date of 1970-01-01 00:00 UTC."""
DATES: Final = (2447892.5, 2488069.5)
"""Julian dates that an alert can be of: 1990 to 2100. Whatever else a table holds is no date."""


def utc(jd: float | None) -> datetime.datetime | None:
    """A Julian date as a time in UTC; None where it is no date that an alert can be of.

    Example:
        >>> utc(2458295.5), utc(1e308)
        (datetime.datetime(2018, 6, 26, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    if jd is None or not DATES[0] <= jd <= DATES[1]:
        return None
    seconds = (jd - UNIX_EPOCH_JD) * 86400
    return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(seconds=seconds)
