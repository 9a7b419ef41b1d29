"""Spark: data frames of alerts to data frames of scores. Needs the extra `spark`, and Java 17."""

from acai_jax.extras import need

need("spark")

from acai_jax.spark.dataframe import read_night, score_dataframe  # noqa: E402

__all__ = ["read_night", "score_dataframe"]
