"""Heads on labelled alerts: their figures with intervals, where they err, and which are better."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64, Shaped

from acai_jax.errors import EvaluationError
from acai_jax.evaluate.bootstrap import interval, resample
from acai_jax.evaluate.examples import AGAINST, choose_examples
from acai_jax.evaluate.judged import (
    Judged,
    agreement,
    compare,
    figures_of,
    flat,
)
from acai_jax.evaluate.labelled import Report, Source
from acai_jax.evaluate.results import Evaluation, Group, HeadEvaluation
from acai_jax.evaluate.strata import Breakdown, ErrorCounts, break_down
from acai_jax.network.bank import HeadBank, Provenance, stack_heads, take_head
from acai_jax.score.scorer import Scorer
from acai_jax.surveys import survey_of_table

DRAWS: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A scorer, and what the user calls it."""

    name: str
    scorer: Scorer

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights_dir: str | os.PathLike[str] | None = None,
        heads: Sequence[str] = (),
    ) -> "Model":
        """Loads published heads or a checkpoint's; see `Scorer.load`.

        Args:
            name: as for `Scorer.load`.
            weights_dir: as for `Scorer.load`.
            heads: some of its heads, without the work for the others; by default all.

        Raises:
            EvaluationError: there is no such head.
            WeightsError: as for `Scorer.load`.
            CheckpointError: as for `Scorer.load`.
        """
        scorer = Scorer.load(name, weights_dir=weights_dir)
        if heads:
            bank = choose_heads(scorer.bank, tuple(dict.fromkeys(heads)))
            scorer = Scorer(bank, weights_dir=weights_dir)
        return cls(name, scorer)


def choose_heads(bank: HeadBank, names: Sequence[str]) -> HeadBank:
    """Some heads of a bank.

    Raises:
        EvaluationError: there is no such head.
    """
    for name in names:
        if name not in bank.classes:
            known = ", ".join(bank.classes)
            raise EvaluationError(f"no head {name!r} in the model; there are: {known}")
    chosen = [take_head(bank.heads, place) for name in names for place in bank.places(name)]
    provenance = {name: bank.provenance[name] for name in names}
    return dataclasses.replace(
        bank, heads=stack_heads(chosen), classes=tuple(names), provenance=provenance
    )


def evaluate(
    model: Model,
    source: Source,
    against: Model | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    report: Callable[[str], Report] = lambda _: lambda *_: None,
) -> Evaluation:
    """Evaluates heads on labelled alerts.

    Args:
        model: the heads.
        source: the alerts.
        against: other heads to compare them with, on the same alerts.
        draws: of the bootstrap by object.
        seed: of the bootstrap.
        report: given the name of a stretch of work, returns what is told of its progress.

    Raises:
        EvaluationError: no alert has a score, no label is a positive of any of several heads (one
            head alone may be held to negatives only), the two models share no head, or `draws` is
            less than 1.

    Example:
        >>> model = Model("published", Scorer.load("published"))  # doctest: +SKIP
        >>> found = evaluate(model, DatasetSource("datasets", "test"))  # doctest: +SKIP
        >>> found.heads["h"].figures.balanced_fnr  # doctest: +SKIP
        0.021
    """
    if draws < 1:
        raise EvaluationError(f"draws is {draws}, not 1 or more")
    shared = [] if against is None else _shared_heads(model, against)
    table = source.scored(model.scorer, report("scoring"))
    if against is not None:
        other = source.scored(against.scorer, report(f"scoring, {against.name}"))
        scores = (pl.col(f"acai_{name}").alias(f"acai_{name}{AGAINST}") for name in shared)
        alert_id = model.scorer.bank.survey.alert_id
        other = other.select(alert_id, *scores)
        table = table.join(other, alert_id, "left", maintain_order="left")
    found = evaluate_table(
        table,
        _provenance(model),
        _provenance(against) if against else None,
        draws=draws,
        seed=seed,
        report=report("drawing objects"),
    )
    limits = {name: (head.positives, head.threshold) for name, head in found.heads.items()}
    examples = choose_examples(found.table, limits, shared, source.images)
    return dataclasses.replace(
        found,
        model=model.name,
        against=against.name if against else None,
        source={**source.facts, "preset": source.facts.get("preset", model.scorer.bank.preset)},
        examples=examples,
    )


def _provenance(model: Model) -> dict[str, Provenance]:
    """Of each head, in the model's order."""
    bank = model.scorer.bank
    return {name: bank.provenance[name] for name in bank.classes}


def _shared_heads(model: Model, against: Model) -> list[str]:
    theirs = against.scorer.bank.classes
    shared = [name for name in model.scorer.bank.classes if name in theirs]
    if not shared:
        raise EvaluationError(
            f"{model.name} and {against.name} share no head: "
            f"{', '.join(model.scorer.bank.classes)} and {', '.join(theirs)}"
        )
    return shared


