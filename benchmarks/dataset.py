"""Labelled alerts to a dataset and back, beside the original's way; and memory over a long run.

    python -m benchmarks.dataset
    python -m benchmarks.dataset --long 100000

Alerts are simulated. Ours is the TFDS builder on all cores, starting workers included; reading is
by index, in random order, on one core. The original's way: each alert's candidate fields as JSON,
its triplet as .npy, in one folder, written and read one by one by one process.
Results go to benchmarks/results/dataset-<device>.json and dataset-long-run-<device>.json.
"""

import argparse
import collections
import functools
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from rich.console import Console

from acai_jax.datasets.builders.ztf_acai import Builder
from acai_jax.datasets.labels import read_labels
from acai_jax.datasets.records import Records
from acai_jax.simulate import write_alerts
from acai_jax.surveys.ztf import FEATURE_NAMES
from benchmarks import peers, timing
from benchmarks.end_to_end import resident_megabytes

READS = 2_000


def build(sources: list[Path], labels: Path, data_dir: Path) -> Builder:
    """The dataset of these alerts, made anew."""
    shutil.rmtree(data_dir, ignore_errors=True)
    builder = Builder(
        data_dir=data_dir,
        config="alerts",
        file_format="array_record",
        sources=sources,
        labels=labels,
    )
    builder.download_and_prepare()
    return builder


def packets(sources: list[Path], count: int) -> Iterator[dict[str, object]]:
    """The first `count` alerts as fastavro reads them, its schema parsed once for each file."""
    for path in sources:
        for alert in fastavro.reader(io.BytesIO(path.read_bytes())):
            if count == 0:
                return
            count -= 1
            assert isinstance(alert, dict)
            yield alert


def package_as_original(sources: list[Path], folder: Path, count: int) -> list[str]:
    """JSON and .npy of each alert; returns their names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = []
    for alert in packets(sources, count):
        _, triplets = peers.original_inputs(alert)
        name = str(alert["candid"])
        fields = {key: value for key, value in alert.items() if not key.startswith("cutout")}
        (folder / f"{name}.json").write_text(json.dumps(fields))
        np.save(folder / f"{name}.npy", triplets[0])
        names.append(name)
    return names


def read_as_original(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and triplet of one alert."""
    alert = json.loads((folder / f"{name}.json").read_text())
    features = np.array([alert["candidate"][field] for field in FEATURE_NAMES], np.float32)
    return features, np.load(folder / f"{name}.npy")


def long_run(count: int, folder: Path) -> None:
    """Packages `count` alerts and reports rate and memory; few are drawn, and sent again."""
    samples: list[float] = []
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(0.5):
            samples.append(resident_megabytes())

    sources, labels = many_alerts(folder, count)
    thread = threading.Thread(target=sample)
    thread.start()
    os.sync()  # or the disk would still be writing the sources
    start = time.perf_counter()
    builder = build(sources, labels, folder / "datasets")
    seconds = time.perf_counter() - start
    finished.set()
    thread.join()
    records = sum(split.num_examples for split in builder.info.splits.values())
    assert records == count
    step = max(len(samples) // 10, 1)
    tenths = [round(max(samples[i : i + step])) for i in range(0, len(samples) - step + 1, step)]
    Console().print(
        f"{count:,} alerts in {seconds:.0f} s: {count / seconds:,.0f} alerts/s\n"
        f"highest resident memory in each tenth of the run [MB]: {tenths}"
    )
    rate = {"alerts": count, "alerts_per_second": count / seconds}
    timing.write_results("dataset-long-run", [{**rate, "resident_megabytes_by_tenth": tenths}])


def many_alerts(folder: Path, count: int, drawn: int = 2_000) -> tuple[list[Path], Path]:
    """`count` alerts: simulated ones, over and over, each time with other names."""
    write_alerts(folder / "simulated", drawn)
    table = read_labels(folder / "simulated" / "labels.csv").table
    label_of = dict(zip(table["candid"], table["label"], strict=True))
    originals = sorted((folder / "simulated" / "alerts").iterdir())
    sources, rows = [], ["oid,candid,label"]
    (folder / "alerts").mkdir()
    while len(rows) <= count:
        path = originals[len(sources) % len(originals)]
        reader = fastavro.reader(io.BytesIO(path.read_bytes()))
        alerts = []
        for alert in reader:
            if len(rows) > count:
                break
            assert isinstance(alert, dict)
            label = label_of[alert["candid"]]
            candid = alert["candid"] = alert["candidate"]["candid"] = 10**18 + len(rows)
            alert["objectId"] = f"{alert['objectId']}r{len(sources) // len(originals)}"
            rows.append(f"{alert['objectId']},{candid},{label}")
            alerts.append(alert)
        sources.append(folder / "alerts" / f"{len(sources):05d}.avro")
        with sources[-1].open("wb") as file:
            assert reader.writer_schema is not None
            fastavro.writer(file, reader.writer_schema, alerts)
    labels = folder / "labels.csv"
    labels.write_text("\n".join(rows) + "\n")
    return sources, labels


def compare(count: int, rounds: int, folder: Path) -> None:
    """Times building and reading, ours and the original's way in turns."""
    write_alerts(folder, count)
    sources, labels = sorted((folder / "alerts").iterdir()), folder / "labels.csv"
    few = min(400, count)
    again, original = folder / "again", folder / "original"
    building = [
        timing.Program("acai_jax", lambda: build(sources, labels, again), count),
        timing.Program(
            "the original's way", lambda: package_as_original(sources, original, few), few
        ),
    ]
    built: Any = build(sources, labels, folder / "datasets")
    source = built.as_data_source("train")
    records = Records(folder / "datasets", "train")
    names = package_as_original(sources, folder / "read", few)
    check_same(records, folder / "read", names)
    rng = np.random.default_rng(0)
    order = rng.integers(len(records), size=READS).tolist()
    some = rng.choice(names, READS).tolist()
    read_one = functools.partial(read_as_original, folder / "read")
    reading = [
        timing.Program("acai_jax, Records", read_all(records.__getitem__, order), READS),
        timing.Program("TFDS, as_data_source", read_all(source.__getitem__, order), READS),
        timing.Program("the original's way", read_all(read_one, some), READS),
    ]
    groups = [("alerts to a dataset", building), ("records by index, one core", reading)]
    timing.compare("dataset", groups, rounds)


def read_all(read: Callable[[Any], object], keys: list[Any]) -> Callable[[], object]:
    """A program that reads one record after the other, and keeps none."""
    return lambda: collections.deque(map(read, keys), maxlen=0)


def check_same(records: Records, folder: Path, names: list[str]) -> None:
    """Raises unless both ways hold the same arrays."""
    found = {record["candid"]: record for record in records}
    for name in names:
        if record := found.get(int(name)):
            features, triplet = read_as_original(folder, name)
            np.testing.assert_array_equal(record["features"], features)
            np.testing.assert_allclose(record["triplet"], triplet, atol=1e-7)


def main() -> None:
    parser = argparse.ArgumentParser(description="Alerts to a dataset and back, beside a peer.")
    parser.add_argument("--count", type=int, default=4000, help="alerts for each of our rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, help="instead: package this many, watch memory")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.long:
            long_run(arguments.long, folder)
        else:
            compare(arguments.count, arguments.rounds, folder)


if __name__ == "__main__":
    main()
