"""The light curve of an alert, out of the history that its packet holds."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from acai_jax.alerts.packet import AlertPacket
from acai_jax.surveys.base import Photometry, Survey

_DETECTED: Final = 3.0  # of a flux, in units of its error
_LIMIT: Final = 5.0
_MOST_POINTS: Final = 500
_SAME_TIME: Final = 5  # decimals of a day: about a second
_SENTINEL: Final = -999.0
_POGSON: Final = 2.5 / math.log(10)


class Point(NamedTuple):
    """One measurement.

    Attributes:
        days: from the alert, negative before it [day].
        band: name of the filter.
        magnitude: of the difference flux, or its limit [mag].
        error: of the magnitude; None of a limit.
        kind: whether the flux was positive, negative, or not detected.
    """

    days: float
    band: str
    magnitude: float
    error: float | None
    kind: Literal["positive", "negative", "limit"]


def light_curve(packet: AlertPacket) -> list[Point]:
    """The measurements of an alert and its history, in the order of time; the latest of very many.

    Args:
        packet: read with histories.

    Example:
        >>> fields = {"jd": 2458900.5, "fid": 1, "magpsf": 18.5, "sigmapsf": 0.1, "isdiffpos": "t"}
        >>> before = {"jd": 2458899.0, "fid": 2, "magpsf": None, "diffmaglim": 20.0}
        >>> history = {"prv_candidates": (before,)}
        >>> packet = AlertPacket("ZTF20aaelulu", 7, fields, (None,) * 3, histories=history)
        >>> [tuple(point) for point in light_curve(packet)]
        [(-1.5, 'r', 20.0, None, 'limit'), (0.0, 'g', 18.5, 0.1, 'positive')]
    """
    survey, points = packet.survey, {}
    alert_time = packet.fields[survey.time]
    for where in survey.light_curve:
        own = where.rows == survey.record
        for row in [packet.fields] if own else packet.histories.get(where.rows, ()):
            for point in _points(row, where, survey, alert_time):
                points.setdefault((round(point.days, _SAME_TIME), point.band), point)
    return sorted(points.values())[-_MOST_POINTS:]


def _points(
    row: Mapping[str, Any], where: Photometry, survey: Survey, alert_time: Any
) -> Iterator[Point]:
    """The measurement of a row, if it holds one."""
    time, value, error = (_number(row.get(n)) for n in (where.time, where.brightness, where.error))
    if time is None:
        return
    days = time + where.since - alert_time
    band = survey.band_name(row.get(survey.band))
    if where.zero_point is not None:
        yield from _of_flux(days, band, value, error, where.zero_point)
    elif value is not None:
        positive = str(row.get(where.sign)).lower() in ("t", "1", "true")
        yield Point(days, band, value, error, "positive" if positive else "negative")
    elif (limit := _number(row.get(where.limit))) is not None:
        yield Point(days, band, limit, None, "limit")


def _of_flux(
    days: float, band: str, flux: float | None, error: float | None, zero_point: float
) -> Iterator[Point]:
    if flux is None or error is None or error <= 0:
        return
    if abs(flux) < _DETECTED * error:
        yield Point(days, band, zero_point - 2.5 * math.log10(_LIMIT * error), None, "limit")
        return
    magnitude = zero_point - 2.5 * math.log10(abs(flux))
    kind = "positive" if flux > 0 else "negative"
    yield Point(days, band, magnitude, _POGSON * error / abs(flux), kind)


def _number(value: object) -> float | None:
    """A finite number that is no sentinel; None of whatever else a packet holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number != _SENTINEL else None


def summary(points: list[Point]) -> str:
    """The light curve in words, for who cannot see it.

    Example:
        >>> summary([Point(-2.0, "g", 20.0, None, "limit"), Point(0.0, "r", 18.5, 0.1, "positive")])
        'Light curve: 1 detection (r 18.5 mag), 1 limit, in 2.0 days.'
    """
    detections = [point for point in points if point.kind != "limit"]
    if not points:
        return "Light curve: no measurements."
    ranges = []
    for band in dict.fromkeys(point.band for point in detections):
        values = [point.magnitude for point in detections if point.band == band]
        ends = dict.fromkeys(f"{value:.1f}" for value in (min(values), max(values)))
        ranges.append(f"{band} {' to '.join(ends)} mag")
    negative = sum(point.kind == "negative" for point in detections)
    said = [f"{_count(len(detections), 'detection')} ({', '.join(ranges) or 'none'})"]
    if negative:
        said.append(f"{negative} of them negative")
    if len(detections) < len(points):
        said.append(_count(len(points) - len(detections), "limit"))
    days = points[-1].days - points[0].days
    return f"Light curve: {', '.join(said)}{f', in {days:.1f} days' if days else ''}."


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
