"""What a survey is, as data: one frozen description, which everything else reads."""

import dataclasses
import datetime
import functools
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

BRAAI: Final = "braai"
"""The stand-in that is no field: the score of the real/bogus network for the alert's stamps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One scalar of an alert that tables carry.

    Attributes:
        name: in the packet and in tables.
        kind: float and double are numbers of 32 and 64 bits; "integer" has 64 bits.
        unit: for people; "" for a number without one.
        required: an alert without it is no sound one.
        plausible: the least and the largest value that an alert can have.
        packaged: packaged datasets with raw stamps keep it: one more is another version of them.
    """

    name: str
    kind: Literal["float", "double", "integer", "text"] = "float"
    unit: str = ""
    required: bool = False
    plausible: tuple[float, float] | None = None
    packaged: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What heads read.

    Attributes:
        features: names of fields, in order.
        stamp: pixels along each side.
        channels: what the stamps show, in order.
        sentinel: what stands in a feature that has no value; it is no measurement.
    """

    features: tuple[str, ...]
    stamp: int
    channels: tuple[str, ...]
    sentinel: float

    @property
    def triplet(self) -> tuple[int, int, int]:
        """Shape of an alert's stamps, as heads take them."""
        return self.stamp, self.stamp, len(self.channels)


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """A preset: how a packet becomes arrays.

    Attributes:
        padding: of a small stamp: below and right of it once it is normalised, or with zeros all
            around it before that. Of a large one, the middle is taken.
        stand_ins: what takes the place of a feature that is null: another field, or `BRAAI`.
        in_noise: pixels are first divided by their standard deviations, by the stamp's plane of
            variances, and their asinh is taken.
        whole_centre: a stamp whose middle has pixels without a value is refused.
    """

    padding: Literal["corner", "centred"]
    stand_ins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    in_noise: bool = False
    whole_centre: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Derived:
    """A column that filters may use, made of another one.

    Attributes:
        name: of the new column.
        column: that it is made of.
        values: what each value of `column` becomes; any other becomes null.
        between: whether `column` lies in these bounds. Without either, the column is copied.
    """

    name: str
    column: str
    values: Mapping[str, bool] | None = None
    between: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class NamedFilter:
    """A filter with a name.

    Attributes:
        where: the expression.
        why: what it is for.
    """

    where: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Photometry:
    """Where measurements of a light curve stand in a packet.

    Attributes:
        rows: one of the survey's histories; or `Survey.record`, which holds the alert's own.
        time: the field that says when [day].
        brightness: a magnitude, or a flux if there is a zero point.
        error: of the brightness.
        sign: the field that says whether the difference flux is positive, of magnitudes.
        limit: 5-sigma limit [mag], where there is no brightness.
        since: Julian date (UTC) of the time 0.
        zero_point: magnitude of a flux of 1.
    """

    rows: str
    time: str
    brightness: str
    error: str
    sign: str = ""
    limit: str = ""
    since: float = 0.0
    zero_point: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Grouping:
    """A property by which an evaluation divides alerts.

    Attributes:
        title: for people, with its unit.
        column: a field; or "latitude" (galactic, without its sign) or "year", which are made.
        edges: between groups; without any, each value is a group.
        unit: that stands behind numbers in names of groups.
        whole: the values are whole numbers.
    """

    title: str
    column: str
    edges: tuple[float, ...] = ()
    unit: str = ""
    whole: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Signs:
    """What tells a survey's packets from others'; any one of them is enough.

    Attributes:
        namespaces: first words of the names of its schemas.
        fields: of the top level, which no other survey's packets have.
        beginnings: of the publisher or the object's name, in capitals, where packets have ZTF's
            field names.
    """

    namespaces: tuple[str, ...] = ()
    fields: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    """A survey whose packets are known, but not read."""

    title: str
    signs: Signs


