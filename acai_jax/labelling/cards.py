"""What the page shows of an alert: its stamps, its light curve, and its key features."""

import dataclasses
import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.stamps import readable_stamps
from acai_jax.labelling.light_curve import light_curve, summary
from acai_jax.report.exhibits import alert_exhibit
from acai_jax.surveys import survey_of_table

VIEWERS: Final = (
    ("Aladin Lite", "https://aladin.cds.unistra.fr/AladinLite/?target={ra:.6f}%20{dec:+.6f}&fov=0.03"),
    ("Legacy Survey", "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&zoom=15&layer=ls-dr10"),
    ("SIMBAD", "https://simbad.cds.unistra.fr/simbad/sim-coo?Coord={ra:.6f}%20{dec:+.6f}&Radius=10&Radius.unit=arcsec"),
    ("NED", "https://ned.ipac.caltech.edu/conesearch?coordinates={ra:.6f}d%20{dec:+.6f}d&radius=0.2"),
)  # fmt: skip
"""Public pages about a position; only the user opens them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """An alert as the page shows it; it says nothing of scores, labels, or why it is shown.

    Attributes:
        png: its stamps; None where the packet is not there.
        facts: JSON-ready.
    """

    png: bytes | None
    facts: Mapping[str, Any]


class Cards:
    """The cards of a queue, made ahead in its order, in a thread of their own.

    Args:
        queue: of `read_queue`.
        packets: of its alerts, as far as they are there, with histories.

    Example:
        >>> cards = Cards(read_queue("queue.parquet"), [])  # doctest: +SKIP
        >>> cards.card(1105522281015015000).facts["object"]  # doctest: +SKIP
        'ZTF20aaelulu'
    """

    def __init__(self, queue: pl.DataFrame, packets: Iterable[AlertPacket]) -> None:
        alert_id = survey_of_table(queue.columns).alert_id
        self._rows = {row[alert_id]: row for row in queue.iter_rows(named=True)}
        self._packets = {packet.alert_id: packet for packet in packets}
        self._made: dict[int, Card] = {}
        self._lock = threading.Lock()
        self.missing = len(self._rows) - len(self._packets)
        """How many alerts have no packet."""

    def make_ahead(self) -> threading.Thread:
        """Begins to make all cards."""
        thread = threading.Thread(target=lambda: [*map(self.card, self._rows)], daemon=True)
        thread.start()
        return thread

    def card(self, alert_id: int) -> Card:
        """The card of an alert of the queue, made now if it is not there yet."""
        with self._lock:
            if (made := self._made.get(alert_id)) is None:
                row, packet = self._rows[alert_id], self._packets.pop(alert_id, None)
                made = self._made[alert_id] = _card(row, packet)
        return made


def _card(row: Mapping[str, Any], packet: AlertPacket | None) -> Card:
    survey = survey_of_table(row)
    stamps, points = None, []
    if packet is not None:
        ids = {survey.alert_id: packet.alert_id, survey.object_id: packet.object_id}
        row = {**packet.fields, **ids}
        stamps = readable_stamps(packet.cutouts, survey.largest_stamp)
        points = light_curve(packet)
    told = {name: row.get(name) for name in (survey.time, survey.band)}
    exhibit = alert_exhibit({**row, **told}, stamps, (), text="", groups={}, numbers={})
    ra, dec = row.get("ra"), row.get("dec")
    known = ra is not None and dec is not None and math.isfinite(ra + dec)
    place = [("position", f"{ra:.5f} {dec:+.5f} deg")] if known else []
    facts = {
        "id": str(row[survey.alert_id]),  # a browser's numbers have 53 bits
        "object": exhibit.title,
        "alt": exhibit.alt if stamps else "No stamps: the alert's packet was not found",
        "has_picture": stamps is not None,
        "facts": [*place, *exhibit.facts],
        "links": [(name, url.format(ra=ra, dec=dec)) for name, url in VIEWERS] if known else [],
        "light_curve": [
            (round(p.days, 5), p.band, round(p.magnitude, 3), p.error and round(p.error, 3), p.kind)
            for p in points
        ],
        "light_curve_summary": summary(points),
    }
    return Card(exhibit.png, facts)
