"""Gathering on one machine: each labelled alert's record into the file of its shard."""

import collections
import contextlib
import csv
import dataclasses
import functools
import hashlib
import itertools
import os
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import loky
import numpy as np

from acai_jax import workers
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.prepare import chunks
from acai_jax.alerts.sources import Encoded, decode, encoded_alerts
from acai_jax.datasets.gather.plan import BuildPlan, Wanted, read_wanted
from acai_jax.datasets.gather.records import Record, example
from acai_jax.datasets.splits import sky_patch, stable_hash
from acai_jax.errors import Reject, reason_of
from acai_jax.surveys.base import Survey
from acai_jax.text import spreadsheet_safe

if TYPE_CHECKING:
    from acai_jax.network.drb import BraaiStandIn

Tally = collections.Counter[tuple[str, ...]]
"""Counts of ("alerts",), ("unlabelled",), ("reject", kind), ("record", split, class), ..."""

Place = tuple[int, ...]
"""Where an alert stands in the sources; compares as they are read."""


class Found(NamedTuple):
    """A labelled alert in the sources.

    Attributes:
        row: in `Wanted`.
        kept: it gives a record; the first of an alert's records is the one that counts.
        record: unless it is kept in a file already.
        origin: file (and member) that it came from.
    """

    row: int
    kept: bool
    record: Record | None
    origin: str | None


@dataclasses.dataclass
class Selection:
    """What one chunk of a source gave.

    Attributes:
        found: the labelled alerts, in order.
        rejects: what cannot be read or used.
        tally: all alerts, and those that are neither, by what became of them.
        source_bytes: how much of the sources it took, for progress bars.
    """

    found: list[Found]
    rejects: list[Reject]
    tally: Tally
    source_bytes: int


def select(chunk: list[Encoded], plan: BuildPlan) -> Selection:
    """Decodes a chunk and makes the records of its labelled alerts."""
    wanted = read_wanted(plan.folder)
    selection = Selection([], [], Tally(), sum(piece.source_bytes for piece in chunk))
    for alert in itertools.chain.from_iterable(map(decode, chunk)):
        selection.tally["alerts",] += 1
        row = wanted.row(alert.alert_id)
        if row is None and alert.alert_id is not None:
            selection.tally["unlabelled",] += 1  # before its stamps are decoded
            continue
        result = alert if row is None else _record_or_reject(alert, row, wanted, plan)
        if isinstance(result, Reject):
            selection.rejects.append(result)
        elif result is None:
            selection.tally["not_public",] += 1
        if row is not None:
            record = result if isinstance(result, dict) else None
            selection.found.append(Found(row, record is not None, record, alert.origin))
    return selection


def _record_or_reject(
    alert: AlertPacket | Reject, row: int, wanted: Wanted, plan: BuildPlan
) -> Record | Reject | None:
    if isinstance(alert, Reject):
        return alert
    if alert.survey is not plan.survey:
        reason = f"not {plan.survey.an_alert}: a packet of {alert.survey.title}"
        return Reject(reason, alert.alert_id, alert.object_id, alert.origin)
    if stable_hash(alert.object_id) != wanted.name[row]:
        reason = f"other object: labels.csv names another than {alert.object_id}"
        return Reject(reason, alert.alert_id, alert.object_id, alert.origin)
    if wanted.shard[row] == len(plan.shards):
        reason = "active pick: validation and test take random draws only"
        return Reject(reason, alert.alert_id, alert.object_id, alert.origin)
    public = alert.survey.public.items()
    if plan.public_only and any(alert.fields[name] != value for name, value in public):
        return None
    label = plan.classes[int(wanted.label[row])]
    try:
        return example(alert, label, plan.preset, stamps=plan.stamps)
    except Exception as error:
        return Reject(reason_of(error), alert.alert_id, alert.object_id, alert.origin)


def fill_drb(selection: Selection, plan: BuildPlan) -> None:
    """Braai's score where a packet had no `drb`, as the scorer does it; or a reject."""
    missing = [
        (index, found, found.record)
        for index, found in enumerate(selection.found)
        if found.record is not None and _lacks_drb(found.record)
    ]
    if not missing:
        return
    features = np.stack([record["features"] for _, _, record in missing])
    triplets = np.stack([record["triplet"] for _, _, record in missing])
    survey = plan.survey
    _, reason = _stand_in(plan.weights).fill(features, triplets, survey)
    for (index, found, record), filled in zip(missing, features, strict=True):
        record["features"] = filled
        if reason is not None:
            selection.found[index] = found._replace(kept=False, record=None)
            reject = Reject(reason, record[survey.alert_id], record[survey.object_id], found.origin)
            selection.rejects.append(reject)


def _lacks_drb(record: Record) -> bool:
    return record.get("drb_source") == "braai"


@functools.lru_cache(maxsize=1)
def _stand_in(weights: Path | None) -> "BraaiStandIn":
    # JAX takes seconds to import, and few datasets need it
    from acai_jax.network.drb import BraaiStandIn

    return BraaiStandIn(weights)


