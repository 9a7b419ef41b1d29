"""The network: against nnx.Conv and Keras, and as a bank of independent heads."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from references import USUAL, nnx_separable_conv

from acai_jax.errors import EvaluationError
from acai_jax.network.bank import (
    HeadBank,
    abstract_heads,
    apply_heads,
    choose_heads,
    create_heads,
    merge_banks,
)
from acai_jax.network.head import Head, head_weights, with_weights
from acai_jax.network.head_config import HeadConfig, input_size
from acai_jax.network.pretrained import load_published
from acai_jax.network.separable import cpu_compiler_options
from acai_jax.score.scorer import Scorer

VARIANTS = [
    HeadConfig(),
    HeadConfig(convolution="regular", filters=(4, 8), dense_units=(7, 5)),
    HeadConfig(reduction="flatten", filters=(4, 4, 6, 8, 8, 8), head_units=3),
    HeadConfig(activation="tanh", filters=(4, 4, 8, 8)),
    HeadConfig(activation="elu", filters=(3, 5)),
    HeadConfig(filters=(4, 4), dense_units=(6,)),
    HeadConfig(filters=(4, 4, 6, 6), kernel_size=5, dense_units=(6,)),
    HeadConfig(filters=(4, 4), kernel_size=2, convolution="regular", reduction="flatten"),
    HeadConfig(filters=(4, 4), dense_units=(7, 6, 5, 4)),
]

SMALL = HeadConfig(filters=(4, 4))


def inputs(count: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 3, (count, 25)).astype(np.float32)
    triplets = rng.normal(0, 1, (count, 63, 63, 3)).astype(np.float32)
    triplets /= np.sqrt((triplets**2).sum((1, 2), keepdims=True))
    return jnp.asarray(features), jnp.asarray(triplets)


def reference_logits(head: Head, features: jax.Array, triplets: jax.Array) -> jax.Array:
    """The published architecture spelled out with nnx.Conv on the uncropped stamps."""
    x = triplets
    for index, conv in enumerate(head.convs):
        weights = head_weights(conv)
        x = jax.nn.relu(nnx_separable_conv(**weights)(x))
        if index % 2:
            x = nnx.max_pool(x, (2, 2), (2, 2))
    image = x.mean((1, 2))
    dense = jax.nn.relu(head.dense_2(jax.nn.relu(head.dense_1(features))))
    joined = jax.nn.relu(head.join(jnp.concatenate([dense, image], -1)))
    return head.score(joined)[:, 0]


def new_head(config: HeadConfig, seed: int) -> Head:
    """A single head with random weights, by one program."""
    return jax.jit(lambda: Head(config, rngs=nnx.Rngs(seed)))()


def test_head_equals_nnx_conv_reference():
    head = new_head(HeadConfig(), 3)
    features, triplets = inputs(4)
    logits, expected = jax.jit(Head.__call__), jax.jit(reference_logits)
    arrays = head, features, triplets
    chex.assert_trees_all_close(logits(*arrays), expected(*arrays), atol=2e-6, rtol=1e-5)


def test_a_head_has_the_dense_layers_that_it_is_given():
    features, triplets = inputs(4)
    for units in ((6,), (7, 6, 5, 4)):
        head = new_head(HeadConfig(filters=(4, 4), dense_units=units), 3)
        weights = head_weights(head)
        x = features
        for place in range(1, len(units) + 1):
            kernel, bias = (weights[f"dense_{place}.{name}"] for name in ("kernel", "bias"))
            x = jax.nn.relu(x @ kernel + bias)
        joined = jnp.concatenate([x, head.image_features(triplets)], -1)
        logits = head.score(jax.nn.relu(head.join(joined)))[:, 0]
        chex.assert_trees_all_close(head(features, triplets), logits, atol=2e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="a unit or more"):
        HeadConfig(dense_units=())


@pytest.mark.parametrize("name", ["h", "b"])
def test_published_head_equals_keras(real_data, name):
    import keras

    from acai_jax.network.pretrained import read_head, read_keras_weights

    path = real_data / "acai_h5" / f"acai_{name}.d1_dnn_20201130.h5"
    layers = keras.layers
    image = x = keras.Input((63, 63, 3))
    features = y = keras.Input((25,))
    for index, filters in enumerate((16, 16, 32, 32), 1):
        conv = layers.SeparableConv2D(filters, 3, activation="relu", name=f"conv_conv_{index}")
        x = conv(x)
        if index % 2 == 0:
            x = layers.MaxPooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    for index, units in enumerate((64, 32), 1):
        y = layers.Dense(units, activation="relu", name=f"dense_fc_{index}")(y)
    z = layers.Dense(16, activation="relu", name="fc_1")(layers.concatenate([y, x]))
    network = keras.Model([features, image], layers.Dense(1, name="score")(z))
    for layer, weights in read_keras_weights(path).items():
        order = ("depthwise_kernel", "pointwise_kernel", "kernel", "bias")
        network.get_layer(layer).set_weights([weights[n] for n in order if n in weights])
    arrays = inputs(8, seed=1)
    expected = np.asarray(jax.jit(network)([np.asarray(a) for a in arrays]))[:, 0]
    found = jax.jit(read_head(path))(*arrays)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_bank_gives_each_head_its_own_logits(config):
    heads = create_heads(config, 3, jax.random.key(1))
    features, triplets = inputs(3)
    logits = jax.jit(apply_heads)(heads, features, triplets)
    assert logits.shape == (3, 3)

    @jax.jit
    def apply(index):
        return jax.tree.map(lambda leaf: leaf[index], heads)(features, triplets)

    for index in range(3):
        alone = apply(index)
        chex.assert_trees_all_close(logits[:, index], alone, atol=1e-5, rtol=1e-5)


def test_a_head_does_not_depend_on_how_many_there_are():
    few = create_heads(HeadConfig(), 2, jax.random.key(5))
    many = create_heads(HeadConfig(), 5, jax.random.key(5))
    for name, weights in head_weights(few).items():
        np.testing.assert_array_equal(weights, head_weights(many)[name][:2])


def bank_of(classes, seed, config=SMALL, preset="acai"):
    heads = create_heads(config, len(classes), jax.random.key(seed))
    return HeadBank(heads, classes, {name: {"version": f"{seed}"} for name in classes}, preset)


def test_merged_and_chosen_heads_keep_their_bytes():
    bank, other = bank_of(("h", "o", "n"), 0), bank_of(("x", "o"), 9)
    merged = merge_banks(bank, other)
    assert merged.versions == {"h": "0", "o": "9", "n": "0", "x": "9"}
    chosen = choose_heads(merged, ("x", "h"))
    assert chosen.versions == {"x": "9", "h": "0"}
    found, picked = head_weights(merged.heads), head_weights(chosen.heads)
    before, new = head_weights(bank.heads), head_weights(other.heads)
    for name, weights in found.items():
        expected = [before[name][0], new[name][1], before[name][2], new[name][0]]
        np.testing.assert_array_equal(weights, np.stack(expected))
        np.testing.assert_array_equal(picked[name], np.stack([new[name][0], before[name][0]]))
    with pytest.raises(EvaluationError, match="no head 'z' in the model; there are: x, h"):
        choose_heads(chosen, ("h", "z"))


def test_banks_of_other_kinds_are_refused():
    bank = bank_of(("h",), 0)
    with pytest.raises(ValueError, match="share their config"):
        merge_banks(bank, bank_of(("o",), 0, HeadConfig(head_units=8)))
    with pytest.raises(ValueError, match="share their preset and survey"):
        merge_banks(bank, bank_of(("o",), 0, preset="boom"))


def test_dropout_acts_only_in_a_training_view_and_follows_its_key():
    head = new_head(HeadConfig(), 0)
    features, triplets = inputs(8)
    training = nnx.view(head, deterministic=False)
    trained = jax.jit(lambda key: training(features, triplets, key=key))
    first, second = trained(jax.random.key(0)), trained(jax.random.key(1))
    chex.assert_trees_all_equal(first, trained(jax.random.key(0)))
    assert not np.allclose(first, second)
    quiet = jax.jit(lambda key: head(features, triplets, key=key))
    without = jax.jit(lambda: head(features, triplets))
    chex.assert_trees_all_equal(quiet(jax.random.key(0)), without())


def test_weights_round_trip_by_name_and_errors_name_the_weight():
    heads = create_heads(HeadConfig(), 2, jax.random.key(0))
    weights = dict(head_weights(heads))
    abstract = abstract_heads(HeadConfig(), 2)
    restored = with_weights(abstract, weights)
    chex.assert_trees_all_equal(head_weights(restored), head_weights(heads))
    with pytest.raises(
        ValueError, match=r"weights score\.bias: float32\[2, 2\], not float32\[2, 1\]"
    ):
        with_weights(abstract, weights | {"score.bias": jnp.zeros((2, 2))})
    with pytest.raises(ValueError, match="unknown weights: surplus"):
        with_weights(abstract, weights | {"surplus": jnp.zeros(1)})
    del weights["convs.2.pointwise"]
    with pytest.raises(ValueError, match=r"missing weights: convs\.2\.pointwise"):
        with_weights(abstract, weights)


@pytest.mark.parametrize("convolution", ["separable", "regular"])
def test_kernels_of_any_size_are_convolutions(convolution):
    config = HeadConfig(filters=(4, 6), kernel_size=5, convolution=convolution)
    head = new_head(config, 3)
    _, x = inputs(2)
    expected = x
    for conv in head.convs:
        weights = head_weights(conv)
        reference = nnx_separable_conv(**weights) if convolution == "separable" else conv
        expected = jax.nn.relu(reference(expected))
    expected = nnx.max_pool(expected, (2, 2), (2, 2)).mean((1, 2))
    found = jax.jit(head.image_features)(x)
    chex.assert_trees_all_close(found, expected, atol=2e-6, rtol=1e-5)


def test_rows_and_columns_beyond_the_crop_change_nothing():
    head = new_head(HeadConfig(), 0)
    features, triplets = inputs(2)
    size = input_size(2, 63)
    assert size == 60
    disturbed = np.array(triplets)
    disturbed[:, size:] = disturbed[:, :, size:] = 1e3
    apply = jax.jit(lambda images: head(features, images))
    chex.assert_trees_all_equal(apply(triplets), apply(jnp.asarray(disturbed)))


@pytest.mark.parametrize(
    "changes",
    [
        *({"filters": (16,)}, {"filters": ()}, {"filters": (4,) * 10}, {"head_units": 0}),
        *({"kernel_size": 0}, {"kernel_size": 13, "filters": (4,) * 6}),
    ],
)
def test_impossible_hyperparameters_are_refused(changes):
    with pytest.raises(ValueError, match=r"filters must be pairs|needs a unit|no stamp has room"):
        HeadConfig(**changes)


def bank_gradients(heads, features, triplets, keys):
    """Each head's loss and gradients on its own batch, dropout active."""

    def loss(head, features, triplets, key):
        logits = nnx.view(head, deterministic=False)(features, triplets, key=key)
        targets = (jnp.arange(len(logits)) % 2).astype(jnp.float32)
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean()

    found, gradients = jax.vmap(jax.value_and_grad(loss))(heads, features, triplets, keys)
    return found, head_weights(gradients)


