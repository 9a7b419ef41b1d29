"""Reading a packaged dataset, without TensorFlow: records by index, or a whole split as arrays.

The datasets are TFDS's, in ArrayRecord files; TFDS and Grain read them as well.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, SupportsIndex, cast

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int64, Shaped
from tensorflow_datasets.proto import tf_example_pb2

from acai_jax.alerts.packet import AlertPacket, arranged_packet
from acai_jax.alerts.stamps import Images, readable_stamps
from acai_jax.errors import DatasetError
from acai_jax.surveys import DEFAULT, SURVEYS, survey_of_table
from acai_jax.surveys.base import Survey

_Example: Final = tf_example_pb2.Example  # type: ignore[attr-defined]
_INFO_FILE: Final = "dataset_info.json"
_INCOMPLETE: Final = "incomplete."  # TFDS's name for what a build has not finished


def open_dataset(directory: str | os.PathLike[str]) -> tfds.core.DatasetBuilder:
    """Opens a packaged dataset with TFDS: its `info` has splits, metadata and features.

    Args:
        directory: of one version, such as `datasets/ztf_acai/alerts/1.0.0`, or a folder above it
            with no other dataset in it.

    Raises:
        DatasetError: there is no dataset, or more than one.

    Example:
        >>> open_dataset("no_such_folder")
        Traceback (most recent call last):
        acai_jax.errors.DatasetError: no such folder: no_such_folder
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise DatasetError(f"no such folder: {folder}")
    found = sorted(
        path.parent
        for path in folder.rglob(_INFO_FILE)
        if not any(part.startswith(_INCOMPLETE) for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DatasetError(f"no dataset in {folder}: no {_INFO_FILE} there or below")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise DatasetError(f"several datasets in {folder}, name one: {names:.400}")
    try:
        return tfds.builder_from_directory(found[0])
    except Exception as error:  # TFDS raises many types on damaged files
        raise DatasetError(f"{found[0]} is no dataset that TFDS can read: {error}") from error


class Records(Sequence[Mapping[str, Any]]):
    """The records of one split, by index: a source for Grain, or for a loop.

    A record is a dictionary: `triplet` float32 (h, w, c) and `features` float32 (f,), or, where
    the dataset keeps raw stamps, the three cutouts [FITS] and the numbers of the alert's fields;
    `label`; identifiers and required fields by the survey's names (of ZTF: `candid`, exact,
    `objectId`, `jd` [day], `ra` and `dec` [deg], `fid`, `programid`); and how the arrays were made:
    `preset`, `drb_source`. Arrays are read-only views of the record.

    Args:
        directory: as for `open_dataset`.
        split: "train", "validation" or "test".

    Attributes:
        survey: of the alerts.

    Raises:
        DatasetError: there is no such dataset or split, it is not in ArrayRecord files, or its
            survey is unknown.

    Example:
        >>> records = Records("datasets", "train")  # doctest: +SKIP
        >>> records[0]["triplet"].shape  # doctest: +SKIP
        (63, 63, 3)
        >>> grain.MapDataset.source(records).shuffle(seed=0).batch(32)  # doctest: +SKIP
    """

    def __init__(self, directory: str | os.PathLike[str], split: str) -> None:
        builder = open_dataset(directory)
        if split not in builder.info.splits:
            known = ", ".join(sorted(builder.info.splits)) or "none"
            raise DatasetError(f"no split {split!r} in {builder.data_path}; there are: {known}")
        self.info = builder.info
        self.split = split
        try:
            # TFDS's own decoding takes longer than reading: a record's bytes are parsed here
            self._raw: Sequence[bytes] = cast(Any, builder).as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
        except NotImplementedError:
            raise DatasetError(
                f"{builder.data_path} is not in ArrayRecord files: read it with tfds.load"
            ) from None
        features = cast(tfds.features.FeaturesDict, builder.info.features)
        metadata = builder.info.metadata or {}
        self.survey = dataset_survey(builder.info)
        self._readers = {
            name: _reader(feature, metadata.get(f"{name}_fields"), self.survey.integer_fields)
            for name, feature in features.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """What each record holds."""
        return tuple(self._readers)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        try:
            raw = self._raw[index % len(self)]
        except RuntimeError as error:  # ArrayRecord checks what it reads
            problem = str(error).partition(";")[0]
            raise DatasetError(
                f"damaged split {self.split!r} in {self.info.data_dir}: {problem}. Build it again"
            ) from error
        return self._parse(raw)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[type["Records"], tuple[str, str]]:
        # each process that Grain starts opens the files for itself
        return Records, (self.info.data_dir, self.split)

    def __repr__(self) -> str:
        return f"Records({os.fspath(self.info.data_dir)!r}, {self.split!r})"

    def _parse(self, raw: bytes) -> dict[str, Any]:
        values = _Example.FromString(raw).features.feature
        return {name: read(values[name]) for name, read in self._readers.items()}


def dataset_survey(info: tfds.core.DatasetInfo) -> Survey:
    """Whose alerts a dataset holds.

    Raises:
        DatasetError: the survey is unknown.
    """
    name = (info.metadata or {}).get("survey", DEFAULT.name)
    if name not in SURVEYS:
        raise DatasetError(
            f"{info.data_dir} holds alerts of {name!r:.80}; this version of acai_jax knows "
            f"{', '.join(SURVEYS)}"
        )
    return SURVEYS[name]


def _reader(
    feature: Any, fields: Sequence[str] | None, integers: Collection[str]
) -> Callable[[Any], Any]:
    """How to read one feature of a `tf.train.Example`."""
    if isinstance(feature, tfds.features.Text):
        return lambda value: value.bytes_list.value[0].decode()
    dtype, shape = np.dtype(feature.np_dtype), feature.shape
    if dtype == np.dtype(object):
        return lambda value: value.bytes_list.value[0]
    if dtype.kind == "i":
        return lambda value: value.int64_list.value[0]

    def array(value: Any) -> Any:
        return np.frombuffer(value.bytes_list.value[0], dtype).reshape(shape)[()]

    if fields is None:
        return array
    return lambda value: {
        name: None if number != number else int(number) if name in integers else number
        for name, number in zip(fields, array(value).tolist(), strict=True)
    }


def packet_of(record: Mapping[str, Any]) -> AlertPacket:
    """The alert packet behind a record that keeps raw stamps, for `alert_arrays` under any preset.

    Args:
        record: from the `Records` of a dataset of the config `alerts_stamps`.

    Raises:
        DatasetError: the record holds arrays; the stamps behind them are gone.

    Example:
        >>> packet_of({"triplet": None})
        Traceback (most recent call last):
        acai_jax.errors.DatasetError: the record keeps no raw stamps: build with alerts_stamps
    """
    if "triplet" in record:
        raise DatasetError("the record keeps no raw stamps: build with alerts_stamps")
    survey = survey_of_table(record)
    # an empty stamp stands for a null one
    cutouts = {name: record[name] or None for name in survey.cutouts}
    return arranged_packet({**record, **cutouts}, survey)


def images_of(record: Mapping[str, Any]) -> Images:
    """The stamps of a record, to look at: raw ones, or those that preprocessing has normalised.

    Args:
        record: from `Records`. Pixels without data are NaN.

    Example:
        >>> images = images_of({"triplet": np.zeros((63, 63, 3), np.float32)})
        >>> bool(np.isnan(images[0]).all())
        True
    """
    if "triplet" not in record:
        packet = packet_of(record)
        return readable_stamps(packet.cutouts, packet.survey.largest_stamp)
    triplet = np.asarray(record["triplet"])
    # preprocessing has put zeros where pixels were missing, and 1e-9 beyond small stamps
    shown = np.where(np.abs(triplet) <= np.float32(1e-9), np.float32(np.nan), triplet)
    science, template, difference = np.moveaxis(shown, -1, 0)
    return science, template, difference


@dataclasses.dataclass(frozen=True, slots=True)
class SplitArrays:
    """A whole split in memory, one row per alert.

    Attributes:
        triplets: normalised stamps; channels are science, template, difference.
        features: raw features in the order of the survey's inputs.
        labels: classes, as text.
        alert_ids: exact.
        object_ids: names of the objects.
        fields: the survey's required fields by name; of ZTF: jd [day], ra and dec [deg], fid (1, 2,
            3 are g, r, i), programid (1 is public).
        drb_source: where each `drb` came from.
    """

    triplets: Float32[np.ndarray, "b h w c"]
    features: Float32[np.ndarray, "b f"]
    labels: np.ndarray
    alert_ids: Int64[np.ndarray, " b"]
    object_ids: np.ndarray
    fields: Mapping[str, Shaped[np.ndarray, " b"]]
    drb_source: np.ndarray


def load_split(directory: str | os.PathLike[str], split: str) -> SplitArrays:
    """Loads a split into arrays: 48 kB of memory for each alert.

    Args:
        directory: as for `open_dataset`.
        split: "train", "validation" or "test".

    Raises:
        DatasetError: there is no such dataset or split, or it keeps raw stamps.

    Example:
        >>> train = load_split("datasets", "train")  # doctest: +SKIP
        >>> train.triplets.shape, train.labels[:2]  # doctest: +SKIP
        ((4031, 63, 63, 3), array(['h', 'v'], dtype='<U1'))
    """
    records = Records(directory, split)
    if "triplet" not in records.names:
        raise DatasetError(f"{records.info.data_dir} keeps raw stamps: read its Records instead")
    survey = records.survey
    triplets = np.empty((len(records), *survey.inputs.triplet), np.float32)
    features = np.empty((len(records), len(survey.inputs.features)), np.float32)
    names = ("label", survey.alert_id, survey.object_id, *survey.required_fields, "drb_source")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row, record in enumerate(records):
        triplets[row], features[row] = record["triplet"], record["features"]
        for name, column in columns.items():
            column.append(record[name])
    labels, alert_ids, object_ids, *fields, drb_source = map(np.array, columns.values())
    by_name = dict(zip(survey.required_fields, fields, strict=True))
    return SplitArrays(triplets, features, labels, alert_ids, object_ids, by_name, drb_source)
