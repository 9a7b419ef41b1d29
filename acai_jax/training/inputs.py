"""The data of a run: numbers in memory, stamps on the device or streamed from disk."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import polars as pl
from jaxtyping import Float32, Int, Int64

from acai_jax.datasets.labels import COLUMNS
from acai_jax.datasets.records import Records, dataset_survey, open_dataset
from acai_jax.errors import DatasetError
from acai_jax.files import write_atomically
from acai_jax.surveys import Preset
from acai_jax.surveys.base import Survey
from acai_jax.training.step import Batches

_READERS = 8  # threads that read ahead, where stamps are streamed
_DESCRIPTIONS = ("dataset_info.json", "features.json", "metadata.json")

Progress = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """Which dataset it is.

    Attributes:
        name: such as "ztf_acai/alerts/1.0.0".
        digest: SHA-256 of its descriptions, in which stand the digests of its sources and labels.
        preset: whose preprocessing made its arrays.
        records: split -> number of alerts.
        survey: of the alerts.
    """

    name: str
    digest: str
    preset: Preset
    records: dict[str, int]
    survey: Survey

    def as_json(self) -> dict[str, Any]:
        """What is written of it; the digest tells its survey, too."""
        names = ("name", "digest", "preset", "records")
        return {name: getattr(self, name) for name in names}


def dataset_facts(directory: Path) -> DatasetFacts:
    """What identifies a dataset.

    Raises:
        DatasetError: there is none, it keeps raw stamps, or it lacks a split to train on.
    """
    info: Any = open_dataset(directory).info
    if "triplet" not in info.features:
        raise DatasetError(f"{info.data_dir} keeps raw stamps: train on one that keeps arrays")
    for split in ("train", "validation"):
        if split not in info.splits or not info.splits[split].num_examples:
            raise DatasetError(
                f"{info.data_dir} has no alert in the split {split}: too few objects"
            )
    digest = hashlib.sha256()
    for name in _DESCRIPTIONS:
        path = Path(info.data_dir, name)
        digest.update(path.read_bytes() if path.exists() else b"")
    return DatasetFacts(
        info.full_name,
        digest.hexdigest(),
        (info.metadata or {}).get("preset", "acai"),
        {name: split.num_examples for name, split in info.splits.items()},
        dataset_survey(info),
    )


def fits_in_memory(facts: DatasetFacts, limit_gb: float | None) -> bool:
    """Whether the stamps of training and validation take less than the limit [GB]."""
    limit = _device_memory() / 3 if limit_gb is None else limit_gb * 1e9
    alerts = facts.records["train"] + facts.records["validation"]
    return 4 * math.prod(facts.survey.inputs.triplet) * alerts <= limit


def _device_memory() -> int:
    if jax.default_backend() == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 16 * 2**30)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split of a dataset.

    Attributes:
        features: raw, on the device.
        labels: as text.
        objects: names of the alerts' objects.
        alert_ids: exact.
        triplets: on the device; None where they are streamed.
        records: where they are read from.
    """

    features: Float32[jax.Array, "n f"]
    labels: np.ndarray
    objects: np.ndarray
    alert_ids: Int64[np.ndarray, " n"]
    triplets: Float32[jax.Array, "n h w c"] | None
    records: Records

    def write_labels(self, path: Path, rows: Int64[np.ndarray, " m"]) -> None:
        """Writes the labels of some rows as a labels file, unless it is there."""
        if not path.exists():
            columns = zip(COLUMNS, (self.objects, self.alert_ids, self.labels), strict=True)
            table = pl.DataFrame({name: column[rows] for name, column in columns})
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, table.write_csv)

    def segments(
        self, batches: Int[np.ndarray, "s b"], steps: int
    ) -> Iterator[tuple[Batches, Float32[jax.Array | np.ndarray, "m h w c"]]]:
        """Batches, so many steps at a time, with the triplets that they take.

        The last segment is filled up with steps of -1. Streamed triplets of the next segment are
        read while the caller works on one; what comes out is the same.

        Args:
            batches: rows of this split; -1 for none.
            steps: length of a segment.
        """
        missing = -len(batches) % steps
        batches = np.pad(batches, ((0, missing), (0, 0)), constant_values=-1).astype(np.int32)
        pieces = batches.reshape(-1, steps, batches.shape[1])
        if self.triplets is not None:
            for rows in pieces:
                yield Batches(rows, rows), self.triplets
            return
        slots = np.arange(steps * batches.shape[1], dtype=np.int32).reshape(steps, -1)
        stamps = grain.MapDataset.source(_Stamps(self.records, batches.ravel()))
        # the buffer holds the next segment
        options = grain.ReadOptions(num_threads=_READERS, prefetch_buffer_size=slots.size)
        read = stamps.to_iter_dataset(options).batch(slots.size)
        for rows, triplets in zip(pieces, read, strict=True):
            yield Batches(rows, slots), triplets


class _Stamps:
    """The triplets of given rows, for Grain."""

    def __init__(self, records: Records, rows: Int[np.ndarray, " m"]) -> None:
        self._records = records
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Float32[np.ndarray, "h w c"]:
        row = self._rows[index]
        if row < 0:
            return np.zeros(self._records.survey.inputs.triplet, np.float32)
        return self._records[row]["triplet"]


def checked_split(
    directory: Path,
    split: str,
    *,
    resident: bool,
    progress: Progress,
    sharding: jax.sharding.Sharding | None = None,
) -> Split:
    """Reads a split, and checks every number in it.

    Args:
        directory: of the dataset.
        split: "train" or "validation".
        resident: keep the triplets on the device.
        progress: called with the number of alerts read since the last call.
        sharding: the devices, as `everywhere` gives them; by default the first.

    Raises:
        DatasetError: a number is not finite; the message names the alert and the field.
    """
    records = Records(directory, split)
    survey, inputs = records.survey, records.survey.inputs
    features = np.empty((len(records), len(inputs.features)), np.float32)
    triplets = np.empty((len(records) if resident else 0, *inputs.triplet), np.float32)
    alert_ids = np.empty(len(records), np.int64)
    labels, objects = [], []
    for row, record in enumerate(records):
        features[row] = record["features"]
        alert_ids[row] = record[survey.alert_id]
        labels.append(record["label"])
        objects.append(record[survey.object_id])
        if not np.isfinite(record["triplet"]).all():
            raise DatasetError(f"alert {record[survey.alert_id]} of {split}: a pixel is not finite")
        if not np.isfinite(features[row]).all():
            name = inputs.features[int(np.flatnonzero(~np.isfinite(features[row]))[0])]
            raise DatasetError(f"alert {record[survey.alert_id]} of {split}: {name} is not finite")
        if resident:
            triplets[row] = record["triplet"]
        progress(1)
    on_device = jax.device_put(triplets, sharding) if resident else None
    features = jax.device_put(features, sharding)
    return Split(features, np.array(labels), np.array(objects), alert_ids, on_device, records)
