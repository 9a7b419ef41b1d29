"""Alerts through a Kafka broker: sustained rate beside a one-by-one loop, latency, memory.

    python -m benchmarks.stream --data ../shared/data
    python -m benchmarks.stream --data ../shared/data --long 100000

The broker, `acai-jax replay` and `acai-jax stream` are processes of this machine and share its
cores. Alerts are simulated; each is sent under many candids. The peer does as Kowalski does: it
takes one message, decodes it with fastavro, gzip and astropy, calls five Keras models, and stores
the scores. An alert has arrived when its message's timestamp says so; it is flushed when another
process sees its row in the folder of scores.
The broker is Apache Kafka where `java` and `mvn` are; results name it.
Results go to benchmarks/results/stream-<device>.json and stream-long-run-<device>.json.
"""

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from rich.console import Console
from rich.table import Table

from acai_jax import read_packet
from acai_jax.simulate import write_alerts
from acai_jax.stream.messages import Message, alert_messages
from benchmarks import peers, timing

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # which has the broker
from broker import Broker, shared_broker

MEGABYTE = 2**20
DISTINCT = 1_000  # alerts simulated; copies of them differ in candid alone
PARTITIONS = 4
WARM_UP = 32
WAVE = 10 * DISTINCT
SESSION_MS = "6000"  # the tests' broker forms a group after half of it
PEER_ALERTS = 100
LOST_SECONDS = 120.0

Alert = tuple[int, bytes]
"""candid, and the message."""


# alerts -----------------------------------------------------------------------------------------


def simulate(folder: Path) -> list[Alert]:
    write_alerts(folder, DISTINCT, seed=5)
    messages = [m.content for m, _ in alert_messages(folder) if isinstance(m, Message)]
    shutil.rmtree(folder)
    return [(read_packet(raw).candid, raw) for raw in messages]


def avro_long(value: int) -> bytes:
    import fastavro

    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, {"type": "long"}, value)
    return buffer.getvalue()


def copies(alerts: list[Alert], first: int, count: int) -> Iterator[bytes]:
    """Messages `first` to `first + count` of an endless night: no candid comes twice."""
    for number in range(first, first + count):
        copy, index = divmod(number, len(alerts))
        candid, raw = alerts[index]
        old, new = avro_long(candid), avro_long(candid + copy * 10 * DISTINCT)
        assert len(old) == len(new)
        yield raw.replace(old, new)


def write_night(folder: Path, alerts: list[Alert], first: int, count: int) -> Path:
    folder.mkdir()
    for number, raw in enumerate(copies(alerts, first, count)):
        (folder / f"{number:07d}.avro").write_bytes(raw)
    return folder


# processes --------------------------------------------------------------------------------------


