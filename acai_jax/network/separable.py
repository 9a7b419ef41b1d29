"""Separable convolutions, the hot path of the network: a plain form, and a fast one for the CPU.

The image half of each head is two blocks of two 'valid' 3x3 separable convolutions with relu, each
block followed by 2x2 max pooling, and then a global average over the pixels. The plain form
(`separable_conv`, `max_pool_2x2`) is written for one head, is differentiable, and is the path for
accelerators, where its gradient is that of `accelerated_gradients`. `fast_cpu_features` gives the
same features on a CPU, without gradients; those have a file of their own, `separable_gradients`.

What makes the fast form fast, in order of effect: each step is compiled as a loop of its own
(`fence`); alerts pass in chunks whose intermediate images stay in a core's L2 cache; pointwise
convolutions are multiply-adds with the output channels as vector lanes; the second one of a block
adds up the four pixels of each pooling window together, so that they share the loaded weights.

References:
    Duev & van der Walt 2021, arXiv:2111.12142, and the HDF5 files published with it.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from acai_jax.network.head_config import input_size

ResultT = TypeVar("ResultT")

# Two alerts' images after the first convolution take 0.4 MB: two layers fit in 1 MB of L2 cache.
CHUNK = 2
# LLVM unrolls a sum of fewer terms completely before it vectorises, which is four times slower.
_FEWEST_TERMS = 5

_EACH_PIXEL = (np.s_[:],)
POOLING_WINDOW = tuple(np.s_[:, row::2, column::2] for row in (0, 1) for column in (0, 1))


class SeparableConvBlock(NamedTuple):
    """Weights of two separable convolutions, float32: one head's, or k heads' stacked in front.

    Example:
        >>> shapes = SeparableConvBlock((3, 3, 3), (3, 16), (16,), (3, 3, 16), (16, 16), (16,))
        >>> SeparableConvBlock(*(jnp.zeros(shape) for shape in shapes)).pointwise_1.shape
        (3, 16)
    """

    depthwise_1: Float[Array, "*k 3 3 c"]
    pointwise_1: Float[Array, "*k c o1"]
    bias_1: Float[Array, "*k o1"]
    depthwise_2: Float[Array, "*k 3 3 o1"]
    pointwise_2: Float[Array, "*k o1 o2"]
    bias_2: Float[Array, "*k o2"]


def depthwise_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "i j c"]
) -> Float[Array, "b h-i+1 w-j+1 c"]:
    """'valid' depthwise convolution, as shifted multiply-adds, one for each pixel of the kernel."""
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1

    def tap(i: int, j: int) -> Array:
        return x[:, i : i + height, j : j + width] * kernel[None, i : i + 1, j : j + 1]

    return reduce(jnp.add, [tap(i, j) for i in range(rows) for j in range(columns)])


def separable_conv(
    x: Float[Array, "b h w c"],
    depthwise: Float[Array, "i j c"],
    pointwise: Float[Array, "c o"],
    bias: Float[Array, " o"],
    precision: str = "float32",
) -> Float[Array, "b h-i+1 w-j+1 o"]:
    """'valid' separable convolution of one head, without activation.

    Depthwise with multiplier 1, then 1x1, then the bias, as `SeparableConv2D` in Keras does.

    Args:
        x: images, float32, no smaller than the kernel.
        depthwise: one kernel for each input channel.
        pointwise: the 1x1 kernel.
        bias: one number for each output channel.
        precision: of the 1x1 convolution, as in `jax.lax.Precision`. Accelerators are faster with
            less than float32, and lose 1e-5 parity.

    Returns:
        Images, float32.

    Example:
        >>> x = jnp.ones((2, 63, 63, 3))
        >>> y = separable_conv(x, jnp.ones((3, 3, 3)), jnp.ones((3, 16)), jnp.zeros(16))
        >>> y.shape, float(y[0, 0, 0, 0])
        ((2, 61, 61, 16), 27.0)
    """
    mixed = jnp.einsum(
        "bhwc,co->bhwo", depthwise_conv(x, depthwise), pointwise, precision=precision
    )
    return mixed + bias[None, None, None]


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Maximum of each 2x2 window; an odd last row or column is dropped.

    Among tied maxima `jnp.maximum` splits the gradient evenly, where Keras gives all of it to the
    first. Ties are common after relu (zeros), where the gradient is zero either way.

    Args:
        x: images, float32.

    Returns:
        Images (b, h // 2, w // 2, c), float32.

    Example:
        >>> float(max_pool_2x2(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, 0, 0, 0])
        4.0
    """
    even = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    # Strided slices: a reshape followed by max(...) takes five times as long on a CPU.
    return reduce(jnp.maximum, [even[pixels] for pixels in POOLING_WINDOW])


