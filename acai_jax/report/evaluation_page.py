"""An evaluation as files: metrics.json, a PNG for each picture, and report.html with everything."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
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
_ERRORS: Final = (
    "False-negative rate (FNR): positives that a head misses; false-positive rate (FPR): negatives "
    "that it calls positive. The balanced threshold is where both are equal. Intervals hold 95 % "
    "of {draws:,} draws of the bootstrap, which draws objects with all of their alerts."
)
_MISSES: Final = (
    "Each head's worst mistakes, one alert of an object: positives with the lowest scores, and "
    "negatives with the highest. Of each: the science, template and difference stamp; science and "
    "template are stretched logarithmically, the difference linearly."
)
_COMPARED: Final = (
    "Both models are held to the labels of the first, on the alerts that both scored. McNemar's "
    "exact test asks whether heads that call so many alerts differently, each at its own balanced "
    "threshold, could be equally good; it takes alerts for independent, which those of one object "
    "are not, so trust the intervals first."
)


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
    drawn = {"fnr_fpr": evaluation_pictures.draw_error_rates(found)}
    if not all(head.lacks for head in found.heads.values()):
        drawn["roc"] = evaluation_pictures.draw_roc(found)
        drawn["precision_recall"] = evaluation_pictures.draw_precision(found)
    drawn["calibration"] = evaluation_pictures.draw_calibration(found)
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
    sections = [
        ("Summary", _summary(found)),
        ("Curves", html.pictures(list(drawn.values()))),
        ("Where they err", html.pictures(list(groups.values()))),
    ]
    if together:
        shown = _calls(found) + html.pictures(list(together.values()))
        sections.append(("How the heads go together", shown))
    if compared:
        sections.append((f"Against {found.against}", _comparison(found, list(compared.values()))))
    sections += [
        ("What was evaluated", html.table("Facts", [], _facts(found))),
        ("Worst misses", html.paragraph(_MISSES) + _gallery(found)),
    ]
    introduction = " ".join(filter(None, (_introduction(found), note)))
    page = html.page(f"Evaluation of {found.model}", introduction, sections)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (drawn | groups | together | compared).items():
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


def _fixed_thresholds(found: Evaluation) -> str:
    """The error rate of heads that have no balanced threshold."""
    rows = [
        [class_name(name), *(_rate_at(head, threshold) for threshold in _FIXED_THRESHOLDS)]
        for name, head in found.heads.items()
        if head.lacks
    ]
    if not rows:
        return ""
    header = ["head", *(f"threshold {threshold}" for threshold in _FIXED_THRESHOLDS)]
    caption = "Error rates of heads without positives (FPR) or negatives (FNR), 95 % intervals"
    return html.table(caption, header, rows)


def _rate_at(head: HeadEvaluation, threshold: float) -> str:
    rate = "fpr" if head.lacks == "positive" else "fnr"
    place = int(np.argmin(np.abs(THRESHOLDS - threshold)))
    numbers = (getattr(each, rate)[place] for each in (head.figures, head.low, head.high))
    middle, low, high = (f"{100 * number:.2f}" for number in numbers)
    return f"{rate.upper()} {middle} %\n{low}-{high}"


def _summary(found: Evaluation) -> str:
    header = [
        *("head", "AUC", "average precision", "balanced threshold", "FNR there", "FPR there"),
        *("ECE", "Brier score"),
    ]
    rows: list[list[str | int]] = []
    counts: list[list[str | int]] = []
    for name, head in found.heads.items():
        shown = (_with_interval(head, key, percent=key in _RATES) for key in SCALARS)
        rows.append([class_name(name), *shown])
        unscored = head.state.unscored_positives + head.state.unscored_negatives
        sizes = (head.ranking.positives, head.ranking.negatives, unscored)
        counts.append([class_name(name), ", ".join(head.positives), *sizes])
    return (
        html.paragraph(_ERRORS.format(draws=found.draws))
        + html.table("Figures of each head, with 95 % intervals", header, rows)
        + _fixed_thresholds(found)
        + html.table("Alerts", ["head", "labels", "positives", "negatives", "unscored"], counts)
    )


def _calls(found: Evaluation) -> str:
    calls = found.agreement.calls
    header = ["called by", "no head", "1 head", *(f"{n} heads" for n in range(2, len(calls)))]
    caption = "Alerts by how many heads call them positive, each at its balanced threshold"
    return html.table(caption, header, [["alerts", *calls]])


def _with_interval(head: HeadEvaluation, key: str, *, percent: bool) -> str:
    middle, low, high = (getattr(each, key) for each in (head.figures, head.low, head.high))
    if math.isnan(middle):
        return "none"
    scale, form = (100, ".2f") if percent else (1, ".3f" if "threshold" in key else ".4f")
    unit = " %" if percent else ""
    ends = f"\n{scale * low:{form}}-{scale * high:{form}}" if not math.isnan(low) else ""
    return f"{scale * middle:{form}}{unit}{ends}"


def _comparison(found: Evaluation, drawn: Sequence[html.Picture]) -> str:
    header = ["head", "figure", found.model, str(found.against), "difference, 95 % interval"]
    rows: list[list[str | int]] = []
    tests: list[list[str | int]] = []
    for name, each in found.comparisons.items():
        for key, figure in COMPARED.items():
            first, second = each.first[key], each.second[key]
            low, high = each.low[key], each.high[key]
            difference = f"{first - second:+.4f}\n{low:+.4f} to {high:+.4f}"
            numbers = (f"{first:.4f}", f"{second:.4f}", difference)
            rows.append([class_name(name), figure, *numbers])
        numbers = (each.alerts, each.only_first_right, each.only_second_right)
        tests.append([class_name(name), *numbers, f"{each.p_value:.2g}"])
    heads = [
        "head",
        "alerts",
        f"only {found.model} right",
        f"only {found.against} right",
        "p-value",
    ]
    return (
        html.paragraph(_COMPARED)
        + html.pictures(drawn)
        + html.table("Figures of both models", header, rows)
        + html.table("McNemar's test", heads, tests)
    )


def _gallery(found: Evaluation) -> str:
    if not found.examples:
        return html.paragraph("There are none: every alert is called right.")
    kinds = dict.fromkeys(each.kind for each in found.examples)
    heads = dict.fromkeys(each.head for each in found.examples)
    labels = sorted({each.row["label"] for each in found.examples})
    filters = {
        "head": ("head", {name: class_name(name) for name in heads}),
        "kind": ("mistake", {kind: kind for kind in kinds}),
        "label": ("label", {label: class_name(label) for label in labels}),
    }
    orders = [
        ("place", "head, worst first", False),
        ("error", "distance from the label", True),
        ("score", "score, highest first", True),
        ("score", "score, lowest first", False),
        ("magnitude", f"{found.survey.magnitude}, brightest first", False),
        ("time", "date, latest first", True),
    ]
    exhibits = [_exhibit(found, place, each) for place, each in enumerate(found.examples)]
    return html.gallery("Filter and sort the alerts", exhibits, filters, orders)


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
