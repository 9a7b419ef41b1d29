"""What more cores bring: whole commands, held to some of the cores, in turns.

    python -m benchmarks.cores                      # all cores, and one
    python -m benchmarks.cores --cores 16 8 4 2 1

Start and end of a command count, as its user waits for them. Linux only: cores by affinity.
Results go to benchmarks/results/cores-<device>.json.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import timing
from benchmarks.end_to_end import link_alerts


def run_on(cores: set[int], *arguments: object) -> None:
    """One command of `acai-jax`, which sees these cores only."""
    command = [sys.executable, "-m", "acai_jax", *map(str, arguments)]
    hold = functools.partial(os.sched_setaffinity, 0, cores)
    subprocess.run(command, check=True, preexec_fn=hold, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What more cores bring.")
    available = sorted(os.sched_getaffinity(0))
    parser.add_argument("--cores", type=int, nargs="+", default=[len(available), 1])
    parser.add_argument("--alerts", type=int, default=10_000, help="to score")
    parser.add_argument("--simulated", type=int, default=3000, help="to simulate, and to package")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        night = link_alerts(timing.DATA / "alerts", folder / "night", given.alerts)
        labelled = folder / "labelled"
        run_on(set(available), "simulate", "--count", given.simulated, "--out", labelled)
        simulated, out = folder / "simulated", folder / "scores.parquet"
        score = ["score", night, "--weights", timing.DATA / "acai_h5", "--out", out]
        simulate = ["simulate", "--count", given.simulated, "--out", simulated]
        package = ["package", labelled / "alerts", "--labels", labelled / "labels.csv"]
        package += ["--data-dir", folder / "datasets"]
        groups = []
        for command, count in (
            (score, given.alerts),
            (package, given.simulated),
            (simulate, given.simulated),
        ):
            programs = [
                timing.Program(
                    f"{number} cores" if number > 1 else "one core",
                    functools.partial(run_on, set(available[:number]), *command, "--overwrite"),
                    count,
                )
                for number in given.cores
            ]
            groups.append((f"acai-jax {command[0]}, {count:,} alerts", programs))
        timing.compare("cores", groups, given.rounds)


if __name__ == "__main__":
    main()
