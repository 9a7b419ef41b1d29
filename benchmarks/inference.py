"""Alerts scored per second, arrays to five scores, beside the other programs that do the same.

    python -m benchmarks.inference --weights ../shared/data/acai_h5

Needs the packages of the extra `bench`. Every program is first checked to give our scores to 1e-5.
Results go to benchmarks/results/inference-<device>.json.
"""

import argparse
import functools
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import acai_jax
from acai_jax.surveys.ztf import FEATURE_NAMES, STAMP_SIZE
from benchmarks import peers, timing

TOLERANCE = 1e-5


def random_inputs(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    features = rng.normal(size=(count, len(FEATURE_NAMES))).astype(np.float32)
    triplets = rng.normal(size=(count, STAMP_SIZE, STAMP_SIZE, 3)).astype(np.float32)
    return features, triplets / np.linalg.norm(triplets, axis=(1, 2), keepdims=True)


def programs_for(scorers: list[tuple[str, peers.Scores, int]], batch: int) -> list[timing.Program]:
    """Every scorer as a program that scores one batch; the first is the reference.

    Raises:
        ValueError: a scorer's scores differ from the first one's.
    """
    features, triplets = random_inputs(batch)
    _, reference, _ = scorers[0]
    expected = reference(features, triplets)
    programs = []
    for name, score, most in scorers:
        count = min(batch, most)
        inputs = features[:count], triplets[:count]
        difference = float(np.abs(score(*inputs) - expected[:count]).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{name}: scores differ by {difference}")
        programs.append(timing.Program(name, functools.partial(score, *inputs), count))
    return programs


def main() -> None:
    parser = argparse.ArgumentParser(description="Alerts scored per second, beside peers.")
    parser.add_argument(
        "--weights", type=Path, default=timing.DATA / "acai_h5", help="folder of the .h5 files"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256, 1024])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        for where in ("anew", "from the persistent cache"):
            scorer = acai_jax.Scorer.load("published", weights_dir=arguments.weights)
            start = time.perf_counter()
            scorer.warm_up()
            seconds = time.perf_counter() - start
            print(f"compiling every batch size {where}: {seconds:.1f} s")
        jax.config.update("jax_compilation_cache_dir", None)
    everything = max(arguments.batches)
    scorers: list[tuple[str, peers.Scores, int]] = [("acai_jax", scorer.score_arrays, everything)]
    for peer in peers.PEERS:
        scorers.append((peer.name, peer.build(arguments.weights), peer.most_alerts or everything))
    groups = [
        (f"five heads, batches of {batch}", programs_for(scorers, batch))
        for batch in arguments.batches
    ]
    timing.compare("inference", groups, arguments.rounds)


if __name__ == "__main__":
    main()
