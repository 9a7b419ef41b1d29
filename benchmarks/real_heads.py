"""A model's heads on real alerts: those that catalogues label, and the published decisions."""

import csv
from pathlib import Path

import numpy as np

import acai_jax
from acai_jax.evaluate.bootstrap import interval, resample
from acai_jax.evaluate.figures import Ranking, ScoreState
from benchmarks.samples import Sample, real_sample
from benchmarks.timing import print_rows

THRESHOLD = 0.5
DRAWS = 1000
OTHERS = ("alerts", "fink_alerts.parquet")  # the second are of one exposure, in clouds
UNJUDGED = {"t": "ho"}  # whether these have hosts is not known


def ranking(scores: np.ndarray, targets: np.ndarray) -> Ranking:
    return ScoreState.from_values(scores.astype(np.float64), targets).ranking()


def judge_heads(
    scorer: acai_jax.Scorer, published: acai_jax.Scorer, data: Path, simulated: list[Sample]
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
    of_simulated = np.concatenate([scorer.score_arrays(s.features, s.triplets) for s in simulated])
    truth = np.concatenate([s.labels for s in simulated])
    results = []
    for index, name in enumerate(scorer.bank.classes):
        judged = np.array([name not in UNJUDGED.get(label, "") for label in labels])
        values, targets = scores[judged, index], labels[judged] == name
        objects = np.unique(sample.objects[judged], return_inverse=True)[1]
        # in the simulation, FNR and FPR meet at this threshold
        balanced = ranking(of_simulated[:, index], truth == name)
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
    print_rows(
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
    print_rows(
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
