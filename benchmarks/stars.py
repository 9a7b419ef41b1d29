"""What subtractions leave of the stars beside alerts."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import scipy.ndimage

from acai_jax.alerts.packet import AlertPacket, packet_from_record
from acai_jax.alerts.sources import read_alerts
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.simulate import simulate_packets
from acai_jax.surveys.ztf import STAMP_SIZE
from benchmarks.samples import MISSING, REAL_FILES

BRIGHT = (60, 120, 250, 500, 1000, np.inf)  # peaks in science images [sigma of the difference]
_APART = 10  # [pixel] from the alert
_CLEAR = 7  # from the stamp's border
_ALONE = 9  # a star is the highest of so many pixels square


def left_by_stars(packets: Iterable[AlertPacket]) -> pl.DataFrame:
    """For each bright star beside an alert: its peak, and what is left of it.

    Returns:
        Columns "peak" [sigma of the difference], "largest": of the 5x5 pixels around it in the
        difference, as share of the peak, and "flux": their sum, as share of that in the science
        image.
    """
    rows = [row for packet in packets for row in _stars(packet)]
    return pl.DataFrame(rows, schema=["peak", "largest", "flux"], orient="row")


def _stars(packet: AlertPacket) -> Iterator[tuple[float, float, float]]:
    stamps = (decode_stamp(data, packet.survey.largest_stamp) for data in packet.cutouts)
    images = np.stack([stamp.astype(np.float64) for stamp in stamps])
    bad = ~(np.abs(images) < MISSING).all(0)
    if bad.all() or bad.shape != (STAMP_SIZE, STAMP_SIZE):
        return
    images -= np.median(images[:, ~bad], axis=1)[:, None, None]
    images[:, bad] = 0
    science, _, difference = images
    sigma = 1.4826 * np.median(np.abs(difference[~bad]))
    whole = scipy.ndimage.minimum_filter(~bad, 11)
    highest = scipy.ndimage.maximum_filter(science, _ALONE)
    place = np.abs(np.arange(STAMP_SIZE) - STAMP_SIZE // 2)
    beside = np.maximum.outer(place, place)
    chosen = (science == highest) & (science > BRIGHT[0] * sigma) & whole
    for row, column in np.argwhere(
        chosen & (beside >= _APART) & (beside <= STAMP_SIZE // 2 - _CLEAR)
    ):
        five = slice(row - 2, row + 3), slice(column - 2, column + 3)
        peak, left = science[row, column], difference[five]
        yield peak / sigma, np.abs(left).max() / peak, left.sum() / science[five].sum()


def judge_stars(data: Path, count: int, seed: int) -> list[dict[str, object]]:
    """Real alerts, without the exposure in clouds, and simulated ones that are not bogus."""
    files = [data / name for name in REAL_FILES if name != "fink_alerts.parquet"]
    real = [alert for alert in read_alerts(files) if isinstance(alert, AlertPacket)]
    simulated = (
        packet_from_record(alert.record, schema_name="ztf.")
        for alert in simulate_packets(count, seed)
        if alert.label != "b"
    )
    results = []
    for name, packets in (("real", real), ("simulated", simulated)):
        stars = left_by_stars(packets)
        for low, high in itertools.pairwise(BRIGHT):
            inside = stars.filter(pl.col("peak").is_between(low, high, closed="left"))
            if len(inside) < 5:
                continue
            results.append(
                {
                    "alerts": name,
                    "peak_from": low,
                    "stars": len(inside),
                    **{
                        f"{figure}_{percent}": float(np.percentile(inside[figure], percent))
                        for figure in ("largest", "flux")
                        for percent in (25, 50, 75)
                    },
                }
            )
    return results
