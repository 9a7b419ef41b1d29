"""Real and simulated alerts side by side: arrays as heads see them, and figures of their pixels."""

import dataclasses
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

import loky
import numpy as np
import polars as pl

from acai_jax.alerts.packet import AlertPacket, packet_from_record
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.sources import read_alerts
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.simulate import simulate_packets
from acai_jax.surveys import Preset
from acai_jax.surveys.base import Survey
from acai_jax.surveys.ztf import SENTINEL, ZTF

REAL_FILES = ("alerts", "fink_alerts.parquet", "real_labelled.parquet")
MISSING = 1e30  # a pixel beyond it holds no data


@dataclasses.dataclass
class Sample:
    """n alerts.

    Attributes:
        features, triplets: as the heads take them, (n, f) and (n, h, w, c).
        pixels: a row of `pixel_statistics` for each.
        candids: of the alerts.
        objects: objectId of each.
        exposures: what tells an exposure from others.
        labels, kinds: of simulated alerts; empty for real ones.
        survey: that sent them.
    """

    features: np.ndarray
    triplets: np.ndarray
    pixels: pl.DataFrame
    candids: np.ndarray
    objects: np.ndarray
    exposures: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    survey: Survey = ZTF

    def table(self) -> pl.DataFrame:
        """The features by name."""
        return pl.DataFrame(
            self.features.astype(np.float64), schema=list(self.survey.inputs.features)
        )

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the alerts."""
        fields = ((name, value) for name, value in vars(self).items() if name != "survey")
        parts = {name: value[rows] for name, value in fields if len(value)}
        return dataclasses.replace(self, **parts)

    def one_of_each_exposure(self) -> "Sample":
        """The first alert of each exposure: no two share a limit or a calibration."""
        return self.take(np.sort(np.unique(self.exposures, return_index=True)[1]))


def sample_of(
    packets: Sequence[AlertPacket], labels: Sequence[str] = (), kinds: Sequence[str] = ()
) -> Sample:
    """The sample of some packets; those that cannot be scored are left out."""
    survey = packets[0].survey
    prepared = prepare_alerts(packets, cast(Preset, next(iter(survey.recipes))), survey=survey)
    kept = [packets[row] for row in prepared.accepted]
    return Sample(
        features=prepared.features,
        triplets=prepared.triplets,
        pixels=pl.DataFrame([pixel_statistics(packet) for packet in kept]),
        candids=np.array([packet.alert_id for packet in kept]),
        objects=np.array([packet.object_id for packet in kept]),
        exposures=np.array([round(float(packet.fields[survey.time]), 5) for packet in kept]),
        labels=np.array(labels),
        kinds=np.array(kinds),
        survey=survey,
    )


def real_sample(data: Path, names: Sequence[str] = REAL_FILES) -> Sample:
    """Real alerts, each once."""
    packets = {
        alert.alert_id: alert
        for alert in read_alerts([data / name for name in names])
        if isinstance(alert, AlertPacket)
    }
    return sample_of(list(packets.values()))


def simulated_sample(count: int, seed: int, survey: Survey = ZTF) -> Sample:
    """Simulated alerts, in this process."""
    made = list(simulate_packets(count, seed, survey=survey.name))
    kinds = [f"{alert.label}: {alert.kind}" for alert in made]
    labels = [alert.label for alert in made]
    packets = [packet_from_record(alert.record, schema_name=survey.name + ".") for alert in made]
    return sample_of(packets, labels, kinds)


def simulated_samples(count: int, seeds: Sequence[int]) -> list[Sample]:
    """A sample for each seed, as many side by side as there are cores."""
    context = multiprocessing.get_context("spawn")  # JAX has threads, which no fork survives
    with ProcessPoolExecutor(min(loky.cpu_count(), len(seeds)), context) as pool:
        return list(pool.map(simulated_sample, [count] * len(seeds), seeds))


def pixel_statistics(packet: AlertPacket) -> dict[str, float]:
    """Simple figures of the three stamps; sigma is the median absolute deviation's."""
    found = {}
    for name, data in zip(("science", "template", "difference"), packet.cutouts, strict=True):
        image = decode_stamp(data, packet.survey.largest_stamp).astype(np.float64)
        bad = ~(np.abs(image) < MISSING)
        good = image[~bad]
        median = np.median(good)
        sigma = 1.4826 * np.median(np.abs(good - median)) or 1.0
        centre = [n // 2 for n in image.shape]
        middle = image[centre[0] - 3 : centre[0] + 4, centre[1] - 3 : centre[1] + 4]
        inner = image[centre[0] - 1 : centre[0] + 2, centre[1] - 1 : centre[1] + 2]
        image[bad] = median
        flat = np.clip(image, *np.percentile(image, (1, 99)))
        found |= {
            f"{name} bad share": bad.mean(),
            f"{name} median": median,
            f"{name} sigma": sigma,
            f"{name} centre max": (np.nanmax(middle) - median) / sigma,
            f"{name} centre min": (np.nanmin(middle) - median) / sigma,
            f"{name} centre share": (np.nansum(inner - median))
            / max(np.nansum(np.abs(middle - median)), 1e-9),
            f"{name} max": (np.percentile(image, 99.9) - median) / sigma,
            f"{name} min": (np.percentile(image, 0.1) - median) / sigma,
            f"{name} tails": np.mean(np.abs(image - median) > 5 * sigma),
            f"{name} neighbours": np.corrcoef(flat[:, 1:].ravel(), flat[:, :-1].ravel())[0, 1],
            f"{name} diagonal": np.corrcoef(flat[1:, 1:].ravel(), flat[:-1, :-1].ravel())[0, 1],
            f"{name} next but one": np.corrcoef(flat[:, 2:].ravel(), flat[:, :-2].ravel())[0, 1],
        }
    return found


def without_sentinel(values: np.ndarray) -> np.ndarray:
    """The values that are measured."""
    return values[np.isfinite(values) & (values != SENTINEL)]
