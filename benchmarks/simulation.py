"""How real simulated alerts look: to the published classifiers, and beside real alerts.

    python -m benchmarks.simulation --count 4000

The judges have never seen the simulation. Four tables: each published classifier at threshold
0.5 on simulated alerts (balanced accuracy); what it says about every kind of object; for each
feature and some simple pixel statistics the two-sample Kolmogorov-Smirnov distance between real
and simulated alerts, mixed from the classes as the real sample is; and, class by class, the share
of simulated alerts within the central 90 % of a larger real sample. Results go to
benchmarks/results/simulation-<device>.json.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.stats
from rich.console import Console
from rich.progress import track
from rich.table import Table

import acai_jax
from acai_jax.alerts.packet import AlertPacket, packet_from_record
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.classes import CLASSES
from acai_jax.simulate import simulate_packets, write_alerts
from acai_jax.surveys.ztf import FEATURE_NAMES, SENTINEL
from benchmarks import timing

CONSOLE = Console(width=110)
THRESHOLD = 0.5


def pixel_statistics(packet: AlertPacket) -> dict[str, float]:
    """Simple figures of the three stamps; sigma is the median absolute deviation's."""
    found = {}
    for name, data in zip(("science", "template", "difference"), packet.cutouts, strict=True):
        image = decode_stamp(data).astype(np.float64)
        bad = ~(np.abs(image) < 1e30)
        good = image[~bad]
        median = np.median(good)
        sigma = 1.4826 * np.median(np.abs(good - median)) or 1.0
        centre = [n // 2 for n in image.shape]
        middle = image[centre[0] - 3 : centre[0] + 4, centre[1] - 3 : centre[1] + 4]
        image[bad] = median
        flat = np.clip(image, *np.percentile(image, (1, 99)))
        found |= {
            f"{name} bad share": bad.mean(),
            f"{name} median": median,
            f"{name} sigma": sigma,
            f"{name} centre max": (np.nanmax(middle) - median) / sigma,
            f"{name} centre min": (np.nanmin(middle) - median) / sigma,
            f"{name} neighbours": np.corrcoef(flat[:, 1:].ravel(), flat[:, :-1].ravel())[0, 1],
        }
    return found


def figures(packets: Iterable[AlertPacket]) -> pl.DataFrame:
    """A row for each alert: features as they stand in the packet, and pixel statistics."""
    rows = []
    for packet in packets:
        fields = {name: packet.candidate.get(name) for name in FEATURE_NAMES}
        rows.append({**fields, **pixel_statistics(packet)})
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.Float64))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    printed = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        printed.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        printed.add_row(*row)
    CONSOLE.print(printed)


def balanced_accuracies(scores: np.ndarray, truth: np.ndarray) -> list[dict[str, object]]:
    results = []
    for index, name in enumerate(CLASSES):
        chosen, positive = scores[:, index] > THRESHOLD, truth == name
        found, spared = chosen[positive].mean(), (~chosen[~positive]).mean()
        results.append(
            {
                "class": name,
                "alerts": int(positive.sum()),
                "true_positive_rate": float(found),
                "true_negative_rate": float(spared),
                "balanced_accuracy": float((found + spared) / 2),
            }
        )
    return results


def two_samples(real: pl.DataFrame, simulated: pl.DataFrame) -> list[dict[str, object]]:
    results = []
    for name in real.columns:
        a, b = (frame[name].drop_nulls().to_numpy() for frame in (real, simulated))
        distance: Any = scipy.stats.ks_2samp(a, b, method="asymp")
        results.append(
            {
                "figure": name,
                "distance": float(distance.statistic),
                "p_value": float(distance.pvalue),
                "real_quartiles": np.percentile(a, (25, 50, 75)).tolist(),
                "simulated_quartiles": np.percentile(b, (25, 50, 75)).tolist(),
            }
        )
    return sorted(results, key=lambda r: -r["distance"])  # type: ignore[operator]


def within_real_range(
    simulated: pl.DataFrame, truth: np.ndarray, statistics: Path
) -> list[dict[str, object]]:
    """For each feature and class, the share of simulated values between real 5 % and 95 %."""
    real = pl.read_csv(statistics, infer_schema_length=None)
    results = []
    for name in FEATURE_NAMES:
        row: dict[str, object] = {"figure": name}
        for c in CLASSES:
            low, high = real.filter(field=name, cls=c).select("p05", "p95").row(0)
            values = simulated[name].to_numpy()[truth == c]
            values = values[values != SENTINEL]  # the ranges leave the sentinel out too
            row[c] = float(((values >= low) & (values <= high)).mean())
        results.append(row)
    return results


