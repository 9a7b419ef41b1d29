"""The builder of LSST's datasets."""

from typing import ClassVar

import tensorflow_datasets as tfds

from acai_jax.datasets.builders.base import (
    AcaiBuilder,
    AcaiConfig,
    simulated_config,
    standard_configs,
)
from acai_jax.surveys.base import Survey
from acai_jax.surveys.lsst import LSST


class Builder(AcaiBuilder):
    """Builds the dataset `lsst_acai`, split by position: many objects' names may share one place.

    Example:
        >>> import tempfile
        >>> builder = Builder(data_dir=tempfile.mkdtemp(), file_format="array_record")
        >>> builder.info.features["triplet"].shape, builder.builder_config.split_by
        ((30, 30, 3), 'position')
    """

    survey: ClassVar[Survey] = LSST
    pkg_dir_path = tfds.core.Path(__file__).parent
    BUILDER_CONFIGS: ClassVar[list[AcaiConfig]] = [
        simulated_config(LSST),
        *standard_configs(LSST),
    ]
