"""Alerts in groups whose errors may differ: filter, magnitude, sky, year, history."""

import itertools
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64, Shaped
from scipy import sparse

from acai_jax.coordinates import galactic
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Grouping, Survey
from acai_jax.times import DATES, UNIX_EPOCH_JD

UNKNOWN: Final = "unknown"
_KINDS: Final = 4  # positives, negatives, missed positives, negatives called positive


class Breakdown(NamedTuple):
    """Alerts, divided by one property.

    Attributes:
        title: of the property, with its unit.
        names: of the groups, in their order; each has alerts.
        codes: which group each alert is in.
    """

    title: str
    names: tuple[str, ...]
    codes: Int64[np.ndarray, " n"]


def break_down(table: pl.DataFrame) -> dict[str, Breakdown]:
    """Divides alerts as the survey's `groupings` say: by filter, magnitude, year and so on.

    Args:
        table: with an identifier, and the columns that the groupings name (of ZTF: fid, magpsf
            [mag], ra and dec [deg], jd [day] and ndethist); an alert without a value is in the
            group "unknown".

    Raises:
        TableError: as for `survey_of_table`.

    Example:
        >>> columns = {"fid": 1, "magpsf": 18.4, "ra": 266.4, "dec": -28.9, "jd": 2458300.5}
        >>> groups = break_down(pl.DataFrame({**columns, "candid": 1, "ndethist": 7}))
        >>> [group.names[0] for group in groups.values()]
        ['g', '18-19', '< 10°', '2018', '5-19']
    """
    # what is infinite is as unknown as what is not there
    survey = survey_of_table(table.columns)
    columns = (each.column for each in survey.groupings.values())
    names = dict.fromkeys(("ra", "dec", survey.time, *columns))
    values = [pl.col(name).cast(pl.Float64) for name in names if name in survey.number_fields]
    texts = [name for name in names if name in survey.text_fields]
    table = table.select(*(pl.when(each.is_finite()).then(each) for each in values), *texts)
    time = pl.col(survey.time)
    dated = pl.when(time.is_between(*DATES)).then(time)
    days = (dated - UNIX_EPOCH_JD).floor().cast(pl.Int32)
    year = days.cast(pl.Date).dt.year().cast(pl.Float64)
    table = table.with_columns(latitude=galactic()[1].abs(), year=year)
    return {
        key: _by_edges(grouping, table[grouping.column].to_numpy())
        if grouping.edges
        else _by_values(grouping, table[grouping.column], survey)
        for key, grouping in survey.groupings.items()
    }


def _by_values(grouping: Grouping, values: pl.Series, survey: Survey) -> Breakdown:
    found = values.drop_nulls().unique().sort()
    codes = (values.rank("dense").cast(pl.Int64) - 1).fill_null(len(found))
    plain = (int(value) if isinstance(value, float) else value for value in found)
    named = survey.band_name if grouping.column == survey.band else str
    names = [named(value) for value in plain] + [UNKNOWN] * (values.null_count() > 0)
    return Breakdown(grouping.title, tuple(names), codes.to_numpy())


def _by_edges(grouping: Grouping, values: Float64[np.ndarray, " n"]) -> Breakdown:
    edges, unit = grouping.edges, grouping.unit

    def between(low: float, high: float) -> str:
        last = high - 1 if grouping.whole else high
        return f"{low:g}{unit}" if last == low else f"{low:g}-{last:g}{unit}"

    names = [
        f"< {edges[0]:g}{unit}",
        *(between(low, high) for low, high in itertools.pairwise(edges)),
        f"≥ {edges[-1]:g}{unit}",
        UNKNOWN,
    ]
    all_codes = np.where(np.isnan(values), len(edges) + 1, np.digitize(values, edges))
    found, codes = np.unique(all_codes, return_inverse=True)
    return Breakdown(grouping.title, tuple(names[code] for code in found), codes.astype(np.int64))


class ErrorCounts:
    """Counts of positives, negatives and errors in every group, for any weights of objects.

    Args:
        breakdowns: of n alerts.
        objects: the number of each alert's object.
        object_count: how many objects there are.

    Example:
        >>> group = Breakdown("filter", ("g", "r"), np.array([0, 1, 1]))
        >>> counts = ErrorCounts({"filter": group}, np.array([0, 0, 1]), 2)
        >>> everyone = np.full(3, True)
        >>> counts.add(everyone, np.array([True, True, False]), np.array([True, False, False]))
        >>> counts.rates(counts.matrix() @ np.ones(2))
        array([[[ 0.,  1.],
                [nan,  0.]]])
    """

    def __init__(
        self,
        breakdowns: Mapping[str, Breakdown],
        objects: Int64[np.ndarray, " n"],
        object_count: int,
    ) -> None:
        self._breakdowns, self._objects = breakdowns, objects
        self._object_count = object_count
        self.groups = sum(len(each.names) for each in breakdowns.values())
        """Groups of all breakdowns together."""
        self._places: list[np.ndarray] = []
        self._heads = 0

    def add(
        self,
        scored: Bool[np.ndarray, " n"],
        targets: Bool[np.ndarray, " n"],
        called: Bool[np.ndarray, " n"],
    ) -> None:
        """Takes the next head: which alerts it scored, what they are, and what it called them."""
        kinds = np.where(targets, 0, 1)
        wrong = scored & (targets != called)
        first = self._heads * self.groups
        for each in self._breakdowns.values():
            group = (first + each.codes) * _KINDS
            for chosen, kind in ((scored, kinds), (wrong, kinds + 2)):
                place = np.stack([(group + kind)[chosen], self._objects[chosen]])
                self._places.append(place.astype(np.int32))
            first += len(each.names)
        self._heads += 1

    def matrix(self) -> sparse.csr_array:
        """Times the weights of objects, it gives the counts of all heads and groups."""
        places = np.concatenate(self._places, axis=1)
        shape = (self._heads * self.groups * _KINDS, self._object_count)
        ones = np.ones(places.shape[1])
        return sparse.coo_array((ones, (places[0], places[1])), shape).tocsr()

    def rates(self, counts: Float64[np.ndarray, "*draws m"]) -> Float64[np.ndarray, "*draws k 2 g"]:
        """FNR and FPR of k heads in g groups; NaN where a group has no positive, or negative."""
        sorted_out = self.counts(counts)
        whole, wrong = sorted_out[..., :2, :], sorted_out[..., 2:, :]
        none = np.full(whole.shape, np.nan)
        return np.divide(wrong, whole, out=none, where=whole > 0)

    def counts(self, counts: Shaped[np.ndarray, "*draws m"]) -> Shaped[np.ndarray, "*draws k 4 g"]:
        """Positives, negatives, missed positives and false alarms of k heads in g groups."""
        shape = (*counts.shape[:-1], self._heads, self.groups, _KINDS)
        return np.swapaxes(counts.reshape(shape), -1, -2)
