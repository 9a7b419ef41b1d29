"""The StableHLO artifact, loaded back and run: the same scores, whatever the batch."""

import jax.export
import numpy as np
import pytest

from acai_jax.network.head_config import HeadConfig
from acai_jax.network.stablehlo import stablehlo_artifact
from tests.network.test_onnx_graph import ours, random_bank, random_inputs

# the kind of network that has a faster form on CPUs, and another
FAST = HeadConfig(filters=(2, 2, 2, 2), dense_units=(3,), head_units=2)
OTHER = HeadConfig(filters=(2, 2), activation="elu", reduction="flatten", head_units=2)


@pytest.mark.parametrize(("config", "members"), [(FAST, 1), (OTHER, 2)])
def test_the_artifact_scores_batches_of_any_size_alike(config, members):
    bank = random_bank(config, "lsst", members, temperatures=(2.0,))
    restored = jax.export.deserialize(bytearray(stablehlo_artifact(bank)))
    assert {"cuda", "tpu"} < {*restored.platforms}
    for count in (1, 3):
        inputs = random_inputs(bank, count)
        scores = np.asarray(restored.call(*inputs))
        np.testing.assert_allclose(scores, ours(bank, *inputs), atol=1e-6, rtol=0)
