"""What labellers have said, as tables: the labels that stand, the history, how far they agree."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from acai_jax.datasets.labels import COLUMNS, read_labels
from acai_jax.errors import LabelsError
from acai_jax.files import write_atomically
from acai_jax.labelling.store import Event, LabelStore, Standing, decided
from acai_jax.text import FORMULA

RULE: Final = (
    "Of an alert's labels, the one that more labellers gave than any other stands; where there is "
    "none such, the alert gets no label."
)
"""How different labels of one alert become one, or none."""
FILES: Final = ("labels.csv", "history.csv", "agreement.csv", "conflicts.csv")

_TEXTS: Final = pl.col(pl.String)


class Agreement(NamedTuple):
    """How far two labellers agree.

    Attributes:
        first, second: their names.
        alerts: that both gave a label to.
        agreed: share of these with the same label.
        kappa: Cohen's: (agreed - c) / (1 - c), where c is the share in which they would agree by
            chance, with the labels that each gives as often as they do. NaN where both gave one
            and the same label only.
    """

    first: str
    second: str
    alerts: int
    agreed: float
    kappa: float


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """What is in the tables.

    Attributes:
        labels: alerts that have a label.
        events: of the history.
        conflicts: alerts that labellers gave different labels.
        undecided: those of them that have no label.
        unsure: alerts of which all labellers are unsure.
        agreements: of each pair of labellers.
    """

    labels: int
    events: int
    conflicts: int
    undecided: int
    unsure: int
    agreements: Sequence[Agreement]


def export_labels(
    store: LabelStore,
    folder: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
) -> Exported:
    """Writes `FILES`; `labels.csv` is what `acai-jax package` takes.

    Args:
        store: of the labels.
        folder: is made if need be; its files are replaced.
        base: labels that there are already, a labels file: labels of the store take the place of
            those of the same alert, and the others stay as they are.

    Raises:
        LabelsError: nothing is labelled, or `base` is no labels file.

    Example:
        >>> export_labels(LabelStore("labels.db"), "labels").labels  # doctest: +SKIP
        100
    """
    events = list(store.history())
    standing = store.standing()
    labels = _labels(standing)
    count = len(labels)
    if base is not None:
        labels = _with_base(labels, base)
    if labels.is_empty():
        raise LabelsError(f"{store.path} holds no labels yet")
    conflicts = _conflicts(standing)
    agreements = _agreements(standing)
    unsure = sum(not standing.labels(alert_id) for alert_id in standing.alert_ids())
    tables = (labels, _history(events), pl.DataFrame(agreements, Agreement._fields), conflicts)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(FILES, tables, strict=True):
        # comments and names from outside begin no formula in a spreadsheet
        safe = table.with_columns(_TEXTS.str.replace(FORMULA, "'$0"))
        write_atomically(folder / name, safe.write_csv)
    undecided = conflicts["decision"].null_count()
    return Exported(count, len(events), len(conflicts), undecided, unsure, agreements)


def _labels(standing: Standing) -> pl.DataFrame:
    rows = []
    for alert_id in standing.alert_ids():
        label = decided(standing.labels(alert_id).values())
        if label is not None:
            first = next(iter(standing.answers(alert_id).values()))
            asked = first.asked
            rows.append((first.object_id, alert_id, label, asked.why, asked.probability))
    schema = dict.fromkeys(COLUMNS, pl.String) | {"why": pl.String, "probability": pl.Float64}
    return pl.DataFrame(rows, schema | {COLUMNS[1]: pl.Int64}, orient="row")


def _with_base(labels: pl.DataFrame, base: str | os.PathLike[str]) -> pl.DataFrame:
    read_labels(base)  # says what is wrong with it
    oid, alert_id, label = COLUMNS
    texts = pl.read_csv(Path(base), infer_schema=False, encoding="utf8")
    texts = texts.rename(str.strip).with_columns(pl.all().str.strip_chars())
    old = texts.with_columns(pl.col(alert_id).cast(pl.Int64)).unique(
        alert_id, keep="first", maintain_order=True
    )
    if "probability" in old.columns:
        old = old.with_columns(pl.col("probability").cast(pl.Float64, strict=False))
    # an alert that is labelled again is still in the sample for the reason that brought it there
    again = labels.select(alert_id, pl.col(label).alias("_new"))
    changed = old.join(again, alert_id, "left", maintain_order="left").with_columns(
        pl.coalesce("_new", label).alias(label)
    )
    new = labels.join(old, alert_id, "anti", maintain_order="left")
    return pl.concat([changed.drop("_new"), new], how="diagonal").select(
        oid, alert_id, label, pl.exclude(*COLUMNS)
    )


def _history(events: Iterable[Event]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for event in events:
        row = dataclasses.asdict(event)
        asked = row.pop("asked")
        row = {"number": row.pop("number"), "time": row.pop("time"), **row, **asked}
        rows.append(row)
    table = pl.DataFrame(rows, infer_schema_length=None)
    if table.is_empty():
        return table
    utc = pl.from_epoch((pl.col("time") * 1e6).cast(pl.Int64), "us").dt.strftime("%FT%T%.3fZ")
    return table.with_columns(utc.alias("time"), pl.col("seconds").cast(pl.Float64).round(2))


def _conflicts(standing: Standing) -> pl.DataFrame:
    rows = []
    for alert_id in standing.alert_ids():
        labels = standing.labels(alert_id)
        if len(set(labels.values())) > 1:
            object_id = next(iter(standing.answers(alert_id).values())).object_id
            said = "; ".join(f"{name}: {label}" for name, label in sorted(labels.items()))
            rows.append((object_id, alert_id, said, decided(labels.values()), RULE))
    schema = (COLUMNS[0], COLUMNS[1], "labels", "decision", "rule")
    texts = {name: pl.Int64 if name == COLUMNS[1] else pl.String for name in schema}
    return pl.DataFrame(rows, texts, orient="row")


def _agreements(standing: Standing) -> list[Agreement]:
    labels = [standing.labels(alert_id) for alert_id in standing.alert_ids()]
    names = sorted({name for each in labels for name in each})
    found = []
    for first, second in itertools.combinations(names, 2):
        both = [(each[first], each[second]) for each in labels if {first, second} <= each.keys()]
        if both:
            agreed = float(np.mean([one == two for one, two in both]))
            found.append(Agreement(first, second, len(both), agreed, cohens_kappa(both)))
    return found


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Agreement beyond chance of two labellers: 1 is perfect, 0 what chance would give.

    Args:
        pairs: the label of each of the two, for each alert that both have labelled.

    Example:
        >>> cohens_kappa([("h", "h"), ("n", "n"), ("h", "n"), ("n", "n")])
        0.5

    Source: Cohen 1960, Educational and Psychological Measurement 20, 37.
    """
    first, second = map(np.array, zip(*pairs, strict=True))
    agreed = np.mean(first == second)
    chance = sum(np.mean(first == label) * np.mean(second == label) for label in {*first, *second})
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")
