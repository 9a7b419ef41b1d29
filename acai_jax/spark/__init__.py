"""Spark: data frames of alerts to data frames of scores. Needs the extra `spark`, and Java 17."""

try:
    import pyspark as _pyspark  # noqa: F401
except ModuleNotFoundError:
    raise ImportError('pyspark is not installed: pip install "acai_jax[spark]"') from None

from acai_jax.spark.dataframe import read_night, score_dataframe

__all__ = ["read_night", "score_dataframe"]
