"""Heads and simulated alerts, held to the real sky.

    python -m benchmarks.reality                                    # all parts
    python -m benchmarks.reality --parts heads --model checkpoints/new
    python -m benchmarks.reality --parts features images --out /tmp/pictures

    python -m benchmarks.reality --survey lsst                      # features and figures

Parts:
    heads: a model's AUC, FNR and FPR on real alerts that catalogues label, with intervals by
        object, and its agreement with the published heads on other real alerts.
    published: what the published heads, which never saw the simulation, say about it.
    features, images: can a judge tell real alerts from simulated ones, of the same mix of classes?
    figures: two-sample distances of every figure, and the share within the real range by class.
Results go to benchmarks/results/reality-<device>.json, those of heads to
reality-heads-<model>-<device>.json.
"""

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.stats
from rich.console import Console
from rich.table import Table

import acai_jax
from acai_jax.classes import CLASSES
from acai_jax.evaluate.bootstrap import interval, resample
from acai_jax.evaluate.figures import Ranking, ScoreState
from acai_jax.surveys.lsst import LSST
from acai_jax.surveys.ztf import FEATURE_NAMES
from benchmarks import timing, two_samples
from benchmarks.samples import (
    Sample,
    real_sample,
    simulated_sample,
    simulated_samples,
    without_sentinel,
)

CONSOLE = Console(width=170)
PARTS = ("heads", "published", "features", "images", "figures")
THRESHOLD = 0.5
DRAWS = 1000
OTHERS = ("alerts", "fink_alerts.parquet")  # the second are of one exposure, in clouds
UNJUDGED = {"t": "ho"}  # whether these have hosts is not known
PLACES = ("ra", "dec")  # the sample's choice


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints rows; numbers with a fraction get three decimals."""
    printed = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        printed.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        printed.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    CONSOLE.print(printed)


def ranking(scores: np.ndarray, targets: np.ndarray) -> Ranking:
    return ScoreState.from_values(scores.astype(np.float64), targets).ranking()


def judge_heads(
    scorer: acai_jax.Scorer, published: acai_jax.Scorer, data: Path, simulated: Sample
) -> list[dict[str, object]]:
    """The heads on labelled real alerts, and beside the published heads on others."""
    with (data / "real_labelled.csv").open() as file:
        named = {int(row["candid"]): row["label"] for row in csv.DictReader(file)}
    sample = real_sample(data, ("real_labelled.parquet",))
    labels = np.array([named[candid] for candid in sample.candids])
    scores = scorer.score_arrays(sample.features, sample.triplets)
    others = {file: real_sample(data, (file,)) for file in OTHERS}
    of_others = [scorer.score_arrays(each.features, each.triplets) for each in others.values()]
    decided = [
        published.score_arrays(each.features, each.triplets) > THRESHOLD for each in others.values()
    ]
    parts = {
        "all": (np.concatenate(of_others), np.concatenate(decided)),
        **dict(zip(others, zip(of_others, decided, strict=True), strict=True)),
    }
    of_simulated = scorer.score_arrays(simulated.features, simulated.triplets)
    results = []
    for index, name in enumerate(scorer.bank.classes):
        judged = np.array([name not in UNJUDGED.get(label, "") for label in labels])
        values, targets = scores[judged, index], labels[judged] == name
        objects = np.unique(sample.objects[judged], return_inverse=True)[1]
        # in the simulation, FNR and FPR meet at this threshold
        balanced = ranking(of_simulated[:, index], simulated.labels == name)
        limits = THRESHOLD, balanced.figures().balanced_threshold
        ranked = ranking(values, targets)

        def figures(
            counts: np.ndarray,
            values: np.ndarray = values,
            targets: np.ndarray = targets,
            objects: np.ndarray = objects,
            ranked: Ranking = ranked,
            limits: tuple[float, float] = limits,
        ) -> np.ndarray:
            weights = counts[objects]
            rates = []
            for limit in limits:
                for chosen, wrong in ((targets, values < limit), (~targets, values >= limit)):
                    whole = weights[chosen].sum()
                    rates.append((weights * wrong)[chosen].sum() / whole if whole else np.nan)
            return np.array([ranked.figures(weights).auc, *rates])

        count = objects.max() + 1
        low, high = interval(resample(count, figures, DRAWS, 0))
        names = ("auc", "fnr", "fpr", "fnr_balanced", "fpr_balanced")
        place = published.bank.classes.index(name)
        results.append(
            {
                "head": name,
                "positives": int(targets.sum()),
                "negatives": int((~targets).sum()),
                "objects": int(count),
                "balanced_threshold": limits[1],
                **dict(zip(names, figures(np.ones(count)).tolist(), strict=True)),
                "low": dict(zip(names, low.tolist(), strict=True)),
                "high": dict(zip(names, high.tolist(), strict=True)),
                "agreement": {
                    part: _agreement(ours[:, index], theirs[:, place])
                    for part, (ours, theirs) in parts.items()
                },
            }
        )
    return results


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Scores beside decisions."""
    return {
        "alerts": len(theirs),
        "positives": int(theirs.sum()),
        "auc": ranking(ours, theirs).figures().auc,
        "same_decision": float(((ours > THRESHOLD) == theirs).mean()),
    }