def gather(
    plan: BuildPlan,
    files: Sequence[Path],
    rejects: Path,
    num_workers: int | None,
    advance: Callable[[int], None],
) -> Tally:
    """Reads all sources with worker processes, and leaves the records in the shards' files.

    Args:
        plan: what to gather.
        files: the sources, in order: of alerts that come twice, the first is kept.
        rejects: the table of rejects, which is written.
        num_workers: decoding processes; see `map_chunks`.
        advance: is told how many bytes of the sources were read, now and then.

    Returns:
        How many alerts there were, and what became of them.
    """
    wanted = read_wanted(plan.folder)
    found, kept = np.zeros((2, len(wanted.alert_id)), bool)
    tally = Tally()
    chunked = enumerate(chunks(encoded_alerts(files)))
    select_in_worker = functools.partial(_select_and_store, plan=plan)
    with rejects_file(rejects, plan.survey) as write_rejects:
        for number, selection in workers.map_chunks(chunked, select_in_worker, num_workers):
            fill_drb(selection, plan)
            _store(selection, number, plan)
            tally += selection.tally
            tally.update(("reject", reject.kind) for reject in selection.rejects)
            write_rejects(selection.rejects)
            for alert in selection.found:
                found[alert.row] = True
                if alert.kept and kept[alert.row]:
                    tally["duplicate",] += 1
                elif alert.kept:
                    kept[alert.row] = True
                    tally[record_key(plan, wanted, alert.row)] += 1
            advance(selection.source_bytes)
    tally["label_not_found",] = int((~found).sum())
    return tally


def sky_patches(
    files: Sequence[Path], alert_ids: Collection[int], num_workers: int | None
) -> dict[int, str]:
    """The patch of sky of each of these alerts that can be read; of doubles, the first one's.

    Args:
        files: the sources, in order.
        alert_ids: of the alerts.
        num_workers: decoding processes; see `map_chunks`.
    """
    wanted = set(alert_ids)
    found: dict[int, str] = {}
    for patches in workers.map_chunks(chunks(encoded_alerts(files)), _patches, num_workers):
        for alert_id, patch in patches:
            if alert_id in wanted:
                found.setdefault(alert_id, patch)
    return found


def _patches(chunk: list[Encoded]) -> list[tuple[int, str]]:
    alerts = itertools.chain.from_iterable(map(decode, chunk))
    return [
        (alert.alert_id, sky_patch(*(float(cast(float, alert.fields[n])) for n in ("ra", "dec"))))
        for alert in alerts
        if isinstance(alert, AlertPacket)
    ]


def _select_and_store(
    numbered: tuple[int, list[Encoded]], plan: BuildPlan
) -> tuple[int, Selection]:
    """Runs in a worker, which keeps the records itself: they are too large to be sent around."""
    number, chunk = numbered
    selection = select(chunk, plan)
    _store(selection, number, plan, lambda record: not _lacks_drb(record))
    return number, selection


def _store(
    selection: Selection,
    number: int,
    plan: BuildPlan,
    ready: Callable[[Record], bool] = lambda record: True,
) -> None:
    """Adds the records that are ready to the files of their shards, one file per process."""
    wanted = read_wanted(plan.folder)
    for place, found in enumerate(selection.found):
        if found.record is not None and ready(found.record):
            path = plan.shard_folder(int(wanted.shard[found.row])) / f"{os.getpid()}.pickle"
            append_records(path, [((number, place), found.record)])
            selection.found[place] = found._replace(record=None)


def record_key(plan: BuildPlan, wanted: Wanted, row: int) -> tuple[str, ...]:
    """What a record is counted as: its split and class."""
    split, _ = plan.shards[int(wanted.shard[row])]
    return "record", split, plan.classes[int(wanted.label[row])]


def append_records(path: Path, records: Iterable[tuple[Place, Record]]) -> None:
    """Adds records to a file, which is made with its folder where there is none."""
    try:
        file = path.open("ab")
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        file = path.open("ab")
    with file:
        for record in records:
            pickle.dump(record, file, protocol=pickle.HIGHEST_PROTOCOL)


def read_records(folder: Path, survey: Survey) -> list[tuple[int, Record]]:
    """The records of a shard in their order, whatever the order in which they were gathered.

    Of an alert's records, the one from the first place in the sources is taken.
    """
    first: dict[int, tuple[Place, Record]] = {}
    for path in folder.iterdir():
        for place, record in _unpickle(path):
            alert_id = record[survey.alert_id]
            if alert_id not in first or place < first[alert_id][0]:
                first[alert_id] = place, record
    order = sorted((stable_hash(str(alert_id)), alert_id) for alert_id in first)
    return [(key, first[alert_id][1]) for key, alert_id in order]


def _unpickle(path: Path) -> Iterator[tuple[Place, Record]]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


@contextlib.contextmanager
def rejects_file(path: Path, survey: Survey) -> Iterator[Callable[[Iterable[Reject]], None]]:
    """Starts the table of rejects; yields what adds rejects to it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((survey.alert_id, survey.object_id, "reason", "origin"))

        def row(reject: Reject) -> list[Any]:
            cells = (reject.alert_id, reject.object_id, reject.reason, reject.origin)
            return [spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in cells]

        yield lambda rejects: writer.writerows(map(row, rejects))


def digest(path: Path, advance: Callable[[int], object] = lambda size: None) -> str:
    """SHA-256 of a file; `advance` is told the sizes of the pieces that are read."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            found.update(piece)
            advance(len(piece))
    return found.hexdigest()


def digests(files: Sequence[Path], advance: Callable[[int], object]) -> list[str]:
    """SHA-256 of each file, several at a time."""
    with ThreadPoolExecutor(loky.cpu_count()) as pool:
        return list(pool.map(functools.partial(digest, advance=advance), files))