def fast_cpu_features(
    blocks: tuple[SeparableConvBlock, SeparableConvBlock],
    triplets: Float[Array, "b h w c"],
) -> Float[Array, "k b o"]:
    """Pooled image features of every head for every alert: inference on a CPU.

    For each head: relu of a separable convolution, twice, max pooling; the same with the second
    block; average over the pixels. Equal to the plain form to rounding. Call it under `jax.jit`
    with `cpu_compiler_options()`; any batch size works, an odd one at about 0.7 of the speed.

    Args:
        blocks: the weights of k heads, stacked along a leading axis of every array.
        triplets: science, reference and difference stamps, float32.

    Returns:
        Features, float32.

    Example:
        >>> shapes = [(3, 3, 3), (3, 8), (8,), (3, 3, 8), (8, 8), (8,)]
        >>> first = SeparableConvBlock(*(jnp.ones((5, *shape)) for shape in shapes))
        >>> shapes = [(3, 3, 8), (8, 6), (6,), (3, 3, 6), (6, 6), (6,)]
        >>> second = SeparableConvBlock(*(jnp.ones((5, *shape)) for shape in shapes))
        >>> fast_cpu_features((first, second), jnp.ones((4, 63, 63, 3))).shape
        (5, 4, 6)
    """
    batch = triplets.shape[0]
    # Weights that a caller's jit has closed over would fold, and the fences with them.
    blocks = lax.optimization_barrier(blocks)
    # A divisor of the batch, so that nothing is padded: one alert is a chunk of one.
    chunk = math.gcd(batch, CHUNK)

    def chunk_features(images: Float[Array, "n h w c"]) -> Float[Array, "k n o"]:
        size = input_size(len(blocks), images.shape[1])
        used = images[:, :size, :size]
        return lax.map(lambda head: _head_features(head, used), blocks)

    features = lax.map(chunk_features, triplets.reshape(-1, chunk, *triplets.shape[1:]))
    return features.swapaxes(0, 1).reshape(features.shape[1], batch, -1)


def cpu_compiler_options() -> dict[str, int]:
    """Options that suit `fast_cpu_features`, for the outermost `jax.jit(compiler_options=...)`.

    Returns:
        512-bit vectors where the processor has AVX-512 (XLA's own choice is 256 bits, 1.4 times
        slower here), and nothing elsewhere.

    Example:
        >>> program = jax.jit(jnp.sin, compiler_options=cpu_compiler_options())
        >>> float(program(0.0))
        0.0
    """
    processors = Path("/proc/cpuinfo")
    if jax.default_backend() != "cpu" or not processors.exists():
        return {}
    return {"xla_cpu_prefer_vector_width": 512} if "avx512f" in processors.read_text() else {}


def _head_features(
    head: tuple[SeparableConvBlock, SeparableConvBlock], x: Float[Array, "n h w c"]
) -> Float[Array, "n o"]:
    """One head's features of one chunk of alerts."""
    for block in head:
        x = block_features(block, x)
    return x.mean(axis=(1, 2))


def block_features(
    block: SeparableConvBlock, x: Float[Array, "n h w c"]
) -> Float[Array, "n h//2-2 w//2-2 o"]:
    """One block of one head in the fast form: two convolutions with relu, and max pooling.

    Args:
        block: weights of one head.
        x: images of a few alerts, float32, with even sides.
    """
    valid = all_numbers(block)
    x = fence(depthwise_conv, valid, x, block.depthwise_1)
    x = fence(pointwise_relu, valid, x, enough_terms(block.pointwise_1), block.bias_1)
    x = fence(depthwise_conv, valid, x, block.depthwise_2)
    return fence(_pointwise_pool_relu, valid, x, enough_terms(block.pointwise_2), block.bias_2)


def all_numbers(block: SeparableConvBlock) -> Bool[Array, ""]:
    """What `fence` needs: true at run time, unless a weight is NaN; unknown to the compiler."""
    return block.bias_1[0] == block.bias_1[0]


def fence(
    function: Callable[..., ResultT], valid: Bool[Array, ""], *arrays: Float[Array, "..."]
) -> ResultT:
    """`function(*arrays)`, compiled apart from what comes before and after it.

    Where `valid` is false the result is NaN: it is true unless a weight is NaN, in which case NaN
    is the right answer anyway.
    """
    # XLA:CPU ignores optimization_barrier and inlines inner jits, and would then recompute a step
    # for each of the next step's nine taps; it cannot fuse across a condition known at run time.
    shapes = jax.eval_shape(function, *arrays)

    def nothing(*_: Array) -> ResultT:
        return jax.tree.map(lambda shape: jnp.full(shape.shape, jnp.nan, shape.dtype), shapes)

    return lax.cond(valid, function, nothing, *arrays)


def enough_terms(kernel: Float[Array, "c o"]) -> Float[Array, "t o"]:
    """The kernel repeated and divided until a sum over its rows has enough terms, t = r * c."""
    repeats = -(-_FEWEST_TERMS // kernel.shape[0])
    return jnp.tile(kernel / repeats, (repeats, 1)) if repeats > 1 else kernel


def pointwise_sums(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "t o"],
    bias: Float[Array, " o"],
    views: Sequence[slice | tuple[slice, ...]],
) -> list[Float[Array, "n _ _ o"]]:
    """The pointwise convolution of several views of the pixels, added up side by side."""
    channels = x.shape[-1]
    # Two partial sums for each view hide the latency of the multiply-adds.
    start = bias[None, None, None]
    sums = [[start, jnp.zeros_like(start)] for _ in views]
    for term in range(kernel.shape[0]):
        channel = term % channels
        # Slicing the channel before the view compiles to code that is 1.3 times faster.
        plane = x[..., channel : channel + 1]
        weights = kernel[None, None, term : term + 1]
        for view, partial in zip(views, sums, strict=True):
            partial[term % 2] = partial[term % 2] + plane[view] * weights
    return [first + second for first, second in sums]


def pointwise_relu(
    x: Float[Array, "n h w c"], kernel: Float[Array, "t o"], bias: Float[Array, " o"]
) -> Float[Array, "n h w o"]:
    """Pointwise convolution and relu."""
    return jax.nn.relu(pointwise_sums(x, kernel, bias, _EACH_PIXEL)[0])


def _pointwise_pool_relu(
    x: Float[Array, "n h w c"], kernel: Float[Array, "t o"], bias: Float[Array, " o"]
) -> Float[Array, "n h//2 w//2 o"]:
    """Pointwise convolution, relu and 2x2 max pooling of images with even sides."""
    return jax.nn.relu(reduce(jnp.maximum, pointwise_sums(x, kernel, bias, POOLING_WINDOW)))
