"""Which alerts to label next: a few of each reason, spread out, and always some at random."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from jaxtyping import Float, Int64

from acai_jax.datasets.labels import ACTIVE, Labels
from acai_jax.datasets.splits import split_keys, split_of
from acai_jax.errors import PickError, TableError
from acai_jax.labelling.queue import PICKED, alert_columns
from acai_jax.score.columns import score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey

RANDOM: Final = "random"
REASONS: Final = (*ACTIVE, RANDOM)
"""What an alert can be picked for: a score near the head's threshold, disagreement of an ensemble,
a label that out-of-fold heads contradict, the highest scores of a head, or chance."""
QUOTAS: Final[Mapping[str, float]] = {
    "boundary": 0.4,
    "disagreement": 0.2,
    "relabel": 0.2,
    "confident": 0.1,
    "random": 0.1,
}
"""Shares of the reasons; those of what cannot be had go to the boundary."""
LEAST_RANDOM: Final = 0.1
THRESHOLD: Final = 0.2
"""Where a head's balanced threshold lies about, in the paper."""

_CANDIDATES: Final = 4  # for each pick: so many are spread out
_LARGEST_LOGIT: Final = 15.0  # beyond it, scores round to 0 or 1
_LOSSES: Final = ("class", "label", "loss")  # and the survey's name of an alert

Embed = Callable[[pl.DataFrame], Float[np.ndarray, "n u"]]


def pick(
    table: pl.DataFrame,
    count: int,
    quotas: Mapping[str, float] | None = None,
    *,
    labels: Labels | None = None,
    losses: pl.DataFrame | None = None,
    thresholds: Mapping[str, float] | None = None,
    embed: Embed | None = None,
    labelling_round: int = 1,
    seed: int = 0,
) -> pl.DataFrame:
    """Picks alerts to be labelled; the same input gives the same queue.

    Random ones are drawn first: objects that have no label yet, all alike, and one alert of each.
    The others are alerts of training objects only, one of an object, the heads taking turns. Of
    the alerts that a reason puts first, four for each pick, those are taken that lie far from each
    other and from what is picked already.

    Args:
        table: of `read_scores`; one without heads will do where all are drawn at random.
        count: how many to pick.
        quotas: reason -> share of the picks, in any unit; by default `QUOTAS`.
        labels: that there are. Their objects are not picked, but to be labelled again.
        losses: out-of-fold, a row for each alert and class: the alert's identifier, class, label,
            loss [nat], as training with folds writes them.
        thresholds: head -> its balanced threshold; `THRESHOLD` where there is none.
        embed: gives places of alerts, rows of `table`, in a space where like is near like; by
            default the logits of their scores.
        labelling_round: number of the round.
        seed: of chance.

    Returns:
        The queue, in an order that tells nothing; see `PICKED` for its columns. It may hold fewer
        alerts than asked for, where there are no more objects.

    Raises:
        PickError: quotas are impossible, or nothing is left to label.
        TableError: `losses` is no such table.

    Example:
        >>> table = pl.DataFrame({"candid": [1, 2], "objectId": ["ZTF20aaaaaaa", "ZTF20aaaaaac"]})
        >>> queue = pick(table, 1, {"random": 1.0})
        >>> queue.select("why", "probability").rows()
        [('random', 0.5)]
    """
    heads = [name.removeprefix("acai_") for name in score_columns(table.columns)]
    ensemble = bool(heads) and all(f"acai_{head}_mi" in table.columns for head in heads)
    shares = _shares(quotas, heads=bool(heads), ensemble=ensemble, losses=losses is not None)
    if count < 1:
        raise PickError(f"count is {count}, not 1 or more")
    if losses is not None and labels is None:
        raise PickError("losses come with the labels that they are of")
    pool = _Pool(table, heads, labels, np.random.default_rng((seed, labelling_round)))
    wanted = _apportion(count, shares)
    picked = [pool.draw(wanted[RANDOM])]
    if losses is not None and labels is not None:
        picked.append(pool.relabel(_suspects(losses, labels, pool.survey), wanted["relabel"]))
    limits = {head: (thresholds or {}).get(head, THRESHOLD) for head in heads}
    priorities = {
        "boundary": lambda head: -abs(_logit(f"acai_{head}") - _logit_of(limits[head])),
        "disagreement": lambda head: pl.col(f"acai_{head}_mi"),
        "confident": lambda head: pl.col(f"acai_{head}"),
    }
    turns = [
        (why, head, number, priorities[why](head))
        for why in priorities
        if wanted[why]
        for head, number in zip(heads, _turns(wanted[why], len(heads)), strict=True)
    ]
    picked += pool.active(turns, embed or _logits(heads))
    queue = pl.concat(picked, how="diagonal_relaxed")
    if queue.is_empty():
        raise PickError("nothing is left to label: all objects have labels, or no alert has scores")
    queue = queue.with_columns(pl.lit(labelling_round, pl.Int64).alias("round"))
    # labellers see no pattern, and whoever stops early leaves the same mixture
    return queue.select(pl.all().gather(pool.rng.permutation(len(queue))))


