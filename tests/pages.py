"""A real labelling server in a process of its own, for tests and benchmarks."""

import contextlib
import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.lookup import alerts_of_table
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import read_alerts
from acai_jax.labelling.cards import Cards
from acai_jax.labelling.pick import pick
from acai_jax.labelling.queue import read_queue, read_scores
from acai_jax.labelling.server import LabelServer, Session
from acai_jax.labelling.store import LabelStore

ROOT = Path(__file__).parents[1]


def make_queue(folder: Path, count: int) -> Path:
    """A queue of synthetic alerts, which lie beside it."""
    path = folder / "night.avro"
    path.write_bytes(avro_bytes(*(packet_record(number) for number in range(count))))
    return queue_of(folder, path, count)


def queue_of(folder: Path, alerts: Path, count: int) -> Path:
    """A queue of the alerts that lie somewhere, with scores that nobody computed."""
    packets = [each for each in read_alerts(alerts) if isinstance(each, AlertPacket)]
    survey = packets[0].survey
    names = (survey.time, "ra", "dec", survey.band, survey.magnitude)
    scores = [place / len(packets) for place in range(len(packets))]
    rows = {
        survey.alert_id: [each.alert_id for each in packets],
        survey.object_id: [each.object_id for each in packets],
        **{name: [each.fields[name] for each in packets] for name in names},
        "origin": [each.origin for each in packets],
        **dict.fromkeys(("acai_h", "acai_v"), scores),
    }
    pl.DataFrame(rows).write_parquet(folder / "scores.parquet")
    queue = pick(read_scores([folder / "scores.parquet"]), count)
    queue.write_parquet(folder / "queue.parquet")
    return folder / "queue.parquet"


@contextlib.contextmanager
def serving(
    queue_file: Path, folder: Path, **options: Any
) -> Iterator[tuple[LabelServer, Session]]:
    """A server of a queue in this process, with a store in a folder."""
    queue, store = read_queue(queue_file), LabelStore(folder / "labels.db")
    session = Session(queue, _cards(queue_file), store, **options)
    server = LabelServer(session, 0)
    yield server, session
    server.close()
    store.close()


@functools.cache
def _cards(queue_file: Path) -> Cards:
    queue = read_queue(queue_file)
    return Cards(queue, alerts_of_table(queue, histories=True))


class LabelProcess:
    """`acai-jax label`, running.

    Attributes:
        url: of the page, with the token.
        process: may be killed.
    """

    def __init__(self, arguments: Sequence[object]) -> None:
        command = [sys.executable, "-m", "acai_jax", "label", *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"open (http://\S+)", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(self.said))
        self._listener = threading.Thread(
            target=self.said.extend, args=(self.process.stderr,), daemon=True
        )
        self._listener.start()

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.url.partition("/?")[0].rpartition(":")[2])

    def close(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def labelling(*arguments: object) -> Iterator[LabelProcess]:
    """A running `acai-jax label` with these arguments."""
    running = LabelProcess(arguments)
    try:
        yield running
    finally:
        running.close()
