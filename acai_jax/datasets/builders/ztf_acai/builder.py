"""The builder of ZTF's datasets."""

from typing import ClassVar

import tensorflow_datasets as tfds

from acai_jax.datasets.builders.base import (
    AcaiBuilder,
    AcaiConfig,
    simulated_config,
    standard_configs,
)
from acai_jax.surveys.base import Survey
from acai_jax.surveys.ztf import ZTF


class Builder(AcaiBuilder):
    """Builds the dataset `ztf_acai`.

    Example:
        >>> import tempfile
        >>> builder = Builder(data_dir=tempfile.mkdtemp(), file_format="array_record")
        >>> builder.info.features["triplet"].shape, builder.builder_config.name
        ((63, 63, 3), 'simulated')
    """

    survey: ClassVar[Survey] = ZTF
    pkg_dir_path = tfds.core.Path(__file__).parent
    BUILDER_CONFIGS: ClassVar[list[AcaiConfig]] = [
        simulated_config(ZTF),
        *standard_configs(ZTF),
        AcaiConfig(
            name="alerts_split_by_alert",
            description="Labelled alerts, split by alert as the original ACAI was. An object's "
            "alerts fall into several splits: the test set leaks.",
            split_by="alert",
        ),
    ]
