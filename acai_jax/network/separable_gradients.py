"""Separable convolutions with gradients: the fast form for training on a CPU.

`fast_cpu_block` is one block of one head, equal to the plain form to rounding, with a backward
pass of its own. What makes that fast, in order of effect: it keeps nothing but the block's input
and computes the rest again, two alerts at a time, whose images stay in a core's L2 cache; each
step is compiled as a loop of its own (`fence`); the gradients of kernels are sums along rows of
pixels, with the channels as vector lanes; the max pool remembers a code for each window, not four
comparisons.

Under `jax.vmap`, as over heads, blocks run one after the other: batched, the fences would be lost.
"""

import math
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float

from acai_jax.network.separable import (
    CHUNK,
    POOLING_WINDOW,
    SeparableConvBlock,
    all_numbers,
    block_features,
    depthwise_conv,
    enough_terms,
    fence,
    pointwise_relu,
    pointwise_sums,
)

_NO_PIXEL = 4.0  # code of a pooling window without a positive pixel; 0 to 3 name its pixels


@jax.custom_vjp
def fast_cpu_block(
    block: SeparableConvBlock, x: Float[Array, "b h w c"]
) -> Float[Array, "b h//2-2 w//2-2 o"]:
    """Two separable convolutions with relu, then 2x2 max pooling: for training on a CPU.

    Among tied maxima the first one takes the whole gradient, as in Keras. Any batch size works,
    an odd one more slowly. The gradient of `x` costs nothing where it is not used. Call it under
    `jax.jit` with `cpu_compiler_options()`.

    Args:
        block: weights of one head.
        x: images, float32, with even sides of at least six pixels.

    Returns:
        Images, float32.

    Raises:
        ValueError: a side is odd or too short.

    Example:
        >>> shapes = [(3, 3, 3), (3, 8), (8,), (3, 3, 8), (8, 6), (6,)]
        >>> block = SeparableConvBlock(*(jnp.ones(shape) for shape in shapes))
        >>> gradient = jax.grad(lambda block, x: fast_cpu_block(block, x).sum())
        >>> gradient(block, jnp.ones((2, 8, 8, 3))).bias_2
        Array([8., 8., 8., 8., 8., 8.], dtype=float32)
    """
    return _forward(block, x)


def _forward_keeping(
    block: SeparableConvBlock, x: Float[Array, "b h w c"]
) -> tuple[Array, tuple[SeparableConvBlock, Array]]:
    return _forward(block, x), (block, x)


def _backward_from(
    kept: tuple[SeparableConvBlock, Array], gradient: Float[Array, "b p q o"]
) -> tuple[SeparableConvBlock, Array]:
    return _backward(*kept, gradient)


fast_cpu_block.defvjp(_forward_keeping, _backward_from)


@sequential_vmap
def _forward(block: SeparableConvBlock, x: Float[Array, "b h w c"]) -> Float[Array, "b p q o"]:
    if min(x.shape[1:3]) < 6 or x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"images need even sides of at least 6 pixels: {x.shape[1:3]}")
    # Weights that a caller's jit has closed over would fold, and the fences with them.
    block = lax.optimization_barrier(block)
    features = lax.map(lambda images: block_features(block, images), _chunks(x))
    return features.reshape(-1, *features.shape[2:])


@sequential_vmap
def _backward(
    block: SeparableConvBlock, x: Float[Array, "b h w c"], gradient: Float[Array, "b p q o"]
) -> tuple[SeparableConvBlock, Float[Array, "b h w c"]]:
    """Gradients of the weights, summed over the batch, and of the images."""
    block = lax.optimization_barrier(block)

    def add(
        total: SeparableConvBlock, chunk: tuple[Array, Array]
    ) -> tuple[SeparableConvBlock, Array]:
        weights, images = _chunk_gradients(block, *chunk)
        return jax.tree.map(jnp.add, total, weights), images

    zero = jax.tree.map(jnp.zeros_like, block)
    weights, images = lax.scan(add, zero, (_chunks(x), _chunks(gradient)))
    return weights, images.reshape(x.shape)


def _chunks(x: Float[Array, "b ..."]) -> Float[Array, "s n ..."]:
    # A divisor of the batch, so that nothing is padded: one alert is a chunk of one.
    return x.reshape(-1, math.gcd(len(x), CHUNK), *x.shape[1:])


def _chunk_gradients(
    block: SeparableConvBlock, x: Float[Array, "n h w c"], gradient: Float[Array, "n p q o"]
) -> tuple[SeparableConvBlock, Float[Array, "n h w c"]]:
    valid = all_numbers(block)
    kernel_2 = enough_terms(block.pointwise_2)
    # forward again, up to the pool
    shifted_1 = fence(depthwise_conv, valid, x, block.depthwise_1)
    active = fence(pointwise_relu, valid, shifted_1, enough_terms(block.pointwise_1), block.bias_1)
    shifted_2 = fence(depthwise_conv, valid, active, block.depthwise_2)
    code = fence(_largest_pixel, valid, shifted_2, kernel_2, block.bias_2)
    # backward: `mixed` is before relu, after the pointwise convolution and its bias
    mixed_2 = fence(_unpool, valid, code, gradient)
    pointwise_2, bias_2 = _pointwise_gradients(valid, shifted_2, mixed_2)
    shifted_2 = mixed_2 @ block.pointwise_2.T
    depthwise_2 = _depthwise_gradient(valid, active, shifted_2)
    shifted_2 = fence(_pad, valid, shifted_2)
    mixed_1 = fence(_depthwise_transposed_relu, valid, shifted_2, block.depthwise_2, active)
    pointwise_1, bias_1 = _pointwise_gradients(valid, shifted_1, mixed_1)
    shifted_1 = mixed_1 @ block.pointwise_1.T
    depthwise_1 = _depthwise_gradient(valid, x, shifted_1)
    shifted_1 = fence(_pad, valid, shifted_1)
    images = fence(_depthwise_transposed, valid, shifted_1, block.depthwise_1)
    return (
        SeparableConvBlock(depthwise_1, pointwise_1, bias_1, depthwise_2, pointwise_2, bias_2),
        images,
    )


