"""An evaluation as files: metrics.json, a PNG for each picture, and report.html with everything."""

import json
import math
import os
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np

from acai_jax.datasets.card import class_name
from acai_jax.evaluate.examples import ChosenAlert
from acai_jax.evaluate.figures import THRESHOLDS
from acai_jax.evaluate.judged import COMPARED
from acai_jax.evaluate.results import Evaluation, HeadEvaluation
from acai_jax.files import write_file
from acai_jax.report import evaluation_pictures, html
from acai_jax.report.evaluation_json import SCALARS, metrics_of, unscored
from acai_jax.report.exhibits import alert_exhibit
from acai_jax.report.themes import short_name

_RATES: Final = ("balanced_fnr", "balanced_fpr")
_FIXED_THRESHOLDS: Final = (0.1, 0.2, 0.5, 0.8, 0.9)
"""Where the error rate of a head is given that has no balanced threshold."""


def write_report(
    found: Evaluation, folder: str | os.PathLike[str], *, note: str | None = None
) -> Path:
    """Writes an evaluation: metrics.json, PNGs, and report.html, which needs nothing else.

    Args:
        found: what to write.
        folder: where to put the files; those of an earlier report are replaced.
        note: what readers should know, such as where the labels come from.

    Returns:
        The page's path.

    Example:
        >>> write_report(evaluate(model, source), "report")  # doctest: +SKIP
        PosixPath('report/report.html')
    """
    curves = {"fnr_fpr": evaluation_pictures.draw_error_rates(found)}
    if not all(head.lacks for head in found.heads.values()):
        curves["roc"] = evaluation_pictures.draw_roc(found)
        curves["precision_recall"] = evaluation_pictures.draw_precision(found)
    curves["calibration"] = evaluation_pictures.draw_calibration(found)
    groups = {
        f"by_{name}": evaluation_pictures.draw_groups(found, name) for name in found.breakdowns
    }
    together: dict[str, html.Picture] = {}
    if len(found.heads) > 1:
        together["correlation"] = evaluation_pictures.draw_correlation(found)
        together["overlap"] = evaluation_pictures.draw_overlap(found)
    compared = (
        {"comparison": evaluation_pictures.draw_comparison(found)} if found.comparisons else {}
    )
    page = html.render(
        "evaluation_page.html.j2",
        title=f"Evaluation of {found.model}",
        introduction=" ".join(filter(None, (_introduction(found), note))),
        found=found,
        figures=_figures(found),
        fixed=_fixed_thresholds(found),
        counts=_counts(found),
        curves=curves,
        groups=groups,
        together=together,
        calls=_calls(found),
        compared=compared,
        comparisons=_comparisons(found),
        tests=_tests(found),
        facts=_facts(found),
        exhibits=[_exhibit(found, place, each) for place, each in enumerate(found.examples)],
        filters=_filters(found),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (curves | groups | together | compared).items():
        write_file(folder / f"{name}.png", picture.light)
    write_file(folder / "report.html", page.encode())
    numbers = json.dumps(metrics_of(found, note=note), indent=1, allow_nan=False) + "\n"
    write_file(folder / "metrics.json", numbers.encode())
    return folder / "report.html"


def _introduction(found: Evaluation) -> str:
    count = len(found.heads)
    alerts, objects = len(found.table), found.table[found.survey.object_id].n_unique()
    known = {label for head in found.heads.values() for label in head.positives}
    others = Counter(label for label in found.table["label"] if label not in known)
    words = [
        f"{count} head{'s' if count > 1 else ''} of {found.model} on {alerts:,} labelled alerts of "
        f"{objects:,} objects."
    ]
    if others:
        listed = ", ".join(f"{label} ({number:,})" for label, number in others.most_common(12))
        words.append(f"Labels that no head is for count as negatives of all: {listed}.")
    return " ".join([*words, *one_sided(found)])


def one_sided(found: Evaluation) -> list[str]:
    """What has to be said where heads have no positives, or no negatives, to be held to.

    Args:
        found: the evaluation.

    Example:
        >>> one_sided(found)  # doctest: +SKIP
        ['No scored alert is a positive of hosted: there is no false-negative rate, ...']
    """
    sentences = []
    for kind, missing, left in (
        ("positive", "false-negative", "false-positive"),
        ("negative", "false-positive", "false-negative"),
    ):
        if heads := [short_name(name) for name, head in found.heads.items() if head.lacks == kind]:
            sentences.append(
                f"No scored alert is a {kind} of {', '.join(heads)}: there is no {missing} rate, "
                f"AUC or balanced threshold; what can be told is the {left} rate at a threshold."
            )
    return sentences


def _fixed_thresholds(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The error rate of heads that have no balanced threshold: a header, and rows."""
    rows = [
        [class_name(name), *(_rate_at(head, threshold) for threshold in _FIXED_THRESHOLDS)]
        for name, head in found.heads.items()
        if head.lacks
    ]
    return ["head", *(f"threshold {threshold}" for threshold in _FIXED_THRESHOLDS)], rows


def _rate_at(head: HeadEvaluation, threshold: float) -> str:
    rate = "fpr" if head.lacks == "positive" else "fnr"
    place = int(np.argmin(np.abs(THRESHOLDS - threshold)))
    numbers = (getattr(each, rate)[place] for each in (head.figures, head.low, head.high))
    middle, low, high = (f"{100 * number:.2f}" for number in numbers)
    return f"{rate.upper()} {middle} %\n{low}-{high}"


def _figures(found: Evaluation) -> list[list[str]]:
    return [
        [class_name(name), *(_with_interval(head, key) for key in SCALARS)]
        for name, head in found.heads.items()
    ]


def _counts(found: Evaluation) -> list[list[str | int]]:
    return [
        [
            class_name(name),
            ", ".join(head.positives),
            *(head.ranking.positives, head.ranking.negatives),
            head.state.unscored_positives + head.state.unscored_negatives,
        ]
        for name, head in found.heads.items()
    ]


def _calls(found: Evaluation) -> tuple[list[str], list[list[str | int]]]:
    calls = found.agreement.calls
    header = ["called by", "no head", "1 head", *(f"{n} heads" for n in range(2, len(calls)))]
    return header, [["alerts", *calls]]


def _with_interval(head: HeadEvaluation, key: str) -> str:
    middle, low, high = (getattr(each, key) for each in (head.figures, head.low, head.high))
    if math.isnan(middle):
        return "none"
    form = ".3f" if "threshold" in key else ".4f"
    scale, form, unit = (100, ".2f", " %") if key in _RATES else (1, form, "")
    ends = f"\n{scale * low:{form}}-{scale * high:{form}}" if not math.isnan(low) else ""
    return f"{scale * middle:{form}}{unit}{ends}"


def _comparisons(found: Evaluation) -> list[list[str]]:
    rows = []
    for name, each in found.comparisons.items():
        for key, figure in COMPARED.items():
            first, second = each.first[key], each.second[key]
            difference = f"{first - second:+.4f}\n{each.low[key]:+.4f} to {each.high[key]:+.4f}"
            rows.append([class_name(name), figure, f"{first:.4f}", f"{second:.4f}", difference])
    return rows


def _tests(found: Evaluation) -> list[list[str | int]]:
    return [
        [
            class_name(name),
            *(each.alerts, each.only_first_right, each.only_second_right),
            f"{each.p_value:.2g}",
        ]
        for name, each in found.comparisons.items()
    ]


def _filters(found: Evaluation) -> dict[str, tuple[str, dict[str, str]]]:
    kinds = dict.fromkeys(each.kind for each in found.examples)
    heads = dict.fromkeys(each.head for each in found.examples)
    labels = sorted({each.row["label"] for each in found.examples})
    return {
        "head": ("head", {name: class_name(name) for name in heads}),
        "kind": ("mistake", {kind: kind for kind in kinds}),
        "label": ("label", {label: class_name(label) for label in labels}),
    }


def _exhibit(found: Evaluation, place: int, example: ChosenAlert) -> html.Exhibit:
    row, head = example.row, found.heads[example.head]
    score = row[f"acai_{example.head}"]
    others = f"acai_{example.head}_against"
    text = f"{class_name(example.head)}, {example.kind}: {score:.4f}, label {row['label']}"
    if example.kind == "disagreement":
        text += f"; {found.against}: {row[others]:.4f}"
    target = row["label"] in head.positives
    return alert_exhibit(
        row,
        example.images,
        found.heads,
        text=text,
        groups={"head": example.head, "kind": example.kind, "label": row["label"]},
        numbers={"place": float(place), "error": abs(score - target), "score": score},
    )


def _facts(found: Evaluation) -> list[list[str]]:
    facts = {
        "model": found.model,
        "versions": "; ".join(f"{head.name} {head.version}" for head in found.heads.values()),
        "labels": "; ".join(
            f"{label} {number:,}" for label, number in sorted(Counter(found.table["label"]).items())
        ),
        "compared with": found.against,
    }
    for name, value in found.source.items():
        if name == "counts":
            counted = (f"{key.replace('_', ' ')} {number:,}" for key, number in value.items())
            facts["counts"] = "; ".join(counted)
        else:
            shown = ", ".join(value) if isinstance(value, list) else value
            facts["labels from" if name == "labels" else name.replace("_", " ")] = shown
    facts |= {f"unscored, {reason}": f"{number:,}" for reason, number in unscored(found).items()}
    facts["bootstrap"] = f"{found.draws:,} draws of objects, seed {found.seed}"
    facts["made with"] = f"acai_jax {metadata.version('acai_jax')}"
    return [[name, str(value)] for name, value in facts.items() if value]
