"""Temperature scaling: one number for each head makes its scores agree with how often it is right.

A head's logits are divided by its temperature before they become scores. That changes no order of
alerts, and so neither ROC nor AUC, but where scores round to the same float32.

Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Float64
from scipy.optimize import brentq
from scipy.special import expit

from acai_jax.errors import EvaluationError
from acai_jax.evaluate.figures import ScoreState
from acai_jax.evaluate.labelled import Report, Source
from acai_jax.evaluate.run import positive_labels
from acai_jax.network.bank import HeadBank, Provenance, choose_heads
from acai_jax.score.scorer import Scorer

TEMPERATURES: Final = (0.1, 100.0)
"""The lowest and the highest that are taken."""
_DIGITS: Final = 4  # of a temperature: its version names all of them


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """The temperature of one head, and what it does to the alerts that it was fitted on.

    Attributes:
        temperature: what logits are divided by.
        held: whether the alerts ask for another one that is not taken; see `fit_temperature`.
        positives: alerts with a score.
        negatives: alerts with a score.
        unscored: alerts that were left out.
        nll: mean binary cross-entropy [nat] of uncalibrated scores, and of calibrated ones.
        ece: expected calibration error of both.
    """

    temperature: float
    held: bool
    positives: int
    negatives: int
    unscored: int
    nll: tuple[float, float]
    ece: tuple[float, float]


def fit_temperature(
    logits: Float[np.ndarray, " n"], targets: Bool[np.ndarray, " n"]
) -> tuple[float, bool]:
    r"""The temperature with the lowest binary cross-entropy: of sigmoid(logits / temperature).

    For logits :math:`z_i` and targets :math:`t_i` it is the :math:`T` that minimises

    .. math:: \frac{1}{n} \sum_i \left( \log(1 + e^{z_i / T}) - t_i z_i / T \right)

    It is a convex problem in 1 / temperature. Where all positives have logits above 0 and all
    negatives below, the solution is 0, and every score would be 0 or 1: the temperature is held at
    1 then. Otherwise it is held within `TEMPERATURES`.

    Args:
        logits: uncalibrated.
        targets: True for positives.

    Returns:
        The temperature, to four digits, and whether it is held.

    Raises:
        EvaluationError: a logit is no finite number, or there are no positives or no negatives.

    Example:
        >>> logits = np.array([-4.0, -4.0, -4.0, 4.0, 4.0, 4.0])
        >>> fit_temperature(logits, np.array([False, False, True, False, True, True]))
        (5.771, False)
    """
    if not np.isfinite(logits).all():
        count = int((~np.isfinite(logits)).sum())
        raise EvaluationError(f"{count:,} of {len(logits):,} logits are no finite numbers")
    for kind, there in (("positive", targets.any()), ("negative", not targets.all())):
        if not there:
            raise EvaluationError(
                f"no {kind} among {len(targets):,} alerts: a temperature needs both kinds"
            )
    margins = np.where(targets, logits, -logits).astype(np.float64)

    def slope(inverse: float) -> float:
        """Of the cross-entropy by 1 / temperature; it never falls."""
        return -float(np.mean(margins * expit(-inverse * margins)))

    lowest, highest = TEMPERATURES
    if margins.min() >= 0:
        return 1.0, True
    if slope(1 / lowest) <= 0:
        return lowest, True
    if slope(1 / highest) >= 0:
        return highest, True
    inverse: Any = brentq(slope, 1 / highest, 1 / lowest)
    return float(f"{1 / inverse:.{_DIGITS}g}"), False


def calibrate(
    bank: HeadBank,
    source: Source,
    heads: Sequence[str] = (),
    *,
    weights_dir: str | os.PathLike[str] | None = None,
    report: Report = lambda *_: None,
) -> tuple[HeadBank, dict[str, Calibration]]:
    """Fits a temperature for each head on labelled alerts that it was not trained on.

    Args:
        bank: the heads; temperatures that they have already are replaced.
        source: the alerts. Scores agree with the shares of positives in such a mix of classes.
        heads: some of the heads; by default all. The others stay as they are.
        weights_dir: as for `Scorer`.
        report: told how much is scored, and how much there is.

    Returns:
        The same heads with their temperatures, under new versions, and how each was found.

    Raises:
        EvaluationError: there is no such head, or a head has no positives, or no negatives, among
            the alerts that have a score.

    Example:
        >>> bank = Scorer.load("published").bank  # doctest: +SKIP
        >>> source = DatasetSource("datasets", "validation")  # doctest: +SKIP
        >>> bank, found = calibrate(bank, source)  # doctest: +SKIP
        >>> bank.provenance["h"]["version"]  # doctest: +SKIP
        'd1_dnn_20201130+T1.337'
    """
    chosen = choose_heads(bank, tuple(dict.fromkeys(heads)) or bank.classes)
    plain = {name: _uncalibrated(facts) for name, facts in chosen.provenance.items()}
    chosen = dataclasses.replace(chosen, provenance=plain)
    table = source.scored(Scorer(chosen, weights_dir=weights_dir, as_logits=True), report)
    labels = table["label"].to_numpy()
    provenance, found = dict(bank.provenance), {}
    for name, facts in plain.items():
        targets = np.isin(labels, positive_labels(name, facts))
        try:
            found[name] = _calibration(table[f"acai_{name}"], targets)
        except EvaluationError as error:
            raise EvaluationError(f"head {name}: {error}") from None
        provenance[name] = _calibrated(facts, found[name], source.facts)
    return dataclasses.replace(bank, provenance=provenance), found


def _calibration(logits: pl.Series, targets: Bool[np.ndarray, " n"]) -> Calibration:
    scored = logits.is_not_null().to_numpy()
    values = logits.drop_nulls().to_numpy().astype(np.float64)
    targets, unscored = targets[scored], int((~scored).sum())
    temperature, held = fit_temperature(values, targets)
    before, after = (_quality(values / each, targets) for each in (1.0, temperature))
    positives = int(targets.sum())
    return Calibration(
        temperature=temperature,
        held=held,
        positives=positives,
        negatives=len(targets) - positives,
        unscored=unscored,
        nll=(before[0], after[0]),
        ece=(before[1], after[1]),
    )


def _quality(
    logits: Float64[np.ndarray, " n"], targets: Bool[np.ndarray, " n"]
) -> tuple[float, float]:
    """Mean binary cross-entropy, and expected calibration error."""
    losses = np.logaddexp(0, np.where(targets, -logits, logits))
    ranking = ScoreState.from_values(expit(logits), targets).ranking()
    return float(losses.mean()), ranking.figures().ece


# --- provenance ------------------------------------------------------------------------------


def _calibrated(facts: Provenance, found: Calibration, source: Mapping[str, Any]) -> dict[str, Any]:
    fitted = {**source, **dataclasses.asdict(found)}
    del fitted["temperature"]  # one fact, one place
    return {
        **facts,
        "version": facts["version"] + _suffix(found.temperature),
        "temperature": found.temperature,
        "calibration": fitted,
    }


def _uncalibrated(facts: Provenance) -> dict[str, Any]:
    """A head's provenance without its temperature, if it has one."""
    plain = dict(facts)
    if (temperature := plain.pop("temperature", None)) is not None:
        plain["version"] = plain["version"].removesuffix(_suffix(temperature))
        plain.pop("calibration", None)
    return plain


def _suffix(temperature: float) -> str:
    """Scores are other scores with a temperature, so the version is another one."""
    return f"+T{temperature:.{_DIGITS}g}"