def print_heads(model: str, results: list[dict[str, object]]) -> None:
    def within(row: dict, name: str) -> str:
        if np.isnan(row[name]):
            return ""
        return f"{row[name]:.3f} ({row['low'][name]:.3f} to {row['high'][name]:.3f})"

    names = ("auc", "fnr", "fpr", "fpr_balanced")
    table(
        f"{model} on catalogue-labelled real alerts (95 % of draws by object)",
        ("head", "+", "-", "AUC", "FNR at 0.5", "FPR at 0.5", "FPR, balanced"),
        (
            (
                r["head"],
                r["positives"],
                r["negatives"],
                *(within(r, n) for n in names),
            )
            for r in results
        ),
    )
    parts: list[str] = list(results[0]["agreement"])  # type: ignore[call-overload]
    table(
        f"{model} beside the published heads' decisions: AUC, and positives",
        ("head", *parts),
        (
            (
                r["head"],
                *("{auc:.3f}, {positives} of {alerts}".format(**r["agreement"][p]) for p in parts),  # type: ignore[index]
            )
            for r in results
        ),
    )


def judge_simulation(
    published: acai_jax.Scorer, samples: list[Sample]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The published heads on simulated alerts: (by class, by kind), each over the samples."""
    scored = [published.score_arrays(s.features, s.triplets) > THRESHOLD for s in samples]
    by_class = []
    for index, name in enumerate(CLASSES):
        found, spared = [], []
        for sample, called in zip(samples, scored, strict=True):
            positive = sample.labels == name
            found.append(called[positive, index].mean())
            spared.append(1 - called[~positive, index].mean())
        balanced = (np.array(found) + np.array(spared)) / 2
        by_class.append(
            {
                "class": name,
                "true_positive_rate": float(np.mean(found)),
                "true_negative_rate": float(np.mean(spared)),
                "balanced_accuracy": float(balanced.mean()),
                "lowest": float(balanced.min()),
                "highest": float(balanced.max()),
            }
        )
    kinds, called = np.concatenate([s.kinds for s in samples]), np.concatenate(scored)
    by_kind = [
        {
            "kind": str(kind),
            "alerts": int((kinds == kind).sum()),
            **dict(zip(CLASSES, called[kinds == kind].mean(0).tolist(), strict=True)),
        }
        for kind in np.unique(kinds)
    ]
    return by_class, by_kind


def alike(real: Sample, simulated: Sample, published: acai_jax.Scorer, ratio: int = 2) -> Sample:
    """Simulated alerts whose classes are mixed as the real ones are, `ratio` for each of them.

    The class is the one that the published heads rank highest, on both sides.
    """
    theirs, ours = (
        published.score_arrays(s.features, s.triplets).argmax(1) for s in (real, simulated)
    )
    rows = []
    for index in range(len(CLASSES)):
        wanted = ratio * int((theirs == index).sum())
        rows.append(np.flatnonzero(ours == index)[:wanted])
    return simulated.take(np.concatenate(rows))


def judge_features(real: Sample, simulated: Sample) -> dict[str, Any]:
    """Trees on features, all and each alone."""
    names = [name for name in FEATURE_NAMES if name not in PLACES]
    return _judge_columns(names, _features(real, simulated), *two_samples.joined(real, simulated))


def _features(real: Sample, simulated: Sample) -> np.ndarray:
    columns = [index for index, name in enumerate(FEATURE_NAMES) if name not in PLACES]
    return np.concatenate([real.features, simulated.features])[:, columns]


def judge_images(real: Sample, simulated: Sample, out: Path | None) -> tuple[float, dict[str, Any]]:
    """(AUC of a small head on the images alone, trees on simple figures of the pixels)."""
    truth, objects = two_samples.joined(real, simulated)
    triplets = np.concatenate([real.triplets, simulated.triplets])
    scores = two_samples.image_scores(triplets, truth, objects)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        two_samples.picture(out / "reality.png", real, simulated, scores, "images alone")
    pixels = np.concatenate([real.pixels.to_numpy(), simulated.pixels.to_numpy()])
    of_head = float(ranking(1 / (1 + np.exp(-scores)), truth == 1).figures().auc)
    return of_head, _judge_columns(real.pixels.columns, pixels, truth, objects)


def _judge_columns(
    names: list[str], values: np.ndarray, truth: np.ndarray, objects: np.ndarray
) -> dict[str, Any]:
    auc, losses = two_samples.trees(values, truth, objects, importances=True)
    rows = [
        {
            "figure": name,
            "alone": two_samples.trees(values[:, [index]], truth, objects)[0],
            "loss": float(losses[index]),
        }
        for index, name in enumerate(names)
    ]
    rows.sort(key=lambda row: -row["alone"])
    return {"auc": auc, "figures": rows}


def distances(real: Sample, simulated: Sample) -> list[dict[str, Any]]:
    """Two-sample Kolmogorov-Smirnov distances of what is measured, the largest first."""
    results: list[dict[str, Any]] = []
    one, two = (pl.concat([s.table(), s.pixels], how="horizontal") for s in (real, simulated))
    for name in one.columns:
        a, b = (without_sentinel(table[name].to_numpy()) for table in (one, two))
        found = scipy.stats.ks_2samp(a, b, method="asymp")
        results.append(
            {
                "figure": name,
                "distance": float(found.statistic),  # type: ignore[attr-defined]
                "real_quartiles": np.percentile(a, (25, 50, 75)).tolist(),
                "simulated_quartiles": np.percentile(b, (25, 50, 75)).tolist(),
            }
        )
    return sorted(results, key=lambda row: -row["distance"])


def within_real_range(simulated: Sample, statistics: Path) -> list[dict[str, object]]:
    """For each feature and class, the share of simulated values between real 5 % and 95 %."""
    real = pl.read_csv(statistics, infer_schema_length=None)
    results = []
    for index, name in enumerate(FEATURE_NAMES):
        row: dict[str, object] = {"figure": name}
        for c in CLASSES:
            ends = pl.col("p05", "p95").cast(pl.Float64)  # other fields' may be no numbers
            low, high = real.filter(field=name, cls=c).select(ends).row(0)
            values = without_sentinel(simulated.features[simulated.labels == c, index])
            row[c] = float(((values >= low) & (values <= high)).mean())
        results.append(row)
    return results


def print_distances(title: str, compared: list[dict[str, Any]]) -> None:
    def quartiles(row: dict[str, Any], of: str) -> str:
        return " ".join(f"{value:.4g}" for value in row[f"{of}_quartiles"])

    rows = (
        (r["figure"], r["distance"], quartiles(r, "real"), quartiles(r, "simulated"))
        for r in compared
    )
    table(title, ("figure", "KS distance", "real quartiles", "simulated quartiles"), rows)


def hold_lsst(data: Path, count: int, seed: int) -> dict[str, object]:
    """LSST's simulation beside all real packets, whose classes nobody knows."""
    real = real_sample(data, ("lsst/lsst_v10_0.avro",))
    simulated = simulated_sample(count, seed, LSST)
    truth, objects = two_samples.joined(real, simulated)
    found: dict[str, object] = {}
    for name, sides in (
        ("features", [s.table() for s in (real, simulated)]),
        ("pixels", [s.pixels for s in (real, simulated)]),
    ):
        values = np.concatenate([side.to_numpy() for side in sides])
        judged = _judge_columns(sides[0].columns, values, truth, objects)
        columns = ("figure", "AUC alone", "loss if shuffled")
        title = f"LSST: trees on {name}: AUC {judged['auc']:.3f}"
        table(title, columns, (row.values() for row in judged["figures"]))
        found[name] = judged
    compared = distances(real, simulated)
    print_distances(f"LSST: {len(real.candids)} real alerts and {count:,} simulated", compared)
    return found | {"distances": compared}


def main() -> None:
    parser = argparse.ArgumentParser(description="Heads and simulated alerts beside the real sky.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="published")
    parser.add_argument("--data", type=Path, default=timing.DATA)
    parser.add_argument("--weights", type=Path, default=timing.DATA / "acai_h5")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=(101, 102, 103))
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--survey", choices=("ztf", "lsst"), default="ztf")
    arguments = parser.parse_args()
    if arguments.survey == "lsst":
        found = hold_lsst(arguments.data, arguments.count, arguments.seeds[0])
        timing.write_results("reality-lsst", [found])
        return

    published = acai_jax.Scorer.load("published", weights_dir=arguments.weights)
    samples = simulated_samples(arguments.count, arguments.seeds)
    found = {"seeds": list(arguments.seeds), "count": arguments.count}
    if "heads" in arguments.parts:
        scorer = acai_jax.Scorer.load(arguments.model, weights_dir=arguments.weights)
        heads = judge_heads(scorer, published, arguments.data, samples[0])
        print_heads(arguments.model, heads)
        about = found | {"model": arguments.model, "heads": heads}
        timing.write_results(f"reality-heads-{Path(arguments.model).name}", [about])
    if "published" in arguments.parts:
        by_class, by_kind = judge_simulation(published, samples)
        title = f"published heads at {THRESHOLD} on {len(samples)} x {arguments.count:,} simulated"
        table(title, by_class[0], (row.values() for row in by_class))
        table("share of each kind that each takes", by_kind[0], (r.values() for r in by_kind))
        found |= {"published": by_class, "kinds": by_kind}
    if {"features", "images", "figures"} & set(arguments.parts):
        everything = real_sample(arguments.data)
        real = everything.one_of_each_exposure()
        simulated, all_simulated = (alike(r, samples[0], published) for r in (real, everything))
        CONSOLE.print(
            f"{len(real.candids)} real alerts, one of each exposure, beside "
            f"{len(simulated.candids)} simulated ones; with all {len(everything.candids)}, a judge "
            "may also recognise exposures by their limits and calibrations"
        )
        columns = ("figure", "AUC alone", "loss if shuffled")
        if "features" in arguments.parts:
            judged = judge_features(real, simulated)
            truth, objects = two_samples.joined(everything, all_simulated)
            features = _features(everything, all_simulated)
            repeated, _ = two_samples.trees(features, truth, objects)
            title = f"trees on features: AUC {judged['auc']:.3f}; with all alerts {repeated:.3f}"
            table(title, columns, (row.values() for row in judged["figures"]))
            found |= {"features": judged | {"auc_with_all_alerts": repeated}}
        if "images" in arguments.parts:
            of_head, judged = judge_images(real, simulated, arguments.out)
            title = f"images: AUC of a head {of_head:.3f}, of trees on these {judged['auc']:.3f}"
            table(title, columns, (row.values() for row in judged["figures"]))
            found |= {"images": judged | {"auc_of_head": of_head}}
        if "figures" in arguments.parts:
            compared = distances(real, simulated)
            inside = within_real_range(samples[0], arguments.data / "field_statistics.csv")
            print_distances("real and simulated alerts of the same mix of classes", compared)
            title = "share of simulated alerts within the central 90 % of real ones, by class"
            table(title, inside[0], (r.values() for r in inside))
            found |= {"distances": compared, "within": inside}
    if set(arguments.parts) != {"heads"}:
        timing.write_results("reality", [found])


if __name__ == "__main__":
    main()
