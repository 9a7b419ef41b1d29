"""Training on an accelerator, beside PyTorch where it is installed.

    python -m benchmarks.gpu            # begins no row after 6 minutes; the same command goes on
    python -m benchmarks.gpu --small    # a try on a CPU, whose figures say nothing

Needs no data and no network: alerts are random. PyTorch's networks have the same layers, and its
steps the same batches, dropout, loss and AMSGrad.

Parts:
    step      a step of K heads, 32 alerts each: ours; ours with the gradients that automatic
              differentiation makes of the plain form; PyTorch's, in turn, compiled, vmapped.
    sweep     32 members in one program, and one after the other; compilation included.
    protocol  a whole training on 200,000 alerts, and the 27 points of the published grid on them,
              both reckoned from steps that are timed here; nothing is read.

Rows are written to benchmarks/results/gpu-<device>.json as they come. A row or a peer that fails is
named, and does not stop the others.
"""

import argparse
import contextlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
from rich.console import Console

from acai_jax.classes import CLASSES
from acai_jax.errors import reason_of
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.separable import separable_conv
from acai_jax.simulate import DEFAULT_PROPORTIONS
from acai_jax.surveys.ztf import FEATURE_NAMES, STAMP_SIZE
from acai_jax.sweep.search import config_of, original_grid
from acai_jax.training import Config
from acai_jax.training.step import (
    Batches,
    Data,
    Programs,
    Settings,
    head_key,
    start_state,
    start_weights,
)
from benchmarks import timing

BATCH = 32
RATE, DROPOUT = 1e-3, 0.25
ALERTS = 4096  # at hand; a step takes its batch from these
PEER_STEPS = 10  # of PyTorch, before its device is waited for
ROUNDS = 5
PROTOCOL_ALERTS, TRAINING_SHARE, EPOCHS = 200_000, 0.81, 40 + 30
MEMBERS = 32  # of the sweep

Row = dict[str, Any]


