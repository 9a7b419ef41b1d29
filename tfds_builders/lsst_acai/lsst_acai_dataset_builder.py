"""What `tfds build tfds_builders/lsst_acai` builds: TFDS takes a class from this very module."""

from acai_jax.datasets.builders import lsst_acai


class Builder(lsst_acai.Builder, skip_registration=True):
    """The registered builder, under the name that TFDS's command looks for."""
