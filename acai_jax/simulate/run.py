"""Simulation of many objects: which classes, how many alerts each, in which files."""

import csv
import dataclasses
import functools
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
import numpy as np

from acai_jax import workers
from acai_jax.classes import CLASSES
from acai_jax.errors import OutputError, UsageError
from acai_jax.simulate import lsst_packets, lsst_schema, schema402
from acai_jax.simulate.alert import SimulatedAlert
from acai_jax.simulate.packets import object_packets
from acai_jax.surveys import DEFAULT

DEFAULT_PROPORTIONS: Final[Mapping[str, float]] = {
    "h": 30 / 215,
    "o": 30 / 215,
    "n": 35 / 215,
    "v": 70 / 215,
    "b": 50 / 215,
}
"""Shares of the classes in the paper's training set."""

# mean number of alerts that one object sends
_ALERTS_PER_OBJECT: Final = {"h": 3.0, "o": 1.3, "n": 3.0, "v": 3.0, "b": 1.6}
_FILE_ALERTS: Final = 250
_FIRST_CANDID: Final = 10**16  # real ones begin later
_CANDIDS_PER_SEED: Final = 10**8
_SEEDS: Final = 10**8  # or candids would reach the real ones


class _Simulator(NamedTuple):
    """How a survey's alerts are made: the alerts of an object, their schema, and their names."""

    packets: Callable[[np.random.Generator, "ObjectPlan", int, int], Iterator[SimulatedAlert]]
    schema: Any
    identity: Callable[[dict[str, Any]], tuple[str, int]]


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectPlan:
    """One object to simulate."""

    number: int
    label: str
    first_alert: int
    alerts: int


def plan_objects(
    count: int, seed: int, proportions: Mapping[str, float] = DEFAULT_PROPORTIONS
) -> list[ObjectPlan]:
    """Which objects make up `count` alerts.

    Raises:
        UsageError: the proportions name an unknown class or are no proportions.
    """
    if not 1 <= count < _CANDIDS_PER_SEED:
        raise UsageError(f"count is {count}, not from 1 to {_CANDIDS_PER_SEED - 1}")
    if not 0 <= seed < _SEEDS:
        raise UsageError(f"seed is {seed}, not from 0 to {_SEEDS - 1}")
    shares = np.array([float(proportions.get(c, 0)) for c in CLASSES])
    if unknown := set(proportions) - set(CLASSES):
        raise UsageError(f"unknown class {sorted(unknown)[0]!r}; known: {', '.join(CLASSES)}")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UsageError("proportions are numbers from 0 up, and one at least is larger")
    shares /= shares.sum()
    rng = np.random.default_rng((seed, 0))
    given = np.zeros(len(CLASSES))
    plans: list[ObjectPlan] = []
    done = 0
    while done < count:
        # the class that is furthest behind its share goes next
        index = int(np.argmax(shares * (done + 1) - given))
        label = CLASSES[index]
        alerts = min(int(rng.geometric(1 / _ALERTS_PER_OBJECT[label])), 12, count - done)
        plans.append(ObjectPlan(len(plans), label, done, alerts))
        given[index] += alerts
        done += alerts
    return plans


def simulate_packets(
    count: int,
    seed: int = 0,
    proportions: Mapping[str, float] = DEFAULT_PROPORTIONS,
    survey: str = DEFAULT.name,
) -> Iterator[SimulatedAlert]:
    """Simulates alerts one by one, in this process.

    Args:
        count: number of alerts.
        seed: the same seed makes the same alerts.
        proportions: share of each class; they need not add up to 1.
        survey: whose alerts: "ztf" or "lsst".

    Yields:
        (label, kind, record in ZTF's schema 4.02 or LSST's 11.1), an object's alerts after each
        other in time.

    Raises:
        UsageError: a class is unknown, or the numbers make no sense.

    Example:
        >>> label, kind, record = next(simulate_packets(1, seed=3, proportions={"o": 1.0}))
        >>> label, kind, record["schemavsn"], record["objectId"]
        ('o', 'asteroid', '4.02', 'ZTFsim3n000000')
    """
    simulator = _simulator(survey)
    for plan in plan_objects(count, seed, proportions):
        yield from _simulate(simulator, plan, seed)


def _simulator(survey: str) -> _Simulator:
    if survey not in _SIMULATORS:
        raise UsageError(f"no simulation of {survey!r:.40}; there are: {', '.join(_SIMULATORS)}")
    return _SIMULATORS[survey]


def _simulate(simulator: _Simulator, plan: ObjectPlan, seed: int) -> Iterator[SimulatedAlert]:
    rng = np.random.default_rng((seed, 1 + plan.number))
    first = _FIRST_CANDID + seed * _CANDIDS_PER_SEED + plan.first_alert
    return simulator.packets(rng, plan, seed, first)


def _ztf_packets(
    rng: np.random.Generator, plan: ObjectPlan, seed: int, first: int
) -> Iterator[SimulatedAlert]:
    name = f"ZTFsim{seed}n{plan.number:06d}"  # no real object is called so
    return object_packets(rng, plan.label, name, first, plan.alerts)