def random_alerts(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, triplets, and which alerts are positives."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, len(FEATURE_NAMES))).astype(np.float32)
    triplets = rng.normal(size=(count, STAMP_SIZE, STAMP_SIZE, 3)).astype(np.float32)
    triplets /= np.linalg.norm(triplets, axis=(1, 2), keepdims=True)
    return features, triplets, rng.random(count) < 0.3


class Ours:
    """K heads in training, in the one program that accelerators run; called, they take `steps`."""

    def __init__(self, alerts: Any, heads: int, steps: int, config: HeadConfig) -> None:
        features, triplets, positives = alerts
        keys = np.stack([head_key(0, f"{number}") for number in range(heads)])
        self.programs = Programs(config, None, together=True)
        self.state = start_state(start_weights(config, keys))
        rows = np.random.default_rng(1).integers(0, len(features), (heads, steps, BATCH))
        self.batches = Batches(*[rows.astype(np.int32)] * 2)
        self.data = Data(features, np.tile(positives, (heads, 1)), triplets)
        self.settings = Settings(
            keys,
            np.zeros(heads, np.int32),
            np.zeros(heads, np.int32),
            np.full(heads, RATE, np.float32),
            np.ones((heads, 2), np.float32),
            np.full((heads, 2), DROPOUT, np.float32),
        )

    def __call__(self) -> None:
        """A few steps of every head."""
        axes: Any = Data(None, 0, None)  # type: ignore[arg-type]
        found = self.programs.train(self.state, self.settings, self.batches, self.data, axes)
        self.state = found[0]


@contextlib.contextmanager
def plain_form() -> Iterator[None]:
    """Inside, programs are compiled from the form whose gradients JAX makes by itself."""
    with (
        mock.patch("acai_jax.network.layers.accelerated_separable_conv", separable_conv),
        mock.patch("jax.checkpoint", lambda function: function),
        mock.patch("acai_jax.network.head.has_fast_blocks", return_value=False),
    ):
        yield


def torch_programs(alerts: Any, heads: int) -> dict[str, Callable[[], None]]:
    """PyTorch's ways to take one step of each head."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from benchmarks import torch_peer

    return torch_peer.programs(alerts, heads, BATCH, RATE, DROPOUT, PEER_STEPS)


# --- parts -----------------------------------------------------------------------------------


def timed(programs: list[timing.Program]) -> dict[str, str]:
    """Times programs in turns, after a first call that compiles.

    A peer that fails is taken from the list; returns why, by name.
    """
    failed = {}
    for program in list(programs):
        try:
            program.run()
        except Exception as error:
            if program is programs[0]:
                raise
            failed[program.name] = reason_of(error)
            programs.remove(program)
    for _ in range(ROUNDS):
        for program in programs:
            program.round_seconds.append(program.time_round())
    return failed


def seconds_of_step(ours: Ours, steps: int) -> float:
    """Median seconds that a step of all heads takes."""
    program = timing.Program("acai_jax", ours, steps)
    timed([program])
    return 1 / program.rate


def step(heads: int, steps: int, alerts: Any) -> Row:
    """A step of K heads, each way."""
    taken = heads * BATCH
    ours = Ours(alerts, heads, steps, HeadConfig())
    plain = plain_form()(Ours(alerts, heads, steps, HeadConfig()))  # its first call compiles
    programs = [
        timing.Program("acai_jax", ours, taken * steps),
        timing.Program("acai_jax, plain form", plain, taken * steps),
        *(
            timing.Program(name, run, taken * PEER_STEPS)
            for name, run in torch_programs(alerts, heads).items()
        ),
    ]
    failed = timed(programs)
    timing.print_table(Console(width=100), f"{heads} heads x {BATCH} alerts", programs)
    return {
        "heads": heads,
        "milliseconds": {each.name: 1e3 * taken / each.rate for each in programs},
        "head_alerts_per_second": {each.name: each.rate for each in programs},
        "ours_is_faster_by": {each.name: programs[0].rate / each.rate for each in programs},
        "round_seconds": {each.name: each.round_seconds for each in programs},
        "failed": failed,
    }


def sweep(members: int, steps: int, alerts: Any) -> Row:
    """Members of one structure in one program, and one after the other in a smaller one."""

    def seconds_of(heads: int, turns: int) -> float:
        jax.clear_caches()
        start = time.perf_counter()
        program = Ours(alerts, heads, steps, HeadConfig())
        for _ in range(turns):
            program()
        return time.perf_counter() - start

    together, in_turn = seconds_of(members, 1), seconds_of(1, members)
    return {
        "members": members,
        "steps": steps,
        "seconds": {"together": together, "one after the other": in_turn},
        "together_is_faster_by": in_turn / together,
    }


def longest_epoch() -> int:
    """Steps of the head that takes most, with the default balance."""
    training = PROTOCOL_ALERTS * TRAINING_SHARE
    positives = training * max(DEFAULT_PROPORTIONS.values())
    return int(min(training, positives * (1 + Config().balance)) / BATCH)


def protocol(steps: int, alerts: Any) -> Row:
    """Minutes of a whole training, from the time of a step."""
    ours = Ours(alerts, len(CLASSES), steps, HeadConfig())
    seconds = seconds_of_step(ours, steps)
    return {
        "alerts": PROTOCOL_ALERTS,
        "steps": EPOCHS * longest_epoch(),
        "minutes": seconds * EPOCHS * longest_epoch() / 60,
    }


def grid(filters: int, steps: int, alerts: Any) -> Row:
    """Hours of the grid's nine points with so many filters, from the one in their middle."""
    points = [point for point in original_grid() if point["filters"] == filters]
    config = config_of(Config(), points[len(points) // 2]).model
    start = time.perf_counter()
    ours = Ours(alerts, len(CLASSES), steps, config)
    ours()
    compilation = time.perf_counter() - start
    seconds = seconds_of_step(ours, steps)
    whole = compilation + seconds * EPOCHS * longest_epoch()
    return {"filters": filters, "points": len(points), "hours": len(points) * whole / 3600}


def rows(small: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """What is measured, by name, what matters most first."""
    alerts = random_alerts(64 if small else ALERTS)
    steps = 2 if small else 50
    device = tuple(map(jax.device_put, alerts[:2])) + alerts[2:]
    for heads in (2, 3) if small else (5, 80, 20):
        yield f"step of {heads} heads", lambda heads=heads: step(heads, steps, device)
    yield "whole protocol", lambda: protocol(steps, device)
    members = 3 if small else MEMBERS
    yield f"sweep of {members} members", lambda: sweep(members, 4 * steps, device)
    for filters in sorted({point["filters"] for point in original_grid()}):
        yield f"grid, {filters} filters", lambda filters=filters: grid(filters, steps, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a try, in minutes on a CPU")
    parser.add_argument("--minutes", type=float, default=6.0, help="no row is begun after these")
    options = parser.parse_args()
    name = "gpu-small" if options.small else "gpu"
    console, until = Console(width=100), time.monotonic() + 60 * options.minutes
    found = timing.read_results(name)
    done = {row["row"] for row in found}
    for title, measure in rows(options.small):
        if title in done:
            continue
        if time.monotonic() > until:
            console.print(f"out of time before {title}: the same command goes on")
            return
        try:
            found.append({"row": title, **measure()})
        except Exception as error:  # the same command tries it again, after the others
            console.print(f"{title}: {reason_of(error)}", markup=False)
            continue
        console.print(title)
        console.print_json(json.dumps({k: v for k, v in found[-1].items() if k != "round_seconds"}))
        timing.write_results(name, found)
    hours = [row["hours"] for row in found if "hours" in row]
    console.print(f"the whole grid of 27 points, reckoned: {sum(hours):.2f} hours")


if __name__ == "__main__":
    main()
