"""Avro files to a Parquet table of scores, beside the original's way; and memory over a long run.

    python -m benchmarks.end_to_end --data ../shared/data
    python -m benchmarks.end_to_end --data ../shared/data --long 100000
    python -m benchmarks.end_to_end --data ../shared/data --lsst

The real alerts are repeated, as links. Ours writes the score table as `acai-jax score` does; the
original's way reads each alert with fastavro, gzip and astropy, and calls five Keras models.
LSST's stand in one file, again and again, and the heads are those of `lsst-simulated`.
Results go to benchmarks/results/: end-to-end-<device>.json, long-run- and end-to-end-lsst-.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

import acai_jax
from acai_jax.alerts.avro import read_header
from acai_jax.score.parts import PartWriter
from benchmarks import peers, timing

MEGABYTE = 2**20


def link_alerts(alerts: Path, folder: Path, count: int) -> Path:
    """A folder of `count` links to the alerts, over and over."""
    paths = sorted(path.resolve() for path in alerts.glob("*.avro"))
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:07d}.avro").symlink_to(paths[number % len(paths)])
    return folder


def repeat_container(container: Path, out: Path, times: int) -> Path:
    """A container that holds the blocks of another one, over and over."""
    whole = container.read_bytes()
    head = read_header(whole).size
    out.write_bytes(whole[:head] + whole[head:] * times)
    return out


def score_to_parquet(scorer: acai_jax.Scorer, night: Path, out: Path) -> int:
    """What `acai-jax score NIGHT --out OUT --overwrite` does; returns the number of rows."""
    rows = 0
    with PartWriter(out, {"night": str(night)}, overwrite=True) as writer:
        for table, _ in scorer.score_tables(night):
            writer.add(table)
            rows += len(table)
    return rows


def resident_megabytes() -> float:
    """Resident memory of this process and its workers."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MEGABYTE


def long_run(scorer: acai_jax.Scorer, night: Path, out: Path, count: int) -> None:
    """Scores `count` alerts and reports rate, memory and recompilations."""
    compiled = list(scorer.compiled_batches)
    samples: list[float] = []
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(1.0):
            samples.append(resident_megabytes())

    thread = threading.Thread(target=sample)
    thread.start()
    start = time.perf_counter()
    rows = score_to_parquet(scorer, night, out)
    seconds = time.perf_counter() - start
    finished.set()
    thread.join()
    assert rows == count
    tenths = [
        round(max(samples[i : i + len(samples) // 10]))
        for i in range(0, len(samples) - len(samples) // 10 + 1, max(len(samples) // 10, 1))
    ]
    recompiled = len(scorer.compiled_batches) - len(compiled)
    Console().print(
        f"{rows:,} alerts in {seconds:.0f} s: {rows / seconds:,.0f} alerts/s\n"
        f"highest resident memory in each tenth of the run [MB]: {tenths}\n"
        f"recompilations: {recompiled}"
    )
    timing.write_results(
        "long-run",
        [
            {
                "alerts": rows,
                "alerts_per_second": rows / seconds,
                "resident_megabytes_by_tenth": tenths,
                "recompilations": recompiled,
            }
        ],
    )


def lsst(container: Path, times: int, rounds: int) -> None:
    """Scores LSST's alerts, beside fastavro and astropy with the same heads."""
    scorer = acai_jax.Scorer.load("lsst-simulated")
    scorer.warm_up()
    count = sum(1 for _ in acai_jax.read_alerts(container))

    def with_peers() -> None:
        with container.open("rb") as file:
            pairs = zip(*peers.lsst_packets(file), strict=True)
        scorer.score_arrays(*map(np.stack, pairs))

    with tempfile.TemporaryDirectory() as name:
        night = repeat_container(container, Path(name) / "night.avro", times)
        out = Path(name) / "scores.parquet"
        programs = [
            timing.Program("acai_jax", lambda: score_to_parquet(scorer, night, out), times * count),
            timing.Program("fastavro and astropy, the same heads", with_peers, count),
        ]
        timing.compare("end-to-end-lsst", [("LSST, an Avro file to scores", programs)], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Avro files to Parquet, beside the original.")
    parser.add_argument(
        "--data", type=Path, default=timing.DATA, help="folder with alerts/, acai_h5/"
    )
    parser.add_argument("--count", type=int, default=4000, help="alerts for each of our rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, help="instead: score this many alerts, watch memory")
    parser.add_argument("--lsst", action="store_true", help="instead: LSST's alerts")
    arguments = parser.parse_args()
    if arguments.lsst:
        lsst(arguments.data / "lsst" / "lsst_v10_0.avro", 80, arguments.rounds)
        return

    alerts, weights = arguments.data / "alerts", arguments.data / "acai_h5"
    scorer = acai_jax.Scorer.load("published", weights_dir=weights)
    scorer.warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        night = link_alerts(alerts, folder / "night", arguments.long or arguments.count)
        out = folder / "scores.parquet"
        if arguments.long:
            long_run(scorer, night, out, arguments.long)
            return
        keras = peers.keras_one_alert_at_a_time(peers.read_published_weights(weights))
        few = link_alerts(alerts, folder / "few", 46)
        programs = [
            timing.Program(
                "acai_jax", lambda: score_to_parquet(scorer, night, out), arguments.count
            ),
            timing.Program(
                "the original's way", lambda: list(peers.original_scores(few, keras)), 46
            ),
        ]
        timing.compare("end-to-end", [("Avro files to scores", programs)], arguments.rounds)


if __name__ == "__main__":
    main()
