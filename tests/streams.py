"""Streams for tests: alerts as messages, workers in threads and in processes of their own."""

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
from synthetic import avro_bytes, bare_avro, packet_record, stamp

from acai_jax.alerts.packet import AlertPacket, read_packet
from acai_jax.classes import CLASSES
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import save_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer
from acai_jax.stream.metrics import Metrics
from acai_jax.stream.run import run_stream
from acai_jax.stream.settings import ClientSettings, StreamSettings
from acai_jax.stream.tables import scan_tables

# a broker may wait for half of the session's time before a group is formed
CLIENT = {
    "ACAI_JAX_KAFKA_TRANSACTION_TIMEOUT_MS": "6000",
    "ACAI_JAX_KAFKA_SESSION_TIMEOUT_MS": "1500",
    "ACAI_JAX_KAFKA_HEARTBEAT_INTERVAL_MS": "250",
    "ACAI_JAX_KAFKA_FETCH_WAIT_MAX_MS": "50",
    "ACAI_JAX_KAFKA_RECONNECT_BACKOFF_MAX_MS": "500",
}
SECONDS = 300.0
"""How long anything may take before a test fails: a bound for a machine with much else to do."""


@functools.cache
def alert(number: int) -> bytes:
    """A message; its alert has this number as candid, and is known by it alone."""
    return avro_bytes(packet_record(number % 50, candid=number))


def overflowing() -> bytes:
    """A container whose skipped string claims nearly 2^64 bytes."""
    schema = b'{"type": "record", "name": "r", "fields": [{"name": "fp_hists", "type": "string"}]}'
    head = b"Obj\x01" + bytes([2, 22]) + b"avro.schema" + _long(len(schema)) + schema + bytes(1)
    claimed = b"\xfe" + b"\xff" * 8 + b"\x01"
    sync = b"S" * 16
    return head + sync + _long(1) + _long(len(claimed)) + claimed + sync


def small_alerts(count: int) -> Iterator[bytes]:
    """Small messages, told apart by their candids from 2^60 on, and by nothing else."""
    flat = {"fileName": "flat", "stampData": stamp(np.indices((63, 63)).sum(0, np.float32))}
    stamps = dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"), flat)
    before, found, after = avro_bytes(packet_record(candid=2**60, **stamps)).partition(_long(2**60))
    assert found
    return (b"".join((before, _long(2**60 + number), after)) for number in range(count))


def _long(value: int) -> bytes:
    return bare_avro(value, "long")


def small_bank() -> HeadBank:
    versions = {name: {"version": f"test_{name}"} for name in CLASSES}
    heads = create_heads(HeadConfig(filters=(4, 4)), 5, jax.random.key(0))
    return HeadBank(heads, CLASSES, versions)


@functools.cache
def small_scorer() -> Scorer:
    """A scorer that is warm already, as the cache of compiled programs is for child processes."""
    scorer = few_sizes(Scorer(small_bank()))
    scorer.warm_up()
    return scorer


def few_sizes(scorer: Scorer) -> Scorer:
    """The scorer with small batches alone: every run of a stream tries them all."""
    scorer._batches = (1, 8, 32)
    return scorer


def save_model(folder: Path) -> Path:
    save_heads(small_bank(), folder / "heads")
    return folder / "heads"


def settings(broker: Any, out: Path, *topics: str, **changes: Any) -> StreamSettings:
    changes = {"until_end": True, "group": out.name, **changes}
    return StreamSettings(bootstrap_servers=broker.bootstrap, out=out, topics=topics, **changes)


def run(scorer: Scorer, settings: StreamSettings, **environment: str) -> Metrics:
    """Runs a stream in this thread, to its end."""
    return run_stream(settings, scorer, client=ClientSettings(None, CLIENT | environment))


class Worker:
    """A stream in a thread; leaving the context stops it and raises what it raised."""

    def __init__(self, scorer: Scorer, settings: StreamSettings, **environment: str) -> None:
        self._environment = CLIENT | environment
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.metrics: Metrics | None = None
        self._thread = threading.Thread(target=self._run, args=(scorer, settings), daemon=True)

    def _run(self, scorer: Scorer, settings: StreamSettings) -> None:
        try:
            client = ClientSettings(None, self._environment)
            self.metrics = run_stream(settings, scorer, client=client, stop=self.stop)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the worker does not stop"
        if self.error is not None:
            raise self.error


def login(broker: Any, user: str, password: str) -> dict[str, str]:
    """The environment in which a stream proves to a broker that wants it who it is."""
    return {f"ACAI_JAX_KAFKA_{k}": v for k, v in broker.login(user, password).items()}


def start_process(
    *arguments: object, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """`acai-jax stream` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "acai_jax", "stream", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"} | CLIENT | (environment or {}),
    )


def flags(broker: Any, out: Path, model: Path, *topics: str) -> list[object]:
    found: list[object] = ["--bootstrap-servers", broker.bootstrap, "--out", out]
    found += ["--model", model, "--group", out.name]
    return found + [flag for topic in topics for flag in ("--topic", topic)]


def wait_for(condition: Callable[[], object], what: str = "what is waited for") -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in {SECONDS:.0f} s"
        time.sleep(0.05)


def written(out: Path) -> list[int]:
    """The candids in the score table."""
    if not any((out / "scores").glob("*/*.parquet")):
        return []
    try:
        return scan_tables(out).select("candid").collect()["candid"].to_list()
    except (pl.exceptions.PolarsError, OSError):  # merged away just now
        return written(out)


def rejects(out: Path) -> pl.DataFrame:
    return scan_tables(out / "rejects").collect()


def assert_scored(out: Path, scorer: Scorer, messages: list[bytes]) -> pl.DataFrame:
    """The table holds the alert of every message, each once, with the scores of the scorer."""
    packets: dict[int, AlertPacket] = {}
    for raw in messages:
        packet = read_packet(raw)
        packets.setdefault(packet.candid, packet)
    table = scan_tables(out).collect()
    assert sorted(table["candid"]) == sorted(packets)
    expected = scorer.score_packets(list(packets.values())).sort("candid")
    table = table.sort("candid")
    columns = [name for name in expected.columns if name != "origin"]
    scores = [name for name in columns if expected.schema[name] == pl.Float32]
    exact = [name for name in columns if name not in scores]
    assert table.select(exact).equals(expected.select(exact))
    for name in scores:
        ours, theirs = table[name], expected[name]
        assert ours.is_null().equals(theirs.is_null()), name
        # batches of other sizes
        np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-5)
    return table