def replay(broker: Broker, night: Path, topic: str, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "acai_jax", "replay", str(night), "--topic", topic]
    command += ["--bootstrap-servers", broker.bootstrap, *flags]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def streaming(
    broker: Broker, out: Path, weights: Path, topics: list[str], *flags: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`acai-jax stream`, which is told to end when the context does."""
    command = [sys.executable, "-m", "acai_jax", "stream", "--out", str(out), *flags]
    command += ["--bootstrap-servers", broker.bootstrap, "--weights", str(weights)]
    command += ["--group", out.name, *(flag for name in topics for flag in ("--topic", name))]
    environment = {**os.environ, "ACAI_JAX_KAFKA_SESSION_TIMEOUT_MS": SESSION_MS}
    log = out.parent / f"{out.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            if process.wait():
                sys.exit(f"acai-jax stream ended with {process.returncode}:\n{log.read_text()}")


class Watcher(threading.Thread):
    """Looks for new files of scores every few milliseconds, as another reader would."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.rows = 0
        self.seen: list[tuple[float, int]] = []
        """(time, rows so far) of each file."""
        self.latencies: list[np.ndarray] = []
        """Seconds from the timestamp of a message to the sight of its row."""
        self._scores = out / "scores"
        self._known: set[str] = set()
        self._end = threading.Event()

    def run(self) -> None:
        """Looks until it is told to finish."""
        while not self._end.wait(0.01):
            for folder in self._scores.iterdir() if self._scores.is_dir() else ():
                for name in sorted(set(os.listdir(folder)) - self._known):
                    self._look(folder / name, time.time())

    def _look(self, path: Path, now: float) -> None:
        if path.suffix != ".parquet":
            return
        self._known.add(path.name)
        _, first, last = path.stem.split("-")
        if first != last:  # merged from files that were seen
            return
        times = pl.read_parquet(path, columns=["timestamp"])["timestamp"]
        self.latencies.append(now - times.dt.epoch("ms").to_numpy() / 1000)
        self.rows += len(times)
        self.seen.append((now, self.rows))

    def wait_for(self, rows: int, process: subprocess.Popen[bytes]) -> None:
        """Waits until so many rows are flushed; fails if `process` ends or nothing moves."""
        last, since = -1, time.monotonic()
        while self.rows < rows:
            if self.rows > last:
                last, since = self.rows, time.monotonic()
            assert process.poll() is None or self.rows >= rows, "the stream has ended"
            assert time.monotonic() - since < LOST_SECONDS, f"{rows - self.rows} rows are missing"
            time.sleep(0.05)

    def finish(self) -> None:
        """Looks no more."""
        self._end.set()
        self.join()


@contextlib.contextmanager
def watching(out: Path) -> Iterator[Watcher]:
    watcher = Watcher(out)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.finish()


# sustained rate ---------------------------------------------------------------------------------


def drain(broker: Broker, topic: str, count: int, out: Path, weights: Path) -> float:
    """Alerts per second from the first flushed batch to the last, of a topic that is full."""
    with streaming(broker, out, weights, [topic]) as process, watching(out) as watcher:
        watcher.wait_for(count, process)
    (start, first), (end, last) = watcher.seen[0], watcher.seen[-1]
    assert last == count
    return (last - first) / (end - start)


def peer(bootstrap: str, topic: str, count: int, weights: Path, out: Path, answer: Any) -> None:
    """One message at a time, as Kowalski does it; answers alerts per second."""
    import fastavro
    from confluent_kafka import Consumer

    score = peers.keras_one_alert_at_a_time(peers.read_published_weights(weights))
    settings = {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex}
    settings |= {"auto.offset.reset": "earliest", "session.timeout.ms": int(SESSION_MS)}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    started, done = 0.0, -1  # the first one also loads what Keras needs
    with out.open("w") as file:
        while done < count:
            message = consumer.poll(1.0)
            if message is None or message.error():
                continue
            alerts: Any = fastavro.reader(io.BytesIO(message.value() or b""))
            for alert in alerts:
                scores = score(*peers.original_inputs(alert))[0]
                file.write(json.dumps([alert["candid"], *map(float, scores)]) + "\n")
                file.flush()
            done += 1
            started = started or time.perf_counter()
    answer.put(done / (time.perf_counter() - started))
    consumer.close()


def peer_rate(broker: Broker, topic: str, weights: Path, folder: Path) -> float:
    # in a process of its own, as TensorFlow takes all cores that it finds
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    arguments = (broker.bootstrap, topic, PEER_ALERTS, weights, folder / "peer.jsonl", answer)
    process = spawn.Process(target=peer, args=arguments)
    process.start()
    rate = answer.get(timeout=600)
    process.join()
    return rate


def sustained(
    console: Console, alerts: list[Alert], folder: Path, weights: Path, count: int, rounds: int
) -> list[dict[str, object]]:
    ours = timing.Program("acai-jax stream", lambda: None, count)
    theirs = timing.Program("one alert, five Keras calls", lambda: None, PEER_ALERTS)
    with shared_broker(folder / "broker") as broker:
        topic = broker.create_topic(PARTITIONS)
        night = write_night(folder / "night", alerts, 0, count)
        started = time.monotonic()
        assert replay(broker, night, topic).wait() == 0
        console.print(f"replay: {count / (time.monotonic() - started):,.0f} alerts/s, from start")
        shutil.rmtree(night)
        others = timing.OtherProcesses()
        for number in range(rounds):  # in turns, so that whatever else happens strikes them alike
            rate = drain(broker, topic, count, folder / f"drain-{number}", weights)
            ours.round_seconds.append(count / rate)
            rate = peer_rate(broker, topic, weights, folder)
            theirs.round_seconds.append(PEER_ALERTS / rate)
    timing.print_table(console, "sustained, broker on the same machine", [ours, theirs])
    return [
        {
            "program": program.name,
            "alerts_per_second": program.rate,
            "ours_is_faster_by": ours.rate / program.rate,
            "alerts": program.alerts,
            "rates": program.rates,
            # the programs themselves run in other processes than this one
            "cores_busy": round(others.cores(), 2),
        }
        for program in (ours, theirs)
    ]


# latency ----------------------------------------------------------------------------------------


def latency(
    alerts: list[Alert], folder: Path, weights: Path, rate: int, seconds: int
) -> dict[str, object]:
    """Seconds from arrival to flushed row, while alerts come at a steady rate."""
    name = f"rate-{rate}"
    warm = write_night(folder / f"{name}-warm", alerts, 0, WARM_UP)
    night = write_night(folder / f"{name}-night", alerts, WARM_UP, rate * seconds)
    out = folder / name
    with shared_broker(folder / "broker") as broker:
        topic = broker.create_topic(PARTITIONS)
        with streaming(broker, out, weights, [topic]) as process, watching(out) as watcher:
            assert replay(broker, warm, topic).wait() == 0
            watcher.wait_for(WARM_UP, process)
            before = len(watcher.latencies)
            assert replay(broker, night, topic, "--rate", str(rate)).wait() == 0
            watcher.wait_for(WARM_UP + rate * seconds, process)
    shutil.rmtree(night)
    measured = np.concatenate(watcher.latencies[before:])
    p50, p99 = np.quantile(measured, (0.5, 0.99))
    return {
        "rate": rate,
        "alerts": len(measured),
        "p50_seconds": round(float(p50), 3),
        "p99_seconds": round(float(p99), 3),
        "longest_seconds": round(float(measured.max()), 3),
    }


# memory -----------------------------------------------------------------------------------------


class Memory(threading.Thread):
    """Resident memory of processes with their children, each second."""

    def __init__(self, **processes: int) -> None:
        super().__init__(daemon=True)
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._samples: dict[str, list[float]] = {name: [] for name in processes}
        self._end = threading.Event()

    def run(self) -> None:
        """Measures until it is told to finish."""
        while not self._end.wait(1.0):
            for name, process in self._processes.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    family = [process, *process.children(recursive=True)]
                    self._samples[name].append(sum(p.memory_info().rss for p in family))

    def finish(self) -> dict[str, list[int]]:
        """The highest memory in each tenth of the time [MB], by process."""
        self._end.set()
        self.join()
        return {
            name: [round(tenth.max() / MEGABYTE) for tenth in np.array_split(samples, 10)]
            for name, samples in self._samples.items()
        }


def similar_copies(alerts: list[Alert], count: int) -> Iterator[bytes]:
    """As `copies`, with those of one alert after each other, so that they compress well."""
    for first in range(0, count, WAVE):
        numbers = range(first, min(first + WAVE, count))
        for number in sorted(numbers, key=lambda number: number % len(alerts)):
            yield from copies(alerts, number, 1)


def long_run(
    console: Console, alerts: list[Alert], folder: Path, weights: Path, count: int
) -> dict[str, object]:
    """Streams `count` alerts; compressed, lest the broker fill memory or disk."""
    out = folder / "long"
    messages = similar_copies(alerts, count)
    with shared_broker(folder / "broker") as broker:
        topic = broker.create_topic(PARTITIONS)
        with streaming(broker, out, weights, [topic]) as process, watching(out) as watcher:
            memory = Memory(stream=process.pid, broker=broker.pid)
            for sent in range(0, count, WAVE):
                wave = itertools.islice(messages, WAVE)
                broker.produce(topic, wave, compression="zstd")
                watcher.wait_for(max(1, sent), process)  # at most two waves are under way
                if not sent:
                    memory.start()
                console.print(f"{watcher.rows:,} alerts flushed")
            watcher.wait_for(count, process)
            tenths = memory.finish()
    (start, first_rows), (end, last_rows) = watcher.seen[0], watcher.seen[-1]
    assert last_rows == count
    rate = (last_rows - first_rows) / (end - start)
    console.print(f"{count:,} alerts, {rate:,.0f} alerts/s")
    for name, figures in tenths.items():
        console.print(
            f"highest resident memory of {name} in each tenth [MB]: {figures}", soft_wrap=True
        )
    return {
        "alerts": count,
        "alerts_per_second": rate,
        "resident_megabytes_by_tenth": tenths,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Alerts through a broker, beside Kowalski's way.")
    parser.add_argument("--data", type=Path, default=timing.DATA, help="folder with acai_h5/")
    parser.add_argument("--count", type=int, default=10_000, help="alerts for each of our rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="how long latency is measured")
    parser.add_argument("--long", type=int, help="instead: stream this many alerts, watch memory")
    arguments = parser.parse_args()

    weights, console = arguments.data.absolute() / "acai_h5", Console(width=100)
    with (
        tempfile.TemporaryDirectory() as name,
        shared_broker(Path(name) / "broker") as broker,  # which the parts share, if it is Kafka
    ):
        folder = Path(name)
        console.print(f"broker: {broker.name}")
        alerts = simulate(folder / "simulated")
        if arguments.long:
            result = long_run(console, alerts, folder, weights, arguments.long)
            timing.write_results("stream-long-run", [{"broker": broker.name, **result}])
            return
        results = sustained(console, alerts, folder, weights, arguments.count, arguments.rounds)
        table = Table(title="from arrival to flushed row [s]", title_justify="left")
        for column in ("alerts/s", "p50", "p99", "longest", "goal for p99"):
            table.add_column(column, justify="right")
        for rate, goal in ((35, 1), (350, 3)):
            found = latency(alerts, folder, weights, rate, arguments.seconds)
            seconds = (found[key] for key in ("p50_seconds", "p99_seconds", "longest_seconds"))
            table.add_row(str(rate), *map(str, seconds), str(goal))
            results.append(found)
        console.print(table)
        timing.write_results("stream", [{"broker": broker.name, **each} for each in results])


if __name__ == "__main__":
    main()
