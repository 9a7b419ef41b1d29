"""The layers that a head is made of, beside those of Flax."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from acai_jax.network.accelerated_gradients import accelerated_separable_conv
from acai_jax.network.separable import separable_conv
from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Inputs


class SeparableConv(nnx.Module):
    """A depthwise convolution, then a pointwise one, with bias and without padding."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        initialise = nnx.initializers.glorot_uniform()
        # drawn in the shape that Keras gives it, which sets the scale
        depthwise = initialise(rngs.params(), (size, size, inputs, 1))[..., 0]
        self.depthwise = nnx.Param(depthwise)
        self.pointwise = nnx.Param(initialise(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.precision = precision

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b p q o"]:
        """The convolution, without activation."""
        weights = (self.depthwise[...], self.pointwise[...], self.bias[...])
        on_cpu = jax.default_backend() == "cpu"
        conv = separable_conv if on_cpu else accelerated_separable_conv
        return conv(x, *weights, self.precision)


class Constant(nnx.Variable):
    """Numbers that are stored with the weights, and not trained."""


class FeatureNorm(nnx.Module):
    """How one head normalises its features; as created, it leaves every bit as it is.

    A feature becomes (feature - centre) / scale, cut off at +-limit. Where `floor` is positive, the
    feature's logarithm takes its place first, that of the floor for whatever lies below. The
    survey's sentinel, which is no measurement, becomes `sentinel`.

    Example:
        >>> norm = FeatureNorm()
        >>> norm.limit[...] = jnp.full(norm.limit.shape, 3.0)
        >>> features = jnp.tile(jnp.array([[7.0], [-999.0]]), norm.limit.shape)
        >>> norm(features)[0, :2].tolist(), norm(features)[1, 0]
        ([3.0, 3.0], Array(-999., dtype=float32))
    """

    def __init__(self, inputs: Inputs = DEFAULT.inputs) -> None:
        count, self.missing = len(inputs.features), inputs.sentinel
        self.floor = Constant(jnp.zeros(count))
        self.centre = Constant(jnp.zeros(count))
        self.scale = Constant(jnp.ones(count))
        self.limit = Constant(jnp.full(count, jnp.inf, jnp.float32))
        self.sentinel = Constant(jnp.full(count, self.missing, jnp.float32))

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b f"]:
        """The features, normalised."""
        stored = (self.floor, self.centre, self.scale, self.limit, self.sentinel)
        floor, centre, scale, limit, sentinel = (
            jax.lax.stop_gradient(constant[...])[None] for constant in stored
        )
        has_log = floor > 0
        log = jnp.log(jnp.where(has_log, jnp.maximum(features, floor), 1))
        values = jnp.where(has_log, log, features)
        measured = jnp.clip((values - centre) / scale, -limit, limit)
        return jnp.where(features == self.missing, sentinel, measured)


class Dropout(nnx.Module):
    """Dropout whose rate may be a traced number, so that programs can be vmapped over rates.

    Rates are rounded to 1/256: a mask costs a quarter of the random bits that way. It acts in a
    view made by `nnx.view(module, deterministic=False)` only.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.deterministic = True

    def set_view(self, deterministic: bool | None = None) -> None:
        """Called by `nnx.view`."""
        self.deterministic = self.deterministic if deterministic is None else deterministic

    def __call__(
        self, x: Float[Array, "..."], key: Key[Array, ""] | None, rate: Float[Array, ""] | None
    ) -> Float[Array, "..."]:
        """`x` with a share `rate` (by default the module's own) set to 0, and the rest raised."""
        if self.deterministic:
            return x
        if key is None:
            raise ValueError("dropout is active: pass a key at the call")
        share = jnp.asarray(self.rate if rate is None else rate, jnp.float32)
        threshold = jnp.clip(jnp.round(share * 256), 0, 255)
        # drawn as bytes, each would cost as much as a whole word
        words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 4)), jnp.uint32)
        random = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*x.shape[:-1], -1)
        kept = random[..., : x.shape[-1]] >= threshold.astype(jnp.uint8)
        return jnp.where(kept, x * (256 / (256 - threshold)), 0)