def _shares(
    quotas: Mapping[str, float] | None, *, heads: bool, ensemble: bool, losses: bool
) -> dict[str, float]:
    lacking = {
        "boundary": "" if heads else "needs scores",
        "confident": "" if heads else "needs scores",
        "disagreement": "" if ensemble else "needs scores of ensembles, with acai_*_mi",
        "relabel": "" if losses else "needs out-of-fold losses, and labels",
        RANDOM: "",
    }
    if not quotas:
        if not heads:
            return {**dict.fromkeys(REASONS, 0.0), RANDOM: 1.0}
        shares = {why: 0.0 if lacking[why] else share for why, share in QUOTAS.items()}
        shares["boundary"] += 1 - sum(shares.values())
        return shares
    if unknown := [why for why in quotas if why not in REASONS]:
        raise PickError(f"quotas: no reason {unknown[0]!r:.40}; there are: {', '.join(REASONS)}")
    total = sum(quotas.values())
    if not all(share >= 0 and math.isfinite(share) for share in quotas.values()) or not total > 0:
        raise PickError("quotas are numbers from 0 up, and one at least is larger")
    shares = {why: quotas.get(why, 0.0) / total for why in REASONS}
    if shares[RANDOM] < LEAST_RANDOM:
        least = f"{100 * LEAST_RANDOM:.0f} %"
        raise PickError(
            f"quotas: {100 * shares[RANDOM]:.1f} % are random, not {least} or more: without "
            "these, nothing can be compared"
        )
    for why, share in shares.items():
        if share and lacking[why]:
            raise PickError(f"quotas: {why} {lacking[why]}")
    return shares


