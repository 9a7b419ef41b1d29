"""The dataset `ztf_acai`: after this import, `tfds.builder("ztf_acai")` finds it."""

from .builder import AcaiConfig, Builder

__all__ = ["AcaiConfig", "Builder"]
