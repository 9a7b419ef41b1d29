"""The fast CPU block: its gradients against the plain form's, nnx.Conv's and finite differences."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from references import nnx_separable_conv

from acai_jax.network.separable import (
    SeparableConvBlock,
    cpu_compiler_options,
    max_pool_2x2,
    separable_conv,
)
from acai_jax.network.separable_gradients import fast_cpu_block

FIRST, SECOND = (3, 16, 16), (16, 32, 32)  # channels of the published blocks
jit = functools.partial(jax.jit, compiler_options=cpu_compiler_options())
# compiled in half the time
reference_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def random_block(
    channels: tuple[int, int, int], *heads: int, seed: int = 0, positive: bool = False
) -> SeparableConvBlock:
    """Weights that keep the images' scale, with biases of both signs."""
    rng = np.random.default_rng(seed)
    arrays = []
    for inputs, outputs in itertools.pairwise(channels):
        arrays.append(rng.normal(0, 1 / 3, (*heads, 3, 3, inputs)))
        arrays.append(rng.normal(0, inputs**-0.5, (*heads, inputs, outputs)))
        arrays.append(rng.normal(0, 0.1, (*heads, outputs)))
    used = [np.abs(array) if positive else array for array in arrays]
    return SeparableConvBlock(*(jnp.asarray(array.astype(np.float32)) for array in used))


def random_images(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def plain_block(block: SeparableConvBlock, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(separable_conv(x, block.depthwise_1, block.pointwise_1, block.bias_1))
    x = jax.nn.relu(separable_conv(x, block.depthwise_2, block.pointwise_2, block.bias_2))
    return max_pool_2x2(x)


def nnx_block(block: SeparableConvBlock, x: jax.Array) -> jax.Array:
    for weights in (block[:3], block[3:]):
        x = jax.nn.relu(nnx_separable_conv(*weights)(x))
    return nnx.max_pool(x, (2, 2), (2, 2))


def gradients(function, *, images: bool = True):
    """The value of a loss that weighs all outputs differently, and its gradients, compiled."""

    def loss(block: SeparableConvBlock, x: jax.Array) -> jax.Array:
        return jnp.sin(3 * function(block, x)).sum()

    return jax.value_and_grad(loss, argnums=(0, 1) if images else 0)


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Every array equal to rounding, relative to its largest number."""
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


fast = jit(gradients(fast_cpu_block))


@pytest.mark.parametrize("reference", [plain_block, nnx_block])
@pytest.mark.parametrize(
    ("batch", "channels", "sides"),
    [(4, FIRST, (60, 60)), (3, SECOND, (28, 28)), (1, (1, 2, 5), (6, 14)), (6, (7, 3, 1), (16, 8))],
)
def test_gradients_agree_with_autodiff(reference, batch, channels, sides):
    block, x = random_block(channels), random_images(batch, *sides, channels[0])
    assert_close(fast(block, x), reference_jit(gradients(reference))(block, x))


def test_gradients_are_those_of_finite_differences():
    # positive numbers: no relu switches off, and a small step changes no maximum
    block, x = random_block((2, 3, 3), positive=True), jnp.abs(random_images(2, 8, 8, 2))
    function = jax.jit(lambda *arrays: fast_cpu_block(*jax.tree.map(jnp.asarray, arrays)))
    check_grads(function, (block, x), order=1, modes=["rev"], eps=1e-3, rtol=1e-2)


def test_the_first_of_tied_maxima_takes_the_gradient():
    identity = jnp.zeros((3, 3, 1)).at[1, 1].set(1)
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    block = SeparableConvBlock(identity, one, zero, identity, one, zero)
    gradient = jax.grad(lambda x: fast_cpu_block(block, x).sum())
    expected = np.zeros((1, 8, 10, 1))
    expected[:, 2:6:2, 2:8:2] = 1
    np.testing.assert_array_equal(gradient(jnp.ones((1, 8, 10, 1))), expected)
    np.testing.assert_array_equal(gradient(jnp.zeros((1, 8, 10, 1))), 0 * expected)


def test_batched_weights_give_each_head_what_it_gives_alone():
    blocks, x = random_block(SECOND, 2, 2), random_images(2, 2, 4, 8, 8, 16)
    together = jit(jax.vmap(jax.vmap(gradients(fast_cpu_block))))(blocks, x)
    shared = jit(jax.vmap(gradients(fast_cpu_block), in_axes=(0, None)))
    for seed in range(2):
        same_images = shared(jax.tree.map(lambda leaf: leaf[seed], blocks), x[0, 0])  # noqa: B023
        for head in range(2):
            block = jax.tree.map(lambda leaf: leaf[seed, head], blocks)  # noqa: B023
            take = jax.tree.map(lambda leaf: leaf[seed, head], together)  # noqa: B023
            assert_close(take, fast(block, x[seed, head]), 1e-6)
            take = jax.tree.map(lambda leaf: leaf[head], same_images)  # noqa: B023
            assert_close(take, fast(block, x[0, 0]), 1e-6)


def test_gradients_of_summed_batched_losses():
    """jax.grad outside jax.vmap, as for the mean loss of a bank."""
    blocks, x = random_block(SECOND, 2), random_images(2, 2, 8, 8, 16)

    def bank_loss(function):
        return lambda blocks: (jax.vmap(function)(blocks, x) ** 2).sum()

    actual = jit(jax.grad(bank_loss(fast_cpu_block)))(blocks)
    assert_close(actual, reference_jit(jax.grad(bank_loss(plain_block)))(blocks))


def test_only_the_input_is_kept_for_the_backward_pass():
    block, x = random_block(SECOND), random_images(4, 28, 28, 16)
    _, pullback = jax.vjp(fast_cpu_block, block, x)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept == x.size + sum(leaf.size for leaf in block)


def test_unused_gradient_of_the_images_is_not_computed_and_fences_stay():
    """Costs no correctness, only speed; constant weights would let the compiler fold fences."""
    block, x = random_block(SECOND), random_images(4, 28, 28, 16)

    def fences(program, *arguments) -> int:
        return jit(program).lower(*arguments).compile().as_text().count(" conditional(")

    both, weights_only = gradients(fast_cpu_block), gradients(fast_cpu_block, images=False)
    assert fences(both, block, x) == 19
    assert fences(weights_only, block, x) == 17
    assert fences(lambda x: both(block, x), x) == 19


def test_nan_weights_give_nan_gradients_of_that_head_only():
    blocks, x = random_block(SECOND, 2), random_images(2, 4, 8, 8, 16)
    spoilt = blocks._replace(bias_1=blocks.bias_1.at[1].set(jnp.nan))
    program = jit(jax.vmap(gradients(fast_cpu_block)))
    _, (weights, images) = program(spoilt, x)
    _, (healthy, _) = program(blocks, x)
    for one, other in zip(weights, healthy, strict=True):
        assert np.isnan(one[1]).all()
        np.testing.assert_array_equal(one[0], other[0])
    assert np.isnan(images[1]).all()


@pytest.mark.parametrize("sides", [(7, 8), (8, 9), (4, 8)])
def test_odd_or_short_sides_are_refused(sides):
    with pytest.raises(ValueError, match="even sides of at least 6"):
        fast_cpu_block(random_block((1, 1, 1)), random_images(2, *sides, 1))
