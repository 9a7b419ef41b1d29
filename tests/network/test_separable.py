"""The plain form against nnx.Conv, and the fast CPU form against the plain one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from references import USUAL, nnx_separable_conv

from acai_jax.network.separable import (
    SeparableConvBlock,
    cpu_compiler_options,
    fast_cpu_features,
    max_pool_2x2,
    separable_conv,
)

Blocks = tuple[SeparableConvBlock, SeparableConvBlock]

PUBLISHED_FILTERS = (16, 16, 32, 32)

# One compilation for each shape, as callers use it.
OPTIONS = cpu_compiler_options() | USUAL
fast_features = jax.jit(fast_cpu_features, compiler_options=OPTIONS)


def random_arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in shapes]


def random_blocks(heads: int, filters: tuple[int, int, int, int], seed: int = 0) -> Blocks:
    """Weights that keep the images' scale through the layers, with biases of both signs."""
    rng = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in zip((3, *filters[:-1]), filters, strict=True):
        depthwise = rng.normal(0, 1 / 3, (heads, 3, 3, inputs))
        pointwise = rng.normal(0, inputs**-0.5, (heads, inputs, outputs))
        layers.append((depthwise, pointwise, rng.normal(0, 0.1, (heads, outputs))))
    layers = [[jnp.asarray(array.astype(np.float32)) for array in layer] for layer in layers]
    return (
        SeparableConvBlock(*layers[0], *layers[1]),
        SeparableConvBlock(*layers[2], *layers[3]),
    )


@jax.jit
def plain_features(blocks: Blocks, triplets: jax.Array) -> jax.Array:
    """The definition: every layer in turn, on the uncropped stamps."""

    def one_head(head: Blocks) -> jax.Array:
        x = triplets
        for block in head:
            x = jax.nn.relu(separable_conv(x, block.depthwise_1, block.pointwise_1, block.bias_1))
            x = jax.nn.relu(separable_conv(x, block.depthwise_2, block.pointwise_2, block.bias_2))
            x = max_pool_2x2(x)
        return x.mean((1, 2))

    return jax.lax.map(one_head, blocks)


@functools.cache
def random_triplets(count: int) -> jax.Array:
    return random_arrays((count, 63, 63, 3), seed=count)[0]


def assert_close(actual: jax.Array, expected: jax.Array) -> None:
    """Equal to rounding, relative to the size of the features."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == jnp.float32
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize(("height", "width", "inputs", "outputs"), [(9, 7, 3, 16), (3, 3, 5, 1)])
def test_separable_conv_is_a_grouped_then_a_pointwise_nnx_conv(
    height: int, width: int, inputs: int, outputs: int
) -> None:
    x, depthwise, pointwise, bias = random_arrays(
        (2, height, width, inputs), (3, 3, inputs), (inputs, outputs), (outputs,)
    )
    expected = jax.jit(nnx_separable_conv(depthwise, pointwise, bias))(x)
    assert_close(jax.jit(separable_conv)(x, depthwise, pointwise, bias), expected)


def test_separable_conv_has_the_gradients_of_nnx_conv() -> None:
    x, depthwise, pointwise, bias = random_arrays((2, 6, 8, 3), (3, 3, 3), (3, 4), (4,))

    def by_convolution(x, depthwise, pointwise, bias):
        convolve = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        grouped = convolve(x, depthwise[:, :, None], feature_group_count=3)
        return convolve(grouped, pointwise[None, None]) + bias[None, None, None]

    def loss(function):
        return lambda *arrays: jnp.sin(function(*arrays)).sum()

    arrays = (x, depthwise, pointwise, bias)
    actual, expected = (
        jax.jit(jax.grad(loss(function), argnums=(0, 1, 2, 3)))(*arrays)
        for function in (separable_conv, by_convolution)
    )
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (2, 3)])
def test_max_pool_takes_windows_and_drops_odd_edges(height: int, width: int) -> None:
    (x,) = random_arrays((3, height, width, 2))
    expected = nnx.max_pool(x, (2, 2), strides=(2, 2))
    np.testing.assert_array_equal(max_pool_2x2(x), expected)


@pytest.mark.parametrize("batch", [1, 7, 32, 33, 100])
def test_fast_form_agrees_for_every_batch_size(batch: int) -> None:
    blocks = random_blocks(2, PUBLISHED_FILTERS)
    triplets = random_triplets(batch)
    assert_close(fast_features(blocks, triplets), plain_features(blocks, triplets))


@pytest.mark.parametrize(
    ("heads", "filters"),
    [(1, PUBLISHED_FILTERS), (1, (1, 2, 3, 4)), (2, (8, 20, 5, 33)), (5, PUBLISHED_FILTERS)],
)
def test_fast_form_agrees_for_every_number_of_heads_and_filters(
    heads: int, filters: tuple[int, int, int, int]
) -> None:
    blocks = random_blocks(heads, filters, seed=heads)
    triplets = random_triplets(6)
    features = fast_features(blocks, triplets)
    assert features.shape == (heads, 6, filters[-1])
    assert_close(features, plain_features(blocks, triplets))


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e6, 1e30])
def test_fast_form_agrees_at_extreme_scales(scale: float) -> None:
    first, second = random_blocks(2, PUBLISHED_FILTERS)
    zeros = jnp.zeros_like
    first = first._replace(bias_1=zeros(first.bias_1), bias_2=zeros(first.bias_2))
    second = second._replace(bias_1=zeros(second.bias_1), bias_2=zeros(second.bias_2))
    triplets = random_triplets(6) * scale
    expected = plain_features((first, second), triplets)
    assert 0 < float(expected.max()) < np.inf
    assert_close(fast_features((first, second), triplets), expected)


def test_fast_form_of_an_alert_does_not_depend_on_its_neighbours() -> None:
    blocks = random_blocks(2, PUBLISHED_FILTERS)
    triplets = random_triplets(6)
    spoilt = triplets.at[1].set(jnp.nan)
    features, others = fast_features(blocks, triplets), fast_features(blocks, spoilt)
    assert np.isnan(others[:, 1]).all()
    kept = np.array([0, 2, 3, 4, 5])
    np.testing.assert_array_equal(others[:, kept], features[:, kept])


def test_fast_form_gives_nan_for_nan_weights_of_that_head_only() -> None:
    first, second = random_blocks(2, PUBLISHED_FILTERS)
    spoilt = first._replace(bias_1=first.bias_1.at[1].set(jnp.nan))
    triplets = random_triplets(6)
    features = fast_features((spoilt, second), triplets)
    assert np.isnan(features[1]).all()
    np.testing.assert_array_equal(features[0], fast_features((first, second), triplets)[0])


def test_fast_form_keeps_its_fences_inside_another_program_with_constant_weights() -> None:
    """A fence that the compiler removes costs no correctness, only a factor of ten in speed."""
    blocks = random_blocks(1, PUBLISHED_FILTERS)
    triplets = random_triplets(6)
    program = jax.jit(lambda triplets: 2 * jax.jit(fast_cpu_features)(blocks, triplets))
    compiled = program.lower(triplets).compile()
    assert compiled.as_text().count(" conditional(") == 8
    assert_close(compiled(triplets), 2 * plain_features(blocks, triplets))


def test_compiler_options_are_accepted() -> None:
    assert float(jax.jit(jnp.cos, compiler_options=cpu_compiler_options())(0.0)) == 1.0
