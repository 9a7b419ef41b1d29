"""Gradients for accelerators, beside automatic differentiation; a CPU computes both."""

from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acai_jax.network.accelerated_gradients import accelerated_separable_conv
from acai_jax.network.bank import create_heads, take_head
from acai_jax.network.head import head_weights, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.separable import separable_conv
from acai_jax.surveys.ztf import ZTF


@pytest.mark.parametrize("side", [3, 5])
def test_gradients_are_those_of_the_plain_form(side):
    rng = np.random.default_rng(side)
    shapes = [(4, 3, 12, 11, 3), (4, side, side, 3), (4, 3, 5), (4, 5)]
    args = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
    wanted = rng.normal(size=(4, 3, 13 - side, 12 - side, 5)).astype(np.float32)

    def loss_by(conv):
        def loss(*args):
            found = jax.vmap(conv)(*args)
            return (found * wanted).sum(), found

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))

    ours, plain = loss_by(accelerated_separable_conv)(*args), loss_by(separable_conv)(*args)
    chex.assert_trees_all_equal(ours[1], plain[1])
    chex.assert_trees_all_close(ours[0], plain[0], rtol=1e-5, atol=1e-5)


def test_heads_learn_the_same_in_both_forms():
    config = HeadConfig(filters=(2, 2, 3, 3), dense_units=(4,))
    head = take_head(create_heads(config, 1, jax.random.key(0)), 0)
    rng = np.random.default_rng(0)
    size = ZTF.inputs.stamp
    features = jnp.asarray(rng.normal(size=(4, len(ZTF.inputs.features))), jnp.float32)
    triplets = jnp.asarray(rng.normal(size=(4, size, size, 3)), jnp.float32)

    def gradients():
        def loss(weights):
            return jnp.square(with_weights(head, weights)(features, triplets)).sum()

        return jax.jit(jax.grad(loss))(head_weights(head))

    with mock.patch("acai_jax.network.head.has_fast_blocks", return_value=False):
        plain = gradients()
    with mock.patch("jax.default_backend", return_value="gpu"):
        ours = gradients()
    largest = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    chex.assert_trees_all_close(ours, plain, rtol=1e-5, atol=1e-6 * largest)


def test_images_that_nobody_trains_get_no_gradient():
    x = jnp.ones((1, 8, 8, 3))
    weights = (jnp.ones((3, 3, 3)), jnp.ones((3, 4)), jnp.ones(4))

    def loss(weights, x):
        return accelerated_separable_conv(x, *weights).sum()

    padded = "f32[1,10,10,3]"  # gradients of the output, which those of the images are made of
    for of, there in ((0, False), ((0, 1), True)):
        program = jax.jit(jax.grad(loss, argnums=of)).lower(weights, x).compile()
        assert (padded in (program.as_text() or "")) == there