def _apportion(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers with these shares; the random ones are rounded up."""
    numbers = {why: int(share * count + 1e-9) for why, share in shares.items()}
    numbers[RANDOM] = min(count, math.ceil(shares[RANDOM] * count - 1e-9))
    rest = sorted(
        (why for why in shares if why != RANDOM),
        key=lambda why: numbers[why] - shares[why] * count,
    )
    for why in rest:
        if sum(numbers.values()) < count and shares[why]:
            numbers[why] += 1
    return numbers


def _turns(count: int, places: int) -> list[int]:
    return [count // places + (place < count % places) for place in range(places)]


class _Pool:
    """The alerts that may be picked; who is picked takes the object along."""

    def __init__(
        self,
        table: pl.DataFrame,
        heads: Sequence[str],
        labels: Labels | None,
        rng: np.random.Generator,
    ) -> None:
        self.rng = rng
        self.survey = survey = survey_of_table(table.columns)
        self.table = table
        self.heads = heads
        keys = split_keys(table, survey)
        splits = {key: split_of(key) for key in {*keys}}
        table = table.with_columns(pl.Series("split", [splits[key] for key in keys], pl.String))
        done = pl.Series([], dtype=pl.String) if labels is None else labels.table["object_id"]
        self._open = table.filter(~pl.col(survey.object_id).is_in(done.unique().implode()))
        self._all = table
        self._objects: set[str] = set()
        self._places: list[np.ndarray] = []

    def draw(self, count: int) -> pl.DataFrame:
        """Picks objects at random, and an alert of each."""
        survey = self.survey
        objects = self._open.group_by(survey.object_id, maintain_order=True).agg(
            pl.col(survey.alert_id).sort(), pl.len().alias("alerts")
        )
        objects = objects.sort(survey.object_id)
        count = min(count, len(objects))
        chosen = objects.select(pl.all().gather(self.rng.choice(len(objects), count, False)))
        places = self.rng.integers(0, chosen["alerts"].to_numpy()).tolist()
        alert_ids = [row[place] for row, place in zip(chosen[survey.alert_id], places, strict=True)]
        share = count / max(1, len(objects))
        return self._picked(alert_ids, RANDOM, None, [share / n for n in chosen["alerts"]])

    def relabel(self, suspects: pl.DataFrame, count: int) -> pl.DataFrame:
        """Picks alerts whose labels are the most doubtful, one of an object."""
        survey = self.survey
        suspects = suspects.filter(~pl.col("object_id").is_in(self._taken().implode()))
        rows = suspects.unique("object_id", keep="first", maintain_order=True).head(count)
        chosen = self._picked(rows["alert_id"].to_list(), "relabel", None)
        known = rows.select(
            pl.col("alert_id").alias(survey.alert_id),
            pl.col("object_id").alias(survey.object_id),
            pl.lit("train").alias("split"),
            pl.lit("relabel").alias("why"),
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("rank"),
            pl.col("class").alias("head"),
        )
        # alerts that were labelled long ago are in no table of tonight
        missing = known.join(chosen, survey.alert_id, "anti", maintain_order="left")
        told = chosen.drop("rank", "head").join(
            known.select(survey.alert_id, "rank", "head"), survey.alert_id, maintain_order="left"
        )
        self._take(known[survey.object_id])
        return pl.concat([told, missing], how="diagonal_relaxed")

    def active(
        self, turns: Sequence[tuple[str, str, int, pl.Expr]], embed: Embed
    ) -> list[pl.DataFrame]:
        """Picks for each (reason, head) so many alerts, by the largest values, spread out."""
        survey = self.survey
        candidates = [
            self._open.filter(pl.col("split") == "train")
            .sort(value, survey.alert_id, descending=[True, False])
            .unique(survey.object_id, keep="first", maintain_order=True)
            .head(_CANDIDATES * number + sum(each[2] for each in turns))
            for _, _, number, value in turns
        ]
        if not candidates or not (rows := pl.concat(candidates).unique(survey.alert_id)).height:
            return []
        rows = rows.sort(survey.alert_id)
        places = np.asarray(embed(rows), np.float64)
        places = places / np.where(places.std(0) > 0, places.std(0), 1.0)
        place_of = dict(zip(rows[survey.alert_id], places, strict=True))
        found = []
        for (why, head, number, _), of_turn in zip(turns, candidates, strict=True):
            left = of_turn.filter(~pl.col(survey.object_id).is_in(self._taken().implode()))
            alert_ids = left[survey.alert_id].head(_CANDIDATES * number).to_list()
            if not alert_ids or not number:
                continue
            here = np.stack([place_of[alert_id] for alert_id in alert_ids])
            chosen = spread(here, number, np.array(self._places).reshape(-1, here.shape[1]))
            self._places += list(here[chosen])
            found.append(self._picked([alert_ids[row] for row in chosen], why, head))
        return found

    def _taken(self) -> pl.Series:
        return pl.Series(sorted(self._objects), dtype=pl.String)

    def _take(self, object_ids: pl.Series) -> None:
        self._objects.update(object_ids)

    def _picked(
        self,
        alert_ids: Sequence[int],
        why: str,
        head: str | None,
        probability: Sequence[float] | None = None,
    ) -> pl.DataFrame:
        survey = self.survey
        order = pl.DataFrame(
            {
                survey.alert_id: alert_ids,
                "rank": range(1, len(alert_ids) + 1),
                "probability": probability,
            },
            {survey.alert_id: pl.Int64, "rank": pl.Int64, "probability": pl.Float64},
        )
        rows = order.join(self._all, survey.alert_id, maintain_order="left")
        versions = [f"acai_{name}_version" for name in ([head] if head else self.heads)]
        there = [name for name in versions if name in self._all.columns]
        model = pl.lit(None, pl.String)
        if there:
            model = pl.concat_list(there).list.unique(maintain_order=True).list.join("; ")
        self._take(rows[survey.object_id])
        kinds = {name: kind for name, kind in alert_columns(survey).items() if name not in rows}
        return rows.with_columns(
            pl.lit(why).alias("why"),
            pl.lit(head, pl.String).alias("head"),
            (pl.col(f"acai_{head}") if head else pl.lit(None)).cast(pl.Float64).alias("score"),
            model.alias("model"),
            *(pl.lit(None, kind).alias(name) for name, kind in kinds.items()),
        ).select(
            *alert_columns(survey),
            *(name for name in PICKED if name != "round"),
            *(f"acai_{name}" for name in self.heads),
        )


def spread(
    places: Float[np.ndarray, "n u"], count: int, others: Float[np.ndarray, "m u"]
) -> Int64[np.ndarray, " c"]:
    """Rows that lie far from each other: the first, then always the one that is furthest away.

    Args:
        places: of the rows, the best first.
        count: how many to choose, at most.
        others: places from which to keep away, too.

    Example:
        >>> places = np.array([[0.0], [0.1], [5.0], [3.0]])
        >>> spread(places, 3, np.empty((0, 1))).tolist()
        [0, 2, 3]
    """
    distance = np.full(len(places), np.inf)
    for other in others:
        distance = np.minimum(distance, ((places - other) ** 2).sum(1))
    chosen: list[int] = []
    for _ in range(min(count, len(places))):
        row = int(distance.argmax())  # of equal ones, the first
        chosen.append(row)
        distance = np.minimum(distance, ((places - places[row]) ** 2).sum(1))
        distance[chosen] = -1.0
    return np.array(chosen, np.int64)


def _suspects(losses: pl.DataFrame, labels: Labels, survey: Survey) -> pl.DataFrame:
    """The labelled alerts that have losses, the largest, over all classes, first."""
    alert_id, expected = survey.alert_id, (survey.alert_id, *_LOSSES)
    if missing := [name for name in expected if name not in losses.columns]:
        raise TableError(f"losses: no column {missing[0]}; expected {', '.join(expected)}")
    if losses[alert_id].dtype != pl.Int64 or not losses["loss"].dtype.is_numeric():
        raise TableError(f"losses: {alert_id} is no Int64, or loss no number")
    if not losses["loss"].is_finite().all():
        raise TableError("losses: loss is not finite everywhere")
    worst = losses.sort("loss", descending=True).group_by(alert_id, "label", maintain_order=True)
    summed = worst.agg(pl.col("loss").sum(), pl.col("class").first())
    # a label that was changed since is not the one that the heads contradicted
    rows = labels.table.join(summed, left_on=["alert_id", "label"], right_on=[alert_id, "label"])
    return rows.sort(["loss", "alert_id"], descending=[True, False])


def _logit(column: str) -> pl.Expr:
    score = pl.col(column).cast(pl.Float64)
    return (score.log() - (1 - score).log()).clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)


def _logit_of(threshold: float) -> float:
    if not 0 < threshold < 1:
        raise PickError(f"a threshold is {threshold}, not between 0 and 1")
    return math.log(threshold / (1 - threshold))


def _logits(heads: Sequence[str]) -> Embed:
    columns = [_logit(f"acai_{head}").alias(head) for head in heads]
    return lambda rows: rows.select(columns).to_numpy()
