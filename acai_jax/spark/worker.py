"""What runs in Spark's Python workers: Arrow batches of alerts -> batches of the score table.

Free of JAX until the first alert: a worker is forked, and told how many threads it has before JAX
makes any.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import TaskContext

from acai_jax.alerts.columnar import batch_records
from acai_jax.alerts.packet import AlertPacket, packet_or_reject
from acai_jax.alerts.prepare import CHUNK_ALERTS
from acai_jax.alerts.sources import Encoded, decode
from acai_jax.errors import Reject
from acai_jax.surveys import Preset

if TYPE_CHECKING:
    from acai_jax.score.scorer import Scorer

FILE_COLUMNS = ("path", "content")
"""Of a data frame that Spark's source `binaryFile` has read."""


@functools.cache
def cached_scorer(model: str, weights_dir: str | None) -> "Scorer":
    """The scorer of this process; in a Spark task, with as many threads as the task has cores."""
    task = TaskContext.get()
    if task is not None:
        held = ("LOKY_MAX_CPU_COUNT", "NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        os.environ.update(dict.fromkeys(held, str(task.cpus())))
    from acai_jax.score.scorer import Scorer, enable_compilation_cache

    enable_compilation_cache()
    return Scorer.load(model, weights_dir=weights_dir)


def table_schema(schema: Mapping[str, Any]) -> pa.Schema:
    """A score table's schema, for Arrow with Spark's short texts."""
    import polars as pl

    kinds = pl.DataFrame(schema=schema).to_arrow().schema
    return pa.schema(
        [
            (field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)
            for field in kinds
        ]
    )


def score_batches(
    batches: Iterable[pa.RecordBatch], model: str, preset: Preset, weights_dir: str | None
) -> Iterator[pa.RecordBatch]:
    """The score table of a partition: a row for each alert, in order, a chunk at a time."""
    alerts = (alert for batch in batches for alert in alerts_of(batch))
    while chunk := list(itertools.islice(alerts, CHUNK_ALERTS)):
        scorer = cached_scorer(model, weights_dir)
        table = scorer.score_packets(chunk, preset).to_arrow()
        yield from table.cast(table_schema(scorer.schema)).to_batches()


def alerts_of(batch: pa.RecordBatch) -> Iterator[AlertPacket | Reject]:
    """The alerts of a batch, whose rows are records of alerts, or files of Avro.

    A row's `origin` is the alert's, if there is that column.
    """
    if set(FILE_COLUMNS) <= set(batch.schema.names):
        for origin, content in zip(*(batch.column(name) for name in FILE_COLUMNS), strict=True):
            yield from decode(Encoded(origin.as_py() or "", content.as_py() or b""))
        return
    for start in range(0, batch.num_rows, CHUNK_ALERTS):
        for records, _, _ in batch_records(batch.slice(start, CHUNK_ALERTS)):
            for record in records:
                if isinstance(record, Reject):
                    yield record
                else:
                    origin = record.get("origin")
                    yield packet_or_reject(record, origin if isinstance(origin, str) else None)
