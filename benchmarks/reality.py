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
    stars: what subtractions leave of bright stars beside alerts.
Results go to benchmarks/results/reality-<device>.json, those of heads to
reality-heads-<model>-<device>.json.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.stats

import acai_jax
from acai_jax.classes import CLASSES
from acai_jax.surveys.lsst import LSST
from acai_jax.surveys.ztf import FEATURE_NAMES
from benchmarks import two_samples
from benchmarks.real_heads import THRESHOLD, judge_heads, print_heads, ranking
from benchmarks.samples import (
    Sample,
    real_sample,
    simulated_sample,
    simulated_samples,
    without_sentinel,
)
from benchmarks.stars import judge_stars
from benchmarks.timing import DATA, print_rows, write_results

PARTS = ("heads", "published", "features", "images", "figures", "stars")
PLACES = ("ra", "dec")  # the sample's choice


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


def judge_features(
    real: Sample, simulated: Sample, everything: tuple[Sample, Sample]
) -> dict[str, Any]:
    """Trees on features, all and each alone; and all beside `everything`, (real, simulated)."""
    names = [name for name in FEATURE_NAMES if name not in PLACES]
    found = _judge_columns(names, _features(real, simulated), *two_samples.joined(real, simulated))
    of_all, _ = two_samples.trees(_features(*everything), *two_samples.joined(*everything))
    return found | {"auc_with_all_alerts": of_all}


def _features(real: Sample, simulated: Sample) -> np.ndarray:
    columns = [index for index, name in enumerate(FEATURE_NAMES) if name not in PLACES]
    return np.concatenate([real.features, simulated.features])[:, columns]


def judge_images(real: Sample, simulated: Sample, picture: Path | None) -> dict[str, Any]:
    """Trees on simple figures of the pixels, and a small head on the images alone: `picture`."""
    truth, objects = two_samples.joined(real, simulated)
    triplets = np.concatenate([real.triplets, simulated.triplets])
    scores = two_samples.image_scores(triplets, truth, objects)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        two_samples.picture(picture, real, simulated, scores, "images alone")
    pixels = np.concatenate([real.pixels.to_numpy(), simulated.pixels.to_numpy()])
    of_head = float(ranking(1 / (1 + np.exp(-scores)), truth == 1).figures().auc)
    found = _judge_columns(real.pixels.columns, pixels, truth, objects)
    return found | {"auc_of_head": of_head}


def over_seeds(judged: list[dict[str, Any]]) -> dict[str, Any]:
    """What judges say of several simulations: AUCs one by one, and figures' means."""
    found: dict[str, Any] = {name: [j[name] for j in judged] for name in judged[0]}
    rows = pl.DataFrame([row for j in judged for row in j["figures"]])
    means = rows.group_by("figure").mean().sort("alone", descending=True)
    return found | {"figures": means.to_dicts()}


def print_judged(title: str, judged: dict[str, Any]) -> None:
    """Means over seeds, lowest and highest; and figure by figure."""
    said = ", ".join(
        f"{name.replace('_', ' ')} {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        for name, values in judged.items()
        if name != "figures"
    )
    columns = ("figure", "AUC alone", "loss if shuffled")
    print_rows(f"{title}: {said}", columns, (row.values() for row in judged["figures"]))


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
    print_rows(title, ("figure", "KS distance", "real quartiles", "simulated quartiles"), rows)


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
        print_rows(title, columns, (row.values() for row in judged["figures"]))
        found[name] = judged
    compared = distances(real, simulated)
    print_distances(f"LSST: {len(real.candids)} real alerts and {count:,} simulated", compared)
    return found | {"distances": compared}


def main() -> None:
    parser = argparse.ArgumentParser(description="Heads and simulated alerts beside the real sky.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="published")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--weights", type=Path, default=DATA / "acai_h5")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=(101, 102, 103))
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--survey", choices=("ztf", "lsst"), default="ztf")
    arguments = parser.parse_args()
    if arguments.survey == "lsst":
        found = hold_lsst(arguments.data, arguments.count, arguments.seeds[0])
        write_results("reality-lsst", [found])
        return

    published = acai_jax.Scorer.load("published", weights_dir=arguments.weights)
    samples = simulated_samples(arguments.count, arguments.seeds)
    found = {"seeds": list(arguments.seeds), "count": arguments.count}
    if "heads" in arguments.parts:
        scorer = acai_jax.Scorer.load(arguments.model, weights_dir=arguments.weights)
        heads = judge_heads(scorer, published, arguments.data, samples)
        print_heads(arguments.model, heads)
        about = found | {"model": arguments.model, "heads": heads}
        write_results(f"reality-heads-{Path(arguments.model).name}", [about])
    if "published" in arguments.parts:
        by_class, by_kind = judge_simulation(published, samples)
        title = f"published heads at {THRESHOLD} on {len(samples)} x {arguments.count:,} simulated"
        print_rows(title, by_class[0], (row.values() for row in by_class))
        print_rows("share of each kind that each takes", by_kind[0], (r.values() for r in by_kind))
        found |= {"published": by_class, "kinds": by_kind}
    if {"features", "images", "figures"} & set(arguments.parts):
        everything = real_sample(arguments.data)
        real = everything.one_of_each_exposure()
        ones = [alike(real, sample, published) for sample in samples]
        alls = [alike(everything, sample, published) for sample in samples]
        print(
            f"{len(real.candids)} real alerts, one of each exposure, beside "
            f"{len(ones[0].candids)} simulated ones; with all {len(everything.candids)}, a judge "
            "may also recognise exposures by their limits and calibrations"
        )
        if "features" in arguments.parts:
            judged = over_seeds(
                [
                    judge_features(real, one, (everything, all_alerts))
                    for one, all_alerts in zip(ones, alls, strict=True)
                ]
            )
            print_judged("trees on features", judged)
            found |= {"features": judged}
        if "images" in arguments.parts:
            judged = over_seeds(
                [
                    judge_images(real, one, arguments.out and arguments.out / f"reality-{seed}.png")
                    for seed, one in zip(arguments.seeds, ones, strict=True)
                ]
            )
            print_judged("trees on figures of the pixels, and a head on images", judged)
            found |= {"images": judged}
        if "figures" in arguments.parts:
            compared = distances(real, ones[0])
            inside = within_real_range(samples[0], arguments.data / "field_statistics.csv")
            print_distances("real and simulated alerts of the same mix of classes", compared)
            title = "share of simulated alerts within the central 90 % of real ones, by class"
            print_rows(title, inside[0], (r.values() for r in inside))
            found |= {"distances": compared, "within": inside}
    if "stars" in arguments.parts:
        stars = judge_stars(arguments.data, arguments.count // 4, arguments.seeds[0])
        title = "left of stars beside alerts, by peak in sigma: largest pixel, and flux in 5x5"
        print_rows(title, stars[0], (row.values() for row in stars))
        found |= {"stars": stars}
    if set(arguments.parts) != {"heads"}:
        write_results("reality", [found])


if __name__ == "__main__":
    main()