def time_simulation(rounds: int, alerts: int = 1000) -> dict[str, object]:
    """Alerts per second of `write_alerts` with a process per core, starting them included."""
    rates = []
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_alerts(folder, alerts, seed)
            rates.append(alerts / (time.perf_counter() - start))
    return {"alerts_per_second": float(np.median(rates)), "rates": rates, "alerts": alerts}


def main() -> None:
    parser = argparse.ArgumentParser(description="How real simulated alerts look.")
    parser.add_argument("--alerts", type=Path, default=timing.DATA / "alerts")
    parser.add_argument("--fink", type=Path, default=timing.DATA / "fink_alerts.parquet")
    statistics = timing.DATA / "field_statistics.csv"
    parser.add_argument("--statistics", type=Path, default=statistics)
    parser.add_argument("--weights", type=Path, default=timing.DATA / "acai_h5")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    speed = time_simulation(arguments.rounds)
    CONSOLE.print(f"simulated and written: {speed['alerts_per_second']:,.0f} alerts/s")
    made = list(
        track(
            simulate_packets(arguments.count, arguments.seed),
            total=arguments.count,
            description="simulating",
        )
    )
    packets = [packet_from_record(alert.record) for alert in made]
    truth = np.array([alert.label for alert in made])
    kinds = np.array([f"{alert.label}: {alert.kind}" for alert in made])
    prepared = prepare_alerts(packets, "acai")
    scorer = acai_jax.Scorer.load("published", weights_dir=arguments.weights)
    scores = scorer.score_arrays(prepared.features, prepared.triplets)

    judged = balanced_accuracies(scores, truth)
    table(
        f"published classifiers at {THRESHOLD} on {len(made):,} simulated alerts",
        ("class", "alerts", "true positives", "true negatives", "balanced accuracy"),
        (
            (str(r["class"]), f"{r['alerts']:,}", *(f"{r[k]:.3f}" for k in list(r)[2:]))
            for r in judged
        ),
    )
    by_kind = [
        {
            "kind": str(kind),
            "alerts": int((kinds == kind).sum()),
            **{
                c: float(s)
                for c, s in zip(CLASSES, (scores[kinds == kind] > 0.5).mean(0), strict=True)
            },
        }
        for kind in np.unique(kinds)
    ]
    table(
        "share of each kind that each classifier takes",
        ("kind", "alerts", *CLASSES),
        ((r["kind"], f"{r['alerts']:,}", *(f"{r[c]:.2f}" for c in CLASSES)) for r in by_kind),
    )

    real = [
        alert
        for alert in acai_jax.read_alerts([arguments.alerts, arguments.fink])
        if isinstance(alert, AlertPacket)
    ]
    real_table = scorer.score_packets(real)
    best = real_table.select(f"acai_{c}" for c in CLASSES).fill_null(-1).to_numpy().argmax(1)
    share = np.bincount(best, minlength=len(CLASSES)) / len(best)
    # as many of each class as the real sample has, in proportion
    by_class = {c: np.flatnonzero(truth == c) for c in CLASSES}
    total = min(len(by_class[c]) / s for c, s in zip(CLASSES, share, strict=True) if s)
    chosen = itertools.chain.from_iterable(
        by_class[c][: int(total * s)] for c, s in zip(CLASSES, share, strict=True)
    )
    compared = two_samples(figures(real), figures(packets[i] for i in chosen))
    table(
        f"{len(real)} real alerts and simulated ones of the same mix of classes",
        ("figure", "KS distance", "p", "real quartiles", "simulated quartiles"),
        (
            (
                str(r["figure"]),
                f"{r['distance']:.2f}",
                f"{r['p_value']:.1g}",
                *(" ".join(f"{q:.4g}" for q in r[f"{w}_quartiles"]) for w in ("real", "simulated")),  # type: ignore[union-attr]
            )
            for r in compared
        ),
    )
    inside = within_real_range(figures(packets), truth, arguments.statistics)
    table(
        "share of simulated alerts within the central 90 % of 338 real ones, by class",
        ("figure", *CLASSES),
        ((str(r["figure"]), *(f"{r[c]:.2f}" for c in CLASSES)) for r in inside),
    )
    found = {"judged": judged, "kinds": by_kind, "figures": compared, "within": inside}
    timing.write_results("simulation", [{"speed": speed, **found}])


if __name__ == "__main__":
    main()