COMMON_FILTERS: Final[Mapping[str, NamedFilter]] = {
    "early_hosted": NamedFilter(
        "acai_h > 0.8 AND MAX(acai_b, acai_n, acai_v, acai_o) < 0.1 AND n_detections < 5 "
        "AND is_positive_subtraction AND NOT is_known_ss_object",
        "Young supernova candidates near visible galaxies.",
    ),
    "anomaly": NamedFilter(
        "acai_b < 0.1 AND n_confident <> 1",
        "Real, but confident in no class, or in several: what the five classes do not describe.",
    ),
    "moving": NamedFilter(
        "acai_o > 0.8 AND acai_b < 0.1 AND n_detections <= 2 AND is_positive_subtraction",
        "Nothing stood there before and nothing came back: asteroids, known or not, and a few "
        "transients without a visible host.",
    ),
}
"""Of surveys whose derived columns are `n_detections`, `is_positive_subtraction` and
`is_known_ss_object`."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Survey:
    """Every fact about a survey's alerts. Its file is `surveys/NAME.py`, and there it is `NAME`.

    Attributes:
        name: in checkpoints.
        title: for people.
        signs: by which its packets are recognised.
        record: the packet's record that holds `fields`; of filters' paths, the first word.
        alert_id, object_id: names of the identifiers, in packets and tables.
        object_name: pattern of an object's name.
        time: the field that says when [JD, UTC].
        band: the field that says in which filter.
        magnitude: the field that says how bright [mag].
        fields: in the order of tables.
        inputs: of heads.
        recipes: presets by name.
        cutouts: fields of the packet, in the order of the channels.
        largest_stamp: pixels along each side of the largest cutout.
        histories: arrays of earlier photometry: most of a packet's records, and nothing that a
            score needs.
        split_by: what datasets keep in one split: all alerts of an object, or, where several
            objects' names may share one place, all of a patch of the sky.
        light_curve: where its measurements stand; of two of one time, the first counts.
        late_features: that early packets lack.
        late_reason: what the rejects of those packets say.
        bands: names of the values of `band`.
        public: fields of alerts that everyone may have, and their values.
        derived: columns for filters.
        filters: by name.
        groupings: of evaluations, by the keys of their results.
        key_fields: that people look at first.
        message_fields: that messages of scores carry beside identifiers and required fields.
        programmes: that topics are divided by.
        topic: pattern of the name of a night's topic, with {night} and {programme}; without them,
            all nights have one.
        archive_url: under which the public archive's nights lie; "" if there is none.
        archive_file: pattern of the name of one, with {night}.
        first_scorable: packets of earlier nights lack features.
        arrange: makes of a packet's top level one with identifiers and cutouts, and all `fields` in
            `record`; what is not there stays away. None: packets are so already.
        arranged_from: what it reads of the top level besides: names, or of an array of records
            one field, as NAME.FIELD, or nothing but how many there are, as NAME with a dot.
    """

    name: str
    title: str
    signs: Signs
    record: str
    alert_id: str
    object_id: str
    object_name: str
    time: str
    band: str
    magnitude: str
    fields: tuple[Field, ...]
    inputs: Inputs
    recipes: Mapping[str, Recipe]
    cutouts: tuple[str, ...]
    largest_stamp: int
    histories: tuple[str, ...]
    split_by: Literal["object", "position"] = "object"
    light_curve: tuple[Photometry, ...] = ()
    late_features: frozenset[str] = frozenset()
    late_reason: str = ""
    bands: Mapping[Any, str]
    public: Mapping[str, int] = dataclasses.field(default_factory=dict)
    derived: tuple[Derived, ...]
    filters: Mapping[str, NamedFilter]
    groupings: Mapping[str, Grouping]
    key_fields: tuple[str, ...]
    message_fields: tuple[str, ...]
    programmes: tuple[int, ...] = ()
    topic: str
    archive_url: str = ""
    archive_file: str = ""
    first_scorable: datetime.date = datetime.date.min
    arrange: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    arranged_from: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Survey({self.name!r})"

    def __reduce__(self) -> tuple[Callable[[str], "Survey"], tuple[str]]:
        # a survey is the same object in every process
        return pkgutil.resolve_name, (f"acai_jax.surveys.{self.name}:{self.name.upper()}",)

    @property
    def an_alert(self) -> str:
        """An alert of it, with the article that its title takes: an LSST alert."""
        spelt = self.title.isupper() and self.title[0] in "AEFHILMNORSX"
        return f"{'an' if spelt or self.title[0] in 'AEIO' else 'a'} {self.title} alert"

    def band_name(self, value: object) -> str:
        """The name of a value of `band`, or the value."""
        return self.bands.get(value, f"{self.band} {value}")

    @functools.cached_property
    def top_fields(self) -> frozenset[str]:
        """Names of what is read of a packet's top level, but histories."""
        return frozenset(
            {self.object_id, self.alert_id, self.record, *self.cutouts, *self.arranged_from}
        )

    @functools.cached_property
    def replaced(self) -> str | None:
        """The feature that other numbers may stand in for."""
        return next((name for each in self.recipes.values() for name in each.stand_ins), None)

    @functools.cached_property
    def table_fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of tables."""
        return tuple(field.name for field in self.fields)

    @functools.cached_property
    def dataset_fields(self) -> tuple[str, ...]:
        """Names of the fields that packaged datasets keep."""
        return tuple(field.name for field in self.fields if field.packaged)

    @functools.cached_property
    def dataset_numbers(self) -> tuple[str, ...]:
        """Names of those of them that hold numbers."""
        return tuple(name for name in self.dataset_fields if name not in self.text_fields)

    @functools.cached_property
    def required_fields(self) -> tuple[str, ...]:
        """Names of the fields that every alert has."""
        return tuple(field.name for field in self.fields if field.required)

    @functools.cached_property
    def text_fields(self) -> frozenset[str]:
        """Names of the fields that hold text."""
        return self._of_kind("text")

    @functools.cached_property
    def integer_fields(self) -> frozenset[str]:
        """Names of the fields that hold whole numbers."""
        return self._of_kind("integer")

    @functools.cached_property
    def number_fields(self) -> tuple[str, ...]:
        """Names of the fields that hold numbers."""
        return tuple(field.name for field in self.fields if field.kind != "text")

    @functools.cached_property
    def double_fields(self) -> frozenset[str]:
        """Names of the fields that 32 bits cannot hold."""
        return self._of_kind("double")

    @functools.cached_property
    def plausible(self) -> Mapping[str, tuple[float, float]]:
        """The bounds of the fields that have any."""
        return {field.name: field.plausible for field in self.fields if field.plausible}

    @functools.cached_property
    def units(self) -> Mapping[str, str]:
        """The unit of each field."""
        return {field.name: field.unit for field in self.fields}

    @functools.cached_property
    def kinds(self) -> Mapping[str, str]:
        """The kind of each field."""
        return {field.name: field.kind for field in self.fields}

    def _of_kind(self, kind: str) -> frozenset[str]:
        return frozenset(name for name, found in self.kinds.items() if found == kind)
