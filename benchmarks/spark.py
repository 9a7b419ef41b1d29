"""Avro files to Parquet tables of scores: Spark beside `acai-jax score`, cold and warm.

    python -m benchmarks.spark --data ../shared/data

The real alerts are repeated, as links. Both take turns, with the same weights and preset, on this
machine: Spark as two executors of one core. The first turn of each is cold: the program's start (of
Spark, the session's and its workers'), the model, its compilation; later turns find all that warm.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from pyspark.sql import SparkSession

import acai_jax
from acai_jax.spark import read_night, score_dataframe
from benchmarks.end_to_end import link_alerts, score_to_parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--alerts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    weights = options.data.resolve() / "acai_h5"
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        night = link_alerts(options.data / "alerts", folder / "night", options.alerts)
        seconds: dict[str, list[float]] = {"acai-jax score": [], "Spark": []}
        scorer = session = None
        for _ in range(options.rounds + 1):
            start = time.monotonic()
            scorer = scorer or acai_jax.Scorer.load("published", weights_dir=weights)
            scorer.bank.provenance  # noqa: B018 - loaded
            score_to_parquet(scorer, night, folder / "ours.parquet")
            seconds["acai-jax score"].append(time.monotonic() - start)
            start = time.monotonic()
            builder = SparkSession.builder.master("local-cluster[2,1,1024]")
            session = session or builder.config("spark.ui.enabled", False).getOrCreate()
            alerts = read_night(session, str(night), "avro")
            scores = score_dataframe(alerts, "published", "acai", weights_dir=weights)
            scores.write.parquet(str(folder / "spark"), mode="overwrite")
            seconds["Spark"].append(time.monotonic() - start)
        names = pl.col("origin").str.split("/").list.last()
        ours, spark = (
            pl.read_parquet(path).select(names, "^acai_.$").sort("origin")
            for path in (folder / "ours.parquet", folder / "spark" / "*.parquet")
        )
        assert ours["origin"].equals(spark["origin"])
        apart = (ours.drop("origin") - spark.drop("origin")).select(pl.all().abs().max())
        print(f"{len(ours)} alerts, scores at most {max(apart.row(0)):.1e} apart")
        for program, (cold, *warm) in seconds.items():
            rate = len(ours) / statistics.median(warm)
            print(f"{program}: cold {cold:.1f} s, warm {rate:,.0f} alerts/s {warm}")


if __name__ == "__main__":
    main()
