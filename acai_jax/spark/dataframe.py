"""Nights as data frames, and their scores; everything here runs in Spark's driver."""

import functools
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everywhere
from pyspark.sql.pandas.types import from_arrow_schema

from acai_jax.alerts.packet import skipped_fields
from acai_jax.alerts.preprocess import check_preset
from acai_jax.spark.worker import FILE_COLUMNS, cached_scorer, score_batches, table_schema
from acai_jax.surveys import Preset


def score_dataframe(
    df: DataFrame,
    model: str | os.PathLike[str] = "published",
    preset: Preset | None = None,
    *,
    weights_dir: str | os.PathLike[str] | None = None,
) -> DataFrame:
    """Scores a data frame of alerts: the table that `Scorer.score` gives, as a data frame.

    Each Python worker loads the model once, and keeps it for all its tasks. The model is looked
    for under the same name on every machine. Nothing is scored before Spark needs the rows.

    Args:
        df: alerts, a row each, nested as in their packets; or files of Avro packets, as Spark's
            source `binaryFile` reads them. Of other columns, `origin` is passed on.
        model: as for `Scorer.load`.
        preset: as for `Scorer.score`.
        weights_dir: as for `Scorer.load`.

    Returns:
        A row for each alert, in the order of each partition; scores are null where `reason` says
        why.

    Raises:
        WeightsError, CheckpointError: as for `Scorer.load`.
        PresetError: there is no such preset.

    Example:
        >>> night = read_night(spark, "alerts/", "avro")  # doctest: +SKIP
        >>> score_dataframe(night).write.parquet("scores")  # doctest: +SKIP
    """
    name, weights = os.fspath(model), None if weights_dir is None else os.fspath(weights_dir)
    scorer = cached_scorer(name, weights)
    preset = preset or scorer.bank.preset
    check_preset(preset, scorer.bank.survey)
    files = set(FILE_COLUMNS) <= set(df.columns)
    needed = df.select(*FILE_COLUMNS) if files else df.drop(*skipped_fields(histories=False))
    score = functools.partial(score_batches, model=name, preset=preset, weights_dir=weights)
    return needed.mapInArrow(score, from_arrow_schema(table_schema(scorer.schema)))


def read_night(
    spark: SparkSession, paths: str | Sequence[str], kind: Literal["parquet", "avro"] = "parquet"
) -> DataFrame:
    """The alerts behind some paths, for `score_dataframe`.

    Args:
        spark: the session.
        paths: files or folders, on any file system that Spark reads.
        kind: Parquet as Fink stores alerts, or Avro files (`*.avro`), without a package of Spark.

    Example:
        >>> read_night(spark, "hdfs:///night=20260105").count()  # doctest: +SKIP
        234871
    """
    reader = spark.read.option("recursiveFileLookup", True)
    places = [paths] if isinstance(paths, str) else list(paths)
    if kind == "avro":
        files = reader.option("pathGlobFilter", "*.avro").format("binaryFile").load(places)
        return files.union(_empty_files(files))
    return reader.parquet(*places).withColumn("origin", F.col("_metadata.file_path"))


def _empty_files(files: DataFrame) -> DataFrame:
    """Rows for the files of 0 bytes, which Spark lists and does not read."""
    listed = {re.sub("^file:/+", "file:/", unquote(name)) for name in files.inputFiles()}
    empty = sorted(listed - {row[0] for row in files.select("path").collect()})
    now = datetime.now(UTC)
    return files.sparkSession.createDataFrame([(n, now, 0, b"") for n in empty], files.schema)
