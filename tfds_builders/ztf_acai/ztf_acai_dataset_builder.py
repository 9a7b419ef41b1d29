"""What `tfds build tfds_builders/ztf_acai` builds: TFDS takes a class from this very module."""

from acai_jax.datasets.builders import ztf_acai


class Builder(ztf_acai.Builder, skip_registration=True):
    """The registered builder, under the name that TFDS's command looks for."""
