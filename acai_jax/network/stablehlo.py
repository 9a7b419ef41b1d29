"""Heads as a StableHLO artifact: compiled by whatever runs it, without the package's code."""

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from acai_jax.extras import require
from acai_jax.network.bank import HeadBank, apply_heads
from acai_jax.network.ensemble import ensemble_score

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stablehlo_artifact(bank: HeadBank) -> bytes:
    """A serialised program of all heads of a bank, for accelerators, with the weights in it.

    `jax.export.deserialize` makes a function of it again, which takes features and triplets as
    `apply_heads` does, batches of any size, and gives scores (b, k).

    Args:
        bank: heads of any kind.

    Raises:
        MissingPackageError: the package `flatbuffers` is not installed.

    Example:
        >>> from acai_jax.network.exchange import load_shipped
        >>> artifact = stablehlo_artifact(load_shipped("lsst-simulated"))
        >>> score = jax.export.deserialize(bytearray(artifact))
        >>> score.in_avals
        (ShapedArray(float32[b,27]), ShapedArray(float32[b,30,30,3]))

    Source: the documentation of `jax.export`, which keeps artifacts readable for six months.
    """
    require("flatbuffers", "export")  # by which it is serialised
    heads = nnx.view(bank.heads, plain=True)  # the faster form is for CPUs, and fixed batches

    def scores(
        features: Float[Array, "b f"], triplets: Float[Array, "b h w c"]
    ) -> Float[Array, "b k"]:
        logits = apply_heads(heads, features, triplets)
        if bank.members > 1:
            logits = ensemble_score(logits, bank.members).logits
        return jax.nn.sigmoid(logits / bank.temperatures[None])

    inputs = bank.survey.inputs
    (batch,) = jax.export.symbolic_shape("b")
    shapes = ((batch, len(inputs.features)), (batch, *inputs.triplet))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    exported = jax.export.export(jax.jit(scores), platforms=_PLATFORMS)(*arguments)
    return bytes(exported.serialize())
