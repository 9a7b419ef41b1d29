"""Tables of scores whose figures are known, as the evaluation takes them."""

import functools

import numpy as np
import polars as pl

from acai_jax.evaluate.results import Evaluation
from acai_jax.evaluate.run import evaluate_table

PROVENANCE = {"h": {"version": "test"}, "v": {"version": "test", "positives": ["v", "rr"]}}


def score_table(alerts: int = 400, seed: int = 0, *, against: bool = False) -> pl.DataFrame:
    """Alerts of two classes and one that no head is for, four of an object, with fair scores."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["h", "v", "rr", "other"], alerts, p=[0.3, 0.3, 0.1, 0.3])
    columns = {
        "candid": np.arange(alerts) + 10**18,
        "objectId": [f"ZTF26obj{number // 4:04d}" for number in range(alerts)],
        "label": labels,
        "jd": 2458300.5 + rng.uniform(0, 1500, alerts),
        "ra": rng.uniform(0, 360, alerts),
        "dec": rng.uniform(-30, 90, alerts),
        "fid": rng.integers(1, 4, alerts),
        "magpsf": rng.normal(18.5, 1.0, alerts).astype(np.float32),
        "ndethist": rng.integers(1, 200, alerts),
        "reason": [None] * alerts,
        "origin": [str(number) for number in range(alerts)],
    }
    positives = {"h": labels == "h", "v": np.isin(labels, ["v", "rr"])}
    for name, targets in positives.items():
        scores = np.where(targets, rng.beta(4, 1, alerts), rng.beta(1, 4, alerts))
        columns[f"acai_{name}"] = scores.astype(np.float32)
        if against:
            noisy = np.clip(scores + rng.normal(0, 0.3, alerts), 0, 1)
            columns[f"acai_{name}_against"] = noisy.astype(np.float32)
    return pl.DataFrame(columns, schema_overrides={"reason": pl.String, "fid": pl.Int64})


@functools.cache
def small_evaluation(*, against: bool = False, draws: int = 40) -> Evaluation:
    return evaluate_table(
        score_table(against=against),
        PROVENANCE,
        {name: {"version": "other"} for name in PROVENANCE} if against else None,
        draws=draws,
    )
