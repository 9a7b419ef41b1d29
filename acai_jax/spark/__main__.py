"""Scores nights with Spark: `python -m acai_jax.spark`, or this file for `spark-submit`."""

import os
import sys
from typing import Literal

import tyro
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everywhere

from acai_jax.errors import AcaiError
from acai_jax.spark import read_night, score_dataframe
from acai_jax.surveys import Preset


def main(
    paths: tyro.conf.Positional[tuple[str, ...]],
    out: str,
    kind: Literal["parquet", "avro"] = "parquet",
    model: str = "published",
    weights: str | None = None,
    preset: Preset | None = None,
    overwrite: bool = False,
) -> None:
    """Score alerts with Spark; write a row per alert to a folder of Parquet files.

    Args:
        paths: files or folders of alerts, on any file system that Spark reads.
        out: the folder to write.
        kind: of the files: Parquet as Fink stores alerts, or Avro.
        model: as for `acai-jax score`; every machine must have it under the same name.
        weights: folder with the published .h5 files, likewise.
        preset: whose preprocessing to follow; by default that of the model's training.
        overwrite: replace `out` if it exists.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else workers take any `python3`
    spark = SparkSession.builder.appName("acai_jax").getOrCreate()
    # alerts are large: ten thousand, Spark's default, would be half a gigabyte
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 512)
    night = read_night(spark, paths, kind)
    scores = score_dataframe(night, model, preset, weights_dir=weights)
    scores.write.parquet(out, mode="overwrite" if overwrite else "errorifexists")
    written = spark.read.parquet(out).select(F.count("*"), F.count("reason"))
    rows, rejects = written.first() or (0, 0)
    print(f"{out}: {rows:,} alerts, {rejects:,} of them without scores")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except AcaiError as error:
        raise SystemExit(f"error: {error}") from None