def _lsst_packets(
    rng: np.random.Generator, plan: ObjectPlan, seed: int, first: int
) -> Iterator[SimulatedAlert]:
    del seed  # it is in the first alert's number, which is the object's name
    return lsst_packets.thing_packets(rng, plan.label, first, plan.alerts)


def write_alerts(
    folder: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    *,
    proportions: Mapping[str, float] = DEFAULT_PROPORTIONS,
    label_noise: float = 0.0,
    survey: str = DEFAULT.name,
    num_workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda alerts: None,
) -> None:
    """Simulates alerts into `folder/alerts/*.avro`, and their labels into `folder/labels.csv`.

    Args:
        folder: is made if need be; must not hold alerts yet.
        count: number of alerts.
        seed: the same seed makes the same files, whatever the number of workers.
        proportions: share of each class; they need not add up to 1.
        label_noise: share of labels that are replaced by a wrong one; `labels.csv` then has a
            column `true_label` too.
        survey: whose alerts: "ztf" or "lsst".
        num_workers: processes; by default one per core, and none for one or two files.
        overwrite: replace an earlier simulation.
        progress: is told the number of alerts in each file that is done.

    Raises:
        UsageError: the numbers make no sense.
        OutputError: the folder holds alerts already.

    Example:
        >>> import tempfile; folder = tempfile.mkdtemp()
        >>> write_alerts(folder, 2, seed=1, proportions={"o": 1.0})
        >>> Path(folder, "labels.csv").read_text().splitlines()[0]
        'oid,candid,label'
    """
    if not 0 <= label_noise <= 1:
        raise UsageError(f"label noise is {label_noise}, not a share from 0 to 1")
    _simulator(survey)
    plans = plan_objects(count, seed, proportions)
    target, labels = Path(folder) / "alerts", Path(folder) / "labels.csv"
    _check_folder(target, labels, overwrite)
    # a run that stops early leaves nothing that looks complete
    unfinished = target.with_name("alerts.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    rows: list[tuple[str, int, str]] = []
    write = functools.partial(_write_file, unfinished, survey, seed)
    for made in workers.map_chunks(_files(plans), write, num_workers):
        rows += made
        progress(len(made))
    _write_labels(unfinished / "labels.csv", rows, label_noise, seed)
    labels.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    (unfinished / "labels.csv").replace(labels)
    unfinished.replace(target)


def _check_folder(target: Path, labels: Path, overwrite: bool) -> None:
    if not (target.exists() or labels.exists()):
        return
    if not overwrite:
        raise OutputError(f"{target.parent} holds alerts already: --overwrite replaces them")
    if target.exists() and not all(map(_OWN_FILE.fullmatch, os.listdir(target))):
        raise OutputError(f"{target} holds other files than simulated alerts: not replaced")


def _files(plans: list[ObjectPlan]) -> list[tuple[int, list[ObjectPlan]]]:
    """(number, objects) of each file."""
    files: dict[int, list[ObjectPlan]] = {}
    for plan in plans:
        files.setdefault(plan.first_alert // _FILE_ALERTS, []).append(plan)
    return list(files.items())


def _write_file(
    folder: Path, survey: str, seed: int, file: tuple[int, list[ObjectPlan]]
) -> list[tuple[str, int, str]]:
    """Writes one container; returns (object's name, alert's identifier, label) of its alerts."""
    number, plans = file
    simulator = _simulator(survey)
    alerts = [alert for plan in plans for alert in _simulate(simulator, plan, seed)]
    buffer = io.BytesIO()
    # drawn by the writer otherwise, and no two runs would be alike
    marker = np.random.default_rng((seed, 0, 1, number)).bytes(16)
    fastavro.writer(buffer, simulator.schema, [a.record for a in alerts], sync_marker=marker)
    (folder / f"{number:06d}.avro").write_bytes(buffer.getvalue())
    return [(*simulator.identity(a.record), a.label) for a in alerts]


def _write_labels(
    path: Path, rows: list[tuple[str, int, str]], label_noise: float, seed: int
) -> None:
    rng = np.random.default_rng((seed, 0, 2))
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("oid", "candid", "label", *(("true_label",) if label_noise else ())))
        for oid, candid, label in rows:
            given = label
            if rng.uniform() < label_noise:
                given = str(rng.choice([c for c in CLASSES if c != label]))
            writer.writerow((oid, candid, given, *((label,) if label_noise else ())))


_OWN_FILE: Final = re.compile(r"\d{6}\.avro")
_SIMULATORS: Final = {
    "ztf": _Simulator(
        _ztf_packets,
        fastavro.parse_schema(schema402.alert_schema()),
        lambda record: (record["objectId"], record["candid"]),
    ),
    "lsst": _Simulator(
        _lsst_packets,
        fastavro.parse_schema(lsst_schema.alert_schema()),
        lsst_packets.identity,
    ),
}
