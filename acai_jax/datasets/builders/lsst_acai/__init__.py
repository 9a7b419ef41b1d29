"""The dataset `lsst_acai`: after this import, `tfds.builder("lsst_acai")` finds it."""

from acai_jax.datasets.builders.base import AcaiConfig

from .builder import Builder

__all__ = ["AcaiConfig", "Builder"]
