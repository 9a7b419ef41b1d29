"""The TFDS features of a record."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from acai_jax.datasets.gather.records import CANDIDATE_FIELDS
from acai_jax.surveys.ztf import CUTOUTS, FEATURE_NAMES, STAMP_SIZE


def record_features(*, stamps: bool) -> tfds.features.FeaturesDict:
    """The features of a record, of arrays or of raw stamps."""

    def exact(dtype: Any, *shape: int) -> tfds.features.Tensor:
        # a tf.train.Example has float32 only, and takes its time over each number of a list
        return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

    about_the_alert = {
        "label": tfds.features.Text(),
        "candid": tfds.features.Scalar(np.int64),
        "objectId": tfds.features.Text(),
        "jd": exact(np.float64),
        "ra": exact(np.float64),
        "dec": exact(np.float64),
        "fid": tfds.features.Scalar(np.int64),
        "programid": tfds.features.Scalar(np.int64),
    }
    if stamps:
        raw = {name: tfds.features.Tensor(shape=(), dtype=np.object_) for name in CUTOUTS}
        candidate = exact(np.float64, len(CANDIDATE_FIELDS))
        return tfds.features.FeaturesDict({**raw, "candidate": candidate, **about_the_alert})
    return tfds.features.FeaturesDict(
        {
            "triplet": exact(np.float32, STAMP_SIZE, STAMP_SIZE, len(CUTOUTS)),
            "features": exact(np.float32, len(FEATURE_NAMES)),
            **about_the_alert,
            "preset": tfds.features.Text(),
            "drb_source": tfds.features.Text(),
        }
    )
