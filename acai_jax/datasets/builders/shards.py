"""Shards on one machine: gathered records into TFDS's files, several shards at a time."""

import functools
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.writer import ShardWriter

from acai_jax import workers
from acai_jax.datasets.gather import local
from acai_jax.datasets.gather.plan import SHARD_RECORDS
from acai_jax.surveys.base import Survey

from .features import record_features
from .formats import ExampleWriter

_FEW_RECORDS = 2 * SHARD_RECORDS  # starting processes would take longer


class _Shard(NamedTuple):
    """A shard to write.

    Attributes:
        folder: with its records.
        path: of its file.
    """

    folder: Path
    path: str


def write_shards(
    folders: Mapping[str, Sequence[Path]],
    templates: Mapping[str, Any],
    records: int,
    *,
    survey: Survey,
    stamps: bool,
    file_format: tfds.core.FileFormat,
    num_workers: int | None,
    advance: Callable[[int], None],
) -> list[tfds.core.SplitInfo]:
    """Writes every shard, to the bytes that TFDS itself would write one after the other.

    Args:
        folders: those of each split's shards, in order; they are removed on the way.
        templates: of the file names of each split.
        records: how many there are.
        survey: whose alerts they are.
        stamps: they hold raw stamps.
        file_format: of the files.
        num_workers: writing processes; see `map_chunks`. A few records are written in this one.
        advance: is told how many records were written, now and then.
    """

    def shards_of(split: str) -> list[_Shard]:
        number = len(folders[split])
        path_of = functools.partial(templates[split].sharded_filepath, num_shards=number)
        paths = (str(path_of(shard_index=index)) for index in range(number))
        return list(map(_Shard, folders[split], paths))

    shards = {split: shards_of(split) for split in folders}
    write = functools.partial(_write_shard, survey=survey, stamps=stamps, file_format=file_format)
    lengths = []
    for length in workers.map_chunks(
        itertools.chain.from_iterable(shards.values()),
        write,
        0 if records <= _FEW_RECORDS else num_workers,
    ):
        lengths.append(length)
        advance(length)
    left = iter(lengths)
    return [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=list(itertools.islice(left, len(of))),
            num_bytes=sum(Path(shard.path).stat().st_size for shard in of),
            filename_template=templates[split],
        )
        for split, of in shards.items()
    ]


def _write_shard(
    shard: _Shard, survey: Survey, stamps: bool, file_format: tfds.core.FileFormat
) -> int:
    """Writes a shard; returns the number of its records."""
    features: Any = record_features(survey, stamps=stamps)
    serializer = ExampleSerializer(features.get_serialized_info())
    records = local.read_records(shard.folder, survey)
    shutil.rmtree(shard.folder)  # the dataset takes its place on the disk
    writer = ShardWriter(features, serializer, ExampleWriter(file_format))
    return writer.write(records, tfds.core.Path(shard.path))
