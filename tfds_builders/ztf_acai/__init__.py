"""The dataset `ztf_acai`: after this import, `tfds.builder("ztf_acai")` finds it."""

from acai_jax.datasets.builders.ztf_acai import AcaiConfig, Builder

__all__ = ["AcaiConfig", "Builder"]
