"""What a build will do, known from the labels before any alert is read.

Which alerts are wanted, and to which split and shard each goes, follow from hashes of names that
`labels.csv` holds, or of positions. So the sources are gathered in any order, by any number of
processes.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acai_jax.datasets.splits import SPLITS, split_of, stable_hash
from acai_jax.surveys import Preset
from acai_jax.surveys.base import Survey

if TYPE_CHECKING:  # workers have no use for polars
    from acai_jax.datasets.labels import Labels

SHARD_RECORDS = 2048
"""Records of a shard, about: 100 MB, the largest stretch that a process holds in memory."""


@dataclasses.dataclass(frozen=True)
class BuildPlan:
    """What every process of a build knows; small, because it travels with each piece of work.

    Attributes:
        survey: whose alerts are gathered.
        folder: of the build; holds `wanted.npy` and the shards that are being gathered.
        preset: whose preprocessing to follow.
        stamps: keep raw stamps instead of arrays.
        public_only: leave out alerts that not everyone may have.
        weights: folder with braai's weights; None: the cache.
        classes: the labels' text, by code.
        shards: (split, number) of each shard.
    """

    survey: Survey
    folder: Path
    preset: Preset
    stamps: bool
    public_only: bool
    weights: Path | None
    classes: tuple[str, ...]
    shards: tuple[tuple[str, int], ...]

    def shard_folder(self, shard: int) -> Path:
        """Where the records of a shard are gathered, in any number of files."""
        split, number = self.shards[shard]
        return self.folder / f"{split}-{number:06d}"

    def shard_folders(self) -> dict[str, list[Path]]:
        """The shards of each split that have records, in order."""
        folders: dict[str, list[Path]] = {}
        for shard, (split, _) in enumerate(self.shards):
            if (folder := self.shard_folder(shard)).exists():
                folders.setdefault(split, []).append(folder)
        return folders


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The labelled alerts, as columns sorted by alert_id.

    Attributes:
        alert_id: (n,) int64.
        name: (n,) uint64, the stable hash of the object's name.
        label: (n,) uint64, a code; see `BuildPlan.classes`.
        shard: (n,) uint64, an index into `BuildPlan.shards`; beyond them, of alerts that a model
            chose to be labelled and that do not belong to training: they are left out.
    """

    alert_id: np.ndarray
    name: np.ndarray
    label: np.ndarray
    shard: np.ndarray

    def row(self, alert_id: int | None) -> int | None:
        """The row of an alert, or None if it has no label."""
        if alert_id is None:
            return None
        row = int(self.alert_id.searchsorted(alert_id))
        return row if row < len(self.alert_id) and self.alert_id[row] == alert_id else None


def make_plan(
    survey: Survey,
    folder: Path,
    labels: "Labels",
    keys: Sequence[str],
    *,
    preset: Preset,
    stamps: bool,
    public_only: bool,
    weights: Path | None,
) -> BuildPlan:
    """Decides the split, shard and place of every labelled alert, and writes them to `folder`.

    Of each labelled alert, `keys` has what decides the split; see `split_of`.
    """
    table = labels.table
    classes = tuple(sorted(table["label"].unique()))
    codes = {name: code for code, name in enumerate(classes)}
    alert_ids = table["alert_id"].to_numpy()
    splits = [split_of(key) for key in keys]
    # a test that a model has chosen says nothing of other alerts
    left_out = [
        split != "train" and alert_id in labels.active
        for split, alert_id in zip(splits, table["alert_id"], strict=True)
    ]
    sizes = collections.Counter(s for s, out in zip(splits, left_out, strict=True) if not out)
    counts = {split: math.ceil(sizes[split] / SHARD_RECORDS) for split in SPLITS}
    shards = tuple((split, number) for split in SPLITS for number in range(counts[split]))
    first = {split: shards.index((split, 0)) for split in SPLITS if counts[split]}
    shard = [
        # equal ranges of the hash that sorts records: one after the other, shards are sorted too
        len(shards) if out else first[split] + (stable_hash(str(alert_id)) * counts[split] >> 64)
        for split, alert_id, out in zip(splits, alert_ids, left_out, strict=True)
    ]
    columns = (
        alert_ids.view(np.uint64),
        np.array([stable_hash(name) for name in table["object_id"]], np.uint64),
        np.array([codes[label] for label in table["label"]], np.uint64),
        np.array(shard, np.uint64),
    )
    folder.mkdir()
    np.save(folder / "wanted.npy", np.stack(columns))
    return BuildPlan(survey, folder, preset, stamps, public_only, weights, classes, shards)


@functools.lru_cache(maxsize=1)
def read_wanted(folder: Path) -> Wanted:
    """The labelled alerts of a build; all processes of a machine share one copy in memory."""
    alert_id, name, label, shard = np.load(folder / "wanted.npy", mmap_mode="r")
    return Wanted(alert_id.view(np.int64), name, label, shard)
