"""The dataset `lsst_acai`: after this import, `tfds.builder("lsst_acai")` finds it."""

from acai_jax.datasets.builders.lsst_acai import AcaiConfig, Builder

__all__ = ["AcaiConfig", "Builder"]
