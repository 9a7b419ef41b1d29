"""What ours is compared with: Flax layers, and how users' programs are compiled."""

from collections.abc import Callable

import jax
from flax import nnx

USUAL = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}
"""Options of the compiler as users have them, who set none; the tests' are others (conftest.py)."""


def nnx_separable_conv(
    depthwise: jax.Array, pointwise: jax.Array, bias: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """A grouped convolution and a 1x1 one: (i, j, c), (c, o), (o,) -> images to images."""
    inputs, outputs = pointwise.shape
    # random weights, which take long to compile, would only be replaced
    options = {"kernel_init": nnx.initializers.zeros, "precision": "highest", "rngs": nnx.Rngs(0)}
    grouped = nnx.Conv(
        inputs,
        inputs,
        depthwise.shape[:2],
        padding="VALID",
        feature_group_count=inputs,
        use_bias=False,
        **options,
    )
    mixing = nnx.Conv(inputs, outputs, (1, 1), **options)
    grouped.kernel.set_value(depthwise[:, :, None])
    mixing.kernel.set_value(pointwise[None, None])
    assert mixing.bias is not None
    mixing.bias.set_value(bias)
    return lambda x: mixing(grouped(x))
