"""The separable convolution with a gradient of its own, for accelerators.

What automatic differentiation makes of `separable_conv` suits no accelerator: it keeps nine shifted
copies of the images for the depthwise kernel's gradient, and the pointwise kernel's is one product
with a sum over a hundred thousand pixels, which a card gives to a few of its cores. Here nothing
but the input is kept, the nine sums read it in place, and each alert's product is added up by
itself before those of a batch. The gradient of images that nobody trains is not computed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from acai_jax.network.separable import depthwise_conv, separable_conv

accelerated_separable_conv = jax.custom_vjp(separable_conv, nondiff_argnums=(4,))
"""`separable_conv`, value for value, with a backward pass that suits accelerators."""


def _forward(
    x: Array, depthwise: Array, pointwise: Array, bias: Array, precision: str
) -> tuple[Array, tuple[Array, Array, Array]]:
    return separable_conv(x, depthwise, pointwise, bias, precision), (x, depthwise, pointwise)


def _backward(
    precision: str, kept: tuple[Array, Array, Array], gradient: Float[Array, "b p q o"]
) -> tuple[Array, Array, Array, Array]:
    """Gradients of the images and of the three weights."""
    x, depthwise, pointwise = kept
    rows, columns = depthwise.shape[:2]
    height, width = gradient.shape[1:3]
    shifted = depthwise_conv(x, depthwise)
    of_alerts = jnp.einsum("bhwc,bhwo->bco", shifted, gradient, precision=precision)
    of_shifted = jnp.einsum("bhwo,co->bhwc", gradient, pointwise, precision=precision)
    taps = [
        (x[:, i : i + height, j : j + width] * of_shifted).sum((0, 1, 2))
        for i in range(rows)
        for j in range(columns)
    ]
    around = ((0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1), (0, 0))
    images = depthwise_conv(jnp.pad(of_shifted, around), depthwise[::-1, ::-1])
    return (
        images,
        jnp.stack(taps).reshape(depthwise.shape),
        of_alerts.sum(0),
        gradient.sum((0, 1, 2)),
    )


accelerated_separable_conv.defvjp(_forward, _backward)
