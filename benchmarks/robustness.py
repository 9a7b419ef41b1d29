"""What hostile and damaged inputs cost: their outcome, their time, and the memory that they take.

    python -m benchmarks.robustness
    python -m benchmarks.robustness --paths some.avro other.parquet

Each file is read in a fresh process, up to the arrays that the networks take. Memory is the
process's highest, above that of one which has read one good alert. There is no peer.
Results go to benchmarks/results/robustness-<device>.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import timing

CASES = timing.DATA.parent / "cases"
FOLDERS = ("packets", "kafka", "json", "tables", "archives")
LIMIT_SECONDS = 300

_READ_ONE = """
import json, resource, sys, time
from acai_jax.alerts import prepare
from acai_jax.errors import SourceError
from acai_jax.alerts.sources import encoded_alerts

def peak():
    try:  # what getrusage says includes the parent's memory, before exec
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except FileNotFoundError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

good, path = sys.argv[1:]
for chunk in prepare.chunks(encoded_alerts(good)):
    prepare.prepare(chunk, "acai")
idle, start, scored, reasons = peak(), time.perf_counter(), 0, []
try:
    for chunk in prepare.chunks(encoded_alerts(path)):
        prepared = prepare.prepare(chunk, "acai")
        scored += len(prepared.accepted)
        reasons += [reason for reason in prepared.columns["reason"] if reason]
except SourceError as error:
    reasons.append(str(error).replace(path, "the file"))
print(json.dumps({
    "scored": scored, "rejects": len(reasons), "first_reason": reasons[0] if reasons else None,
    "seconds": time.perf_counter() - start, "megabytes_above_idle": (peak() - idle) / 1e6,
}))
"""


def read_apart(path: Path, good: Path) -> dict[str, object]:
    """Reads a file in a process of its own; says how that ended."""
    command = [sys.executable, "-c", _READ_ONE, str(good), str(path)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=timing.ROOT, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"not done after {LIMIT_SECONDS} s"}
    if result.returncode:
        return {"failure": (result.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Outcome, time and memory of hostile inputs.")
    parser.add_argument("--alerts", type=Path, default=timing.DATA / "alerts")
    parser.add_argument("--paths", type=Path, nargs="+")
    arguments = parser.parse_args()

    good = next(iter(sorted(arguments.alerts.glob("*.avro"))), None)
    if good is None:
        raise SystemExit(f"no alerts in {arguments.alerts}")
    paths = arguments.paths or [
        path for folder in FOLDERS for path in sorted((CASES / folder).glob("*"))
    ]
    table = Table("file", "scored", "rejects", "first reason", "s", "MB above idle")
    results = []
    for path in paths:
        row = {"file": f"{path.parent.name}/{path.name}", **read_apart(path, good)}
        results.append(row)
        if "failure" in row:
            table.add_row(str(row["file"]), "", "", str(row["failure"]), "", "")
        else:
            cells = (row["scored"], row["rejects"], row["first_reason"] or "")
            seconds, memory = f"{row['seconds']:.2f}", f"{row['megabytes_above_idle']:.0f}"
            table.add_row(str(row["file"]), *map(str, cells), seconds, memory)
    Console(width=140).print(table)
    timing.write_results("robustness", results)


if __name__ == "__main__":
    main()
