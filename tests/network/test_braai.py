"""braai against Keras and against the scores of real packets."""

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from flax import nnx

from acai_jax.alerts.packet import read_packet
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.network.braai import Braai, drb_from_triplets
from acai_jax.network.head import head_weights
from acai_jax.network.pretrained import load_braai, read_keras_weights


def test_equals_keras(real_data):
    import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((63, 63, 3)),
            layers.Conv2D(16, 3, activation="relu", name="conv1"),
            layers.Conv2D(16, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu", name="conv3"),
            layers.Conv2D(32, 3, activation="relu", name="conv4"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(256, activation="relu", name="fc_1"),
            layers.Dense(1, name="fc_out"),
        ]
    )
    for name, weights in read_keras_weights(real_data / "braai" / "braai_d6_m9.h5").items():
        network.get_layer(name).set_weights([weights["kernel"], weights["bias"]])
    triplets = np.random.default_rng(0).normal(0, 0.02, (4, 63, 63, 3)).astype(np.float32)
    expected = np.asarray(jax.jit(network)(triplets))[:, 0]
    braai = jax.jit(load_braai(real_data / "braai"))
    np.testing.assert_allclose(braai(jnp.asarray(triplets)), expected, atol=1e-5, rtol=1e-5)


def test_equals_the_drb_of_golden_scores(real_data):
    golden = pl.read_csv(real_data / "golden" / "scores.csv").filter(pl.col("preset") == "acai")
    expected = dict(golden.select("candid", "drb").iter_rows())
    braai = load_braai(real_data / "acai_h5")  # found in the neighbouring folder
    checked = 0
    for path in sorted((real_data / "alerts").glob("*.avro")):
        packet = read_packet(path.read_bytes())
        arrays = alert_arrays(packet, "acai")
        if arrays.drb_source == "braai":
            drb = drb_from_triplets(braai, jnp.asarray(arrays.triplet[None]))[0]
            assert abs(float(drb) - expected[packet.candid]) < 1e-6
            checked += 1
    assert checked == 8


def test_number_of_parameters_is_the_published_one():
    network = nnx.eval_shape(lambda: Braai(rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in head_weights(network).values()) == 312_081