# --- pool ------------------------------------------------------------------------------------


def _largest_pixel(
    x: Float[Array, "n h w c"], kernel: Float[Array, "t o"], bias: Float[Array, " o"]
) -> Float[Array, "n h//2 w//2 o"]:
    """Which pixel of each window the pool takes after pointwise convolution and relu, as a code."""
    pixels = pointwise_sums(x, kernel, bias, POOLING_WINDOW)
    largest = reduce(jnp.maximum, pixels)
    code = jnp.full_like(largest, 3.0)
    for index in (2, 1, 0):  # the first of tied maxima has the last word
        code = jnp.where(pixels[index] == largest, float(index), code)
    return jnp.where(largest > 0, code, _NO_PIXEL)


def _unpool(
    code: Float[Array, "n p q o"], gradient: Float[Array, "n p q o"]
) -> Float[Array, "n 2*p 2*q o"]:
    """The gradient of each window at the pixel that the pool took."""
    count, height, width, channels = code.shape
    own = jnp.arange(4, dtype=code.dtype).reshape(1, 1, 2, 1, 2, 1)
    taken = code[:, :, None, :, None] == own
    spread = jnp.where(taken, gradient[:, :, None, :, None], 0.0)
    return spread.reshape(count, 2 * height, 2 * width, channels)


# --- pointwise -------------------------------------------------------------------------------


def _pointwise_gradients(
    valid: Bool[Array, ""], x: Float[Array, "n h w c"], gradient: Float[Array, "n h w o"]
) -> tuple[Float[Array, "c o"], Float[Array, " o"]]:
    """Gradients of a pointwise kernel and its bias."""
    kernel = fence(_sum_half_rows, valid, x, gradient).sum((0, 1))
    return kernel, fence(_sum_rows, valid, gradient).sum((0, 1))


def _sum_half_rows(
    x: Float[Array, "n h w c"], gradient: Float[Array, "n h w o"]
) -> Float[Array, "n 2*h c o"]:
    """Products of all input with all output channels, added up over half a row of pixels."""
    count, height, width, channels = x.shape
    x = x.reshape(count, 2 * height, width // 2, channels, 1)
    gradient = gradient.reshape(count, 2 * height, width // 2, 1, -1)
    return _add_up([x[:, :, column] * gradient[:, :, column] for column in range(width // 2)])


def _sum_rows(x: Float[Array, "n h w o"]) -> Float[Array, "n h o"]:
    return _add_up([x[:, :, column] for column in range(x.shape[2])])


def _add_up(terms: list[Array]) -> Array:
    # Two partial sums hide the latency of the multiply-adds.
    halves = [reduce(jnp.add, half) for half in (terms[::2], terms[1::2]) if half]
    return reduce(jnp.add, halves)


# --- depthwise -------------------------------------------------------------------------------


def _depthwise_gradient(
    valid: Bool[Array, ""], x: Float[Array, "n h w c"], gradient: Float[Array, "n h-2 w-2 c"]
) -> Float[Array, "3 3 c"]:
    """Gradient of a depthwise kernel."""
    taps = [tap.sum((0, 1)) for tap in fence(_sum_taps, valid, x, gradient)]
    return jnp.stack(taps).reshape(3, 3, -1)


def _sum_taps(
    x: Float[Array, "n h w c"], gradient: Float[Array, "n h-2 w-2 c"]
) -> list[Float[Array, "n h-2 c"]]:
    """For each of the nine taps, its products added up over each row of pixels."""
    height, width = gradient.shape[1:3]

    def tap(i: int, j: int) -> Array:
        rows = x[:, i : i + height]
        return _add_up([rows[:, :, j + q] * gradient[:, :, q] for q in range(width)])

    return [tap(i, j) for i in range(3) for j in range(3)]


def _pad(x: Float[Array, "n h w c"]) -> Float[Array, "n h+4 w+4 c"]:
    return jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))


def _depthwise_transposed(
    padded: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c"]
) -> Float[Array, "n h-2 w-2 c"]:
    """Gradient of a depthwise convolution's input, from the padded one of its output."""
    return depthwise_conv(padded, kernel[::-1, ::-1])


def _depthwise_transposed_relu(
    padded: Float[Array, "n h w c"],
    kernel: Float[Array, "3 3 c"],
    active: Float[Array, "n h-2 w-2 c"],
) -> Float[Array, "n h-2 w-2 c"]:
    """The same, and through the relu that gave `active`."""
    return jnp.where(active > 0, _depthwise_transposed(padded, kernel), 0.0)