def test_fast_training_form_agrees_for_all_weights_of_all_heads(monkeypatch):
    heads = create_heads(HeadConfig(), 2, jax.random.key(0))
    features, triplets = inputs(10)
    features, triplets = features.reshape(2, 5, 25), 20 * triplets.reshape(2, 5, 63, 63, 3)
    keys = jax.random.split(jax.random.key(7))
    options = cpu_compiler_options() | USUAL
    # new functions: what is compiled is kept by function
    fast = jax.jit(lambda *a: bank_gradients(*a), compiler_options=options)
    plain = jax.jit(lambda *a: bank_gradients(*a), compiler_options=options)
    loss, gradients = fast(heads, features, triplets, keys)
    monkeypatch.setattr("acai_jax.network.head.has_fast_form", lambda config: False)
    plain_loss, expected = plain(heads, features, triplets, keys)
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    for name, gradient in expected.items():
        if not name.startswith("norm."):
            assert (np.abs(gradient) > 0).any((*range(1, gradient.ndim),)).all(), name
        np.testing.assert_allclose(
            gradients[name], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max(), err_msg=name
        )


def test_a_bank_and_its_scorer_print_as_one_line(real_data):
    scorer = Scorer(choose_heads(load_published(real_data / "acai_h5"), ["h", "b"]))
    bank = "HeadBank(h d1_dnn_20201130, b d1_dnn_20201130; ZTF, preset acai)"
    assert (repr(scorer.bank), repr(scorer)) == (bank, f"Scorer({bank})")
