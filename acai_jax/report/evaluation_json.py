"""The figures of an evaluation as JSON, under keys that stay."""

import math
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

import numpy as np

from acai_jax.evaluate.figures import CALIBRATION_BINS, THRESHOLDS
from acai_jax.evaluate.judged import COMPARED
from acai_jax.evaluate.results import Evaluation, HeadEvaluation

_FORMAT: Final = "acai_jax evaluation 1"
SCALARS: Final = (
    *("auc", "average_precision", "balanced_threshold", "balanced_fnr", "balanced_fpr"),
    *("ece", "brier"),
)
"""Figures that are one number."""
_CURVES: Final = ("fnr", "fpr")


def metrics_of(found: Evaluation, *, note: str | None = None) -> dict[str, Any]:
    """All figures of an evaluation, JSON-ready; a figure that there is none of is null.

    Args:
        found: the evaluation.
        note: what readers should know.

    Example:
        >>> metrics_of(evaluate(model, source))["heads"]["h"]["auc"]  # doctest: +SKIP
        0.9939
    """
    result: dict[str, Any] = {
        "format": _FORMAT,
        "acai_jax_version": metadata.version("acai_jax"),
        "note": note,
        "model": found.model,
        "source": dict(found.source),
        "alerts": len(found.table),
        "objects": found.table[found.survey.object_id].n_unique(),
        "labels": dict(sorted(Counter(found.table["label"]).items())),
        "unscored": unscored(found),
        "bootstrap": {
            "by": found.survey.object_id,
            "draws": found.draws,
            "seed": found.seed,
            "share": 0.95,
        },
        "heads": {name: _head(found, head) for name, head in found.heads.items()},
        "agreement": {"heads": list(found.heads), **found.agreement._asdict()},
    }
    if found.comparisons:
        result["against"] = {
            "model": found.against,
            "heads": {
                name: {
                    "n_alerts": each.alerts,
                    "versions": list(each.versions),
                    **{
                        key: {
                            "first": each.first[key],
                            "second": each.second[key],
                            "difference": each.first[key] - each.second[key],
                            "low": each.low[key],
                            "high": each.high[key],
                        }
                        for key in COMPARED
                    },
                    "mcnemar": {
                        "only_first_right": each.only_first_right,
                        "only_second_right": each.only_second_right,
                        "p_value": each.p_value,
                    },
                    "disagreements": _examples(found, name, "disagreement"),
                }
                for name, each in found.comparisons.items()
            },
        }
    return _plain(result)


def _head(found: Evaluation, head: HeadEvaluation) -> dict[str, Any]:
    ends = (("", head.figures), ("_low", head.low), ("_high", head.high))
    return {
        "version": head.version,
        "positives": list(head.positives),
        "n_positive": head.ranking.positives,
        "n_negative": head.ranking.negatives,
        "n_unscored": head.state.unscored_positives + head.state.unscored_negatives,
        "thresholds": THRESHOLDS,
        **{
            f"{name}{end}": getattr(figures, name)
            for name in (*_CURVES, *SCALARS)
            for end, figures in ends
        },
        "confusion": {"threshold": head.threshold, **head.confusion._asdict()},
        "calibration": {
            "edges": np.linspace(0, 1, CALIBRATION_BINS + 1),
            **head.figures.calibration._asdict(),
            "positive_shares_low": head.low.calibration.positive_shares,
            "positive_shares_high": head.high.calibration.positive_shares,
        },
        "groups": {
            name: [
                {
                    "name": group.name,
                    "n_positive": group.n_positive,
                    "n_negative": group.n_negative,
                    **{
                        f"{rate}{end}": values[index]
                        for index, rate in enumerate(_CURVES)
                        for end, values in (
                            ("", group.rates),
                            ("_low", group.low),
                            ("_high", group.high),
                        )
                    },
                }
                for group in groups
            ]
            for name, groups in head.groups.items()
        },
        "missed": _examples(found, head.name, "missed"),
        "false_alarms": _examples(found, head.name, "false alarm"),
    }


def _examples(found: Evaluation, head: str, kind: str) -> list[dict[str, Any]]:
    survey = found.survey
    return [
        {
            # more digits than JavaScript's numbers hold
            survey.alert_id: str(each.row[survey.alert_id]),
            survey.object_id: each.row[survey.object_id],
            "label": each.row["label"],
            "score": each.row[f"acai_{head}"],
            "score_against": each.row.get(f"acai_{head}_against"),
        }
        for each in found.examples
        if (each.head, each.kind) == (head, kind)
    ]


def unscored(found: Evaluation) -> dict[str, int]:
    """How many alerts have no score, by the kind of the reason."""
    kinds = found.table["reason"].drop_nulls().str.split(":").list.first()
    return dict(Counter(kinds).most_common())


def _plain(value: Any) -> Any:
    """Values as JSON has them: arrays as lists, NaN as null."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [
            _plain(each) for each in (value.tolist() if isinstance(value, np.ndarray) else value)
        ]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
