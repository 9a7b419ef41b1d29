"""A sweep as files: a PNG for each picture, and report.html with everything."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from acai_jax.files import write_file
from acai_jax.report import html, sweep_pictures
from acai_jax.report.themes import short_name
from acai_jax.sweep.choice import SweepResult
from acai_jax.sweep.trials import Trial

_FIGURES: Final = {
    "auc": "AUC",
    "balanced_fnr": "FNR, balanced",
    "balanced_fpr": "FPR, balanced",
    "ece": "ECE",
    "brier": "Brier score",
}


def write_sweep_report(found: SweepResult, folder: str | os.PathLike[str]) -> Path:
    """Writes the report of a sweep: PNGs, and report.html, which needs nothing else.

    Args:
        found: what to write.
        folder: where to put the files; those of an earlier report are replaced.

    Returns:
        The page's path.

    Example:
        >>> write_sweep_report(sweep(config, search, "sweep"), "sweep")  # doctest: +SKIP
        PosixPath('sweep/report.html')
    """
    drawn = {"cost": sweep_pictures.draw_cost(found), "curves": sweep_pictures.draw_curves(found)}
    if len(found.trials) > 1:
        drawn["parallel"] = sweep_pictures.draw_parallel(found)
    if found.importances:
        drawn["importances"] = sweep_pictures.draw_importances(found)
    page = html.render(
        "sweep_page.html.j2",
        title="A sweep",
        introduction=_introduction(found),
        choice=_choice_table(found),
        rule=_rule(found),
        seeds=found.search.seeds,
        test=_test_table(found),
        drawn=drawn.values(),
        trials=_trial_table(found),
        facts=_fact_table(found),
    )
    folder = Path(folder)
    for name, picture in drawn.items():
        write_file(folder / f"sweep_{name}.png", picture.light)
    path = folder / "report.html"
    write_file(path, page.encode())
    return path


def _introduction(found: SweepResult) -> str:
    heads = ", ".join(map(short_name, found.config.heads))
    full = found.config.max_epochs * len(found.trials)
    return (
        f"{len(found.trials)} trials of the heads {heads} on {found.dataset}: "
        f"{found.epochs:,} epochs of trials, {found.epochs / full:.0%} of training each to the end."
    )


def _rule(found: SweepResult) -> str:
    best = found.choice.best
    error = best.results[-1].error or 0.0
    return (
        f"Trial {best.number} has the lowest validation loss, {best.loss:.4f}, with a standard "
        f"error of {error:.4f} by object. Of the trials within one standard error of it, trial "
        f"{found.choice.winner.number} has the fewest weights, and wins."
    )


def _choice_table(found: SweepResult) -> tuple[list[str], list[list[Any]]]:
    header = ["trial", "loss", "weights", "million multiplications", *_axes(found.trials)]
    rows = [_row(found, trial) for trial in found.choice.within]
    return header, rows


def _row(found: SweepResult, trial: Trial) -> list[Any]:
    size = found.sizes[trial.number]
    return [
        str(trial.number),
        _loss(trial.loss),
        size.weights,
        f"{size.multiplications / 1e6:.2f}",
        *(_value(trial.settings.get(axis)) for axis in _axes(found.trials)),
    ]


def _trial_table(found: SweepResult) -> tuple[list[str], list[list[Any]]]:
    rungs = found.search.rungs(found.config.max_epochs)
    losses = [f"after {epochs}" for epochs in rungs]
    header = ["trial", "round", *losses, "weights", *_axes(found.trials)]
    ranked = sorted(found.trials, key=lambda trial: (-len(trial.results), trial.loss))
    rows = [
        [
            str(trial.number),
            str(trial.round + 1),
            *(_loss(result.loss) for result in trial.results),
            *[""] * (len(rungs) - len(trial.results)),
            found.sizes[trial.number].weights,
            *(_value(trial.settings.get(axis)) for axis in _axes(found.trials)),
        ]
        for trial in ranked
    ]
    return header, rows


def _test_table(found: SweepResult) -> tuple[list[str], list[list[Any]]]:
    header = ["head", "positives", "negatives", *_FIGURES.values()]
    rows = [
        [
            short_name(head),
            figures["n_positive"],
            figures["n_negative"],
            *(_interval(figures, figure) for figure in _FIGURES),
        ]
        for head, figures in found.test.items()
    ]
    return header, rows


def _interval(figures: Any, name: str) -> str:
    ends = [figures[f"{name}{end}"] for end in ("", "_low", "_high")]
    if None in ends:
        return "none"
    return "{:.4f} ({:.4f} to {:.4f})".format(*ends)


def _fact_table(found: SweepResult) -> list[tuple[str, str]]:
    search = found.search.as_json()
    space = search.pop("space")
    facts = {**found.config.as_json(), **{f"search.{k}": v for k, v in search.items()}}
    if not found.search.grid:
        facts |= {f"search.space.{axis}": values for axis, values in space.items()}
    return [(name, str(value)) for name, value in facts.items()]


def _axes(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(axis for trial in trials for axis in trial.settings))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if math.isfinite(loss) else "no number"