def evaluate_table(
    table: pl.DataFrame,
    provenance: Mapping[str, Provenance],
    other_provenance: Mapping[str, Provenance] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    report: Report = lambda *_: None,
) -> Evaluation:
    """As `evaluate`, of scores that are there already, and without examples.

    Args:
        table: as `DatasetSource.scored` gives it; another model's scores in columns acai_*_against.
        provenance: of each head: its version, and its positive labels if it has others than its
            own name.
        other_provenance: of another model's heads, if there is one.
        draws: as for `evaluate`.
        seed: as for `evaluate`.
        report: told (draws done, draws in all).

    Raises:
        EvaluationError: as for `evaluate`.
    """
    objects, object_count = _object_numbers(table)
    labels = table["label"].to_numpy()
    positives = {name: positive_labels(name, facts) for name, facts in provenance.items()}
    _check_labels(table, positives)
    targets = {name: np.isin(labels, positives[name]) for name in provenance}
    judged = {name: Judged.of(table[f"acai_{name}"], targets[name], objects) for name in provenance}
    pairs = {
        name: _judge_both(table, name, targets[name], objects)
        for name in provenance
        if name in (other_provenance or {})
    }
    breakdowns = break_down(table)
    errors = ErrorCounts(breakdowns, objects, object_count)
    for each in judged.values():
        errors.add(each.scored, each.targets, each.called)
    matrix = errors.matrix()
    drawn = [*judged.values(), *itertools.chain.from_iterable(pairs.values())]

    def statistic(counts: Float64[np.ndarray, " objects"]) -> Float64[np.ndarray, " m"]:
        rates = errors.rates(matrix @ counts)
        return np.concatenate([*(each.drawn(counts) for each in drawn), rates.ravel()])

    samples = resample(object_count, statistic, draws, seed, report)
    ends = np.cumsum([len(flat(each.figures)) for each in drawn])
    *of_heads, of_groups = np.split(samples, ends, axis=1)
    all_counts = matrix @ np.ones(object_count)
    counts, rates = errors.counts(all_counts), errors.rates(all_counts)
    low, high = interval(of_groups).reshape(2, *rates.shape)
    heads = {
        name: HeadEvaluation(
            name=name,
            version=provenance[name]["version"],
            positives=positives[name],
            state=each.state,
            ranking=each.ranking,
            figures=each.figures,
            low=figures_of(interval(of_heads[index])[0], each.figures),
            high=figures_of(interval(of_heads[index])[1], each.figures),
            threshold=each.threshold,
            confusion=each.ranking.confusion(each.threshold),
            groups=_groups(breakdowns, counts[index], rates[index], low[index], high[index]),
        )
        for index, (name, each) in enumerate(judged.items())
    }
    comparisons = {}
    for index, (name, (first, second)) in enumerate(pairs.items()):
        place = len(judged) + 2 * index
        versions = (heads[name].version, (other_provenance or {})[name]["version"])
        comparisons[name] = compare(first, second, versions, of_heads[place], of_heads[place + 1])
    return Evaluation(
        model="",
        against=None,
        source={},
        table=table,
        breakdowns=breakdowns,
        heads=heads,
        agreement=agreement(judged),
        comparisons=comparisons,
        draws=draws,
        seed=seed,
        examples=(),
    )


def _judge_both(
    table: pl.DataFrame,
    name: str,
    targets: Bool[np.ndarray, " n"],
    objects: Int64[np.ndarray, " n"],
) -> tuple[Judged, Judged]:
    """Two models' scores of the alerts that both scored, held to the same targets."""
    columns = [f"acai_{name}", f"acai_{name}{AGAINST}"]
    common = table.select(pl.all_horizontal(pl.col(columns).is_not_null())).to_series()
    rows = common.to_numpy()
    first, second = (
        Judged.of(table[column].filter(common), targets[rows], objects[rows]) for column in columns
    )
    return first, second


def positive_labels(head: str, provenance: Provenance) -> tuple[str, ...]:
    """The labels that are positives of a head: those it was trained on, or its own name.

    Example:
        >>> positive_labels("h", {}), positive_labels("fast", {"positives": ["kilonova", "SN Ia"]})
        (('h',), ('kilonova', 'SN Ia'))
    """
    labels: str | Sequence[str] = provenance.get("positives", [head])
    # early checkpoints joined them with spaces
    return tuple(labels.split() if isinstance(labels, str) else labels)


def _check_labels(table: pl.DataFrame, positives: Mapping[str, tuple[str, ...]]) -> None:
    found = set(table["label"])
    known = {label for labels in positives.values() for label in labels}
    # one head alone is held to negatives only on purpose: to those that training dropped
    if len(positives) > 1 and found.isdisjoint(known):
        raise EvaluationError(
            f"no label is a positive of any head: labels are {', '.join(sorted(found)):.100}; "
            f"heads are {', '.join(positives)}"
        )


def _object_numbers(table: pl.DataFrame) -> tuple[Int64[np.ndarray, " n"], int]:
    survey = survey_of_table(table.columns)
    names = pl.coalesce(pl.col(survey.object_id), pl.col(survey.alert_id).cast(pl.String))
    numbers = table.select(names.rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    return numbers, int(numbers.max()) + 1


def _groups(
    breakdowns: Mapping[str, Breakdown],
    counts: Shaped[np.ndarray, "4 g"],
    rates: Float64[np.ndarray, "2 g"],
    low: Float64[np.ndarray, "2 g"],
    high: Float64[np.ndarray, "2 g"],
) -> dict[str, list[Group]]:
    groups: dict[str, list[Group]] = {}
    place = 0
    for name, breakdown in breakdowns.items():
        groups[name] = []
        for group in breakdown.names:
            ends = (tuple(map(float, each[:, place])) for each in (rates, low, high))
            positives, negatives = map(int, counts[:2, place])
            groups[name].append(Group(group, positives, negatives, *ends))  # type: ignore[arg-type]
            place += 1
    return groups
