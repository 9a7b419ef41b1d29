"""The TFDS features of a record."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from acai_jax.surveys.base import Survey


def record_features(survey: Survey, *, stamps: bool) -> tfds.features.FeaturesDict:
    """The features of a record of a survey's alerts, of arrays or of raw stamps."""

    def exact(dtype: Any, *shape: int) -> tfds.features.Tensor:
        # a tf.train.Example has float32 only, and takes its time over each number of a list
        return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

    def scalar(name: str) -> Any:
        kind = survey.kinds[name]
        if kind == "text":
            return tfds.features.Text()
        return tfds.features.Scalar(np.int64) if kind == "integer" else exact(np.float64)

    about_the_alert = {
        "label": tfds.features.Text(),
        survey.alert_id: tfds.features.Scalar(np.int64),
        survey.object_id: tfds.features.Text(),
        **{name: scalar(name) for name in survey.required_fields},
    }
    if stamps:
        raw = {name: tfds.features.Tensor(shape=(), dtype=np.object_) for name in survey.cutouts}
        numbers = exact(np.float64, len(survey.dataset_numbers))
        return tfds.features.FeaturesDict({**raw, survey.record: numbers, **about_the_alert})
    return tfds.features.FeaturesDict(
        {
            "triplet": exact(np.float32, *survey.inputs.triplet),
            "features": exact(np.float32, len(survey.inputs.features)),
            **about_the_alert,
            "preset": tfds.features.Text(),
            "drb_source": tfds.features.Text(),
        }
    )
