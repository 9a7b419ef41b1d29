"""What an alert may look like as well: random changes of what heads see in training.

The paper trained without. Heads that are trained on simulated alerts meet real ones better if they
cannot lean on what a simulation gets only nearly right.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from acai_jax.training.config import Augment


def augmented_features(
    augment: Augment,
    key: Key[Array, ""],
    features: Float[Array, "b f"],
    *,
    floor: Float[Array, " f"],
    centre: Float[Array, " f"],
    scale: Float[Array, " f"],
    missing: float,
) -> Float[Array, "b f"]:
    """Raw features, changed at random.

    Args:
        augment: how.
        key: of the randomness.
        features: raw.
        floor: of each feature; where it is positive, centre and scale are of the logarithm.
        centre: of each feature: its median.
        scale: of each feature: a robust standard deviation.
        missing: the sentinel of what was not measured.
    """
    drop_key, noise_key = jax.random.split(key)
    found = features
    if augment.feature_noise:
        noise = augment.feature_noise * scale * jax.random.normal(noise_key, features.shape)
        noisy = jnp.where(floor > 0, features * jnp.exp(noise), features + noise)
        found = jnp.where(features == missing, features, noisy)
    if augment.feature_drop:
        dropped = jax.random.bernoulli(drop_key, augment.feature_drop, features.shape)
        found = jnp.where(dropped, jnp.where(floor > 0, jnp.exp(centre), centre), found)
    return found


def augmented_triplets(
    augment: Augment, key: Key[Array, ""], triplets: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Normalised triplets, changed at random; each stamp keeps the norm 1, nearly."""
    flip_key, smear_key, level_key, noise_key = jax.random.split(key, 4)
    count, side, _, channels = triplets.shape
    if augment.flips:
        coins = jax.random.bernoulli(flip_key, shape=(3, count))
        for axis, chosen in zip((1, 2, None), coins, strict=True):
            turned = triplets.swapaxes(1, 2) if axis is None else jnp.flip(triplets, axis)
            triplets = jnp.where(chosen[:, None, None, None], turned, triplets)
    if augment.smear:
        share = augment.smear * jax.random.uniform(smear_key, (count, 1, 1, channels))
        edged = jnp.pad(triplets, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
        around = edged[:, 2:, 1:-1] + edged[:, :-2, 1:-1] + edged[:, 1:-1, 2:] + edged[:, 1:-1, :-2]
        triplets = triplets + share * (around / 4 - triplets)
    if augment.pixel_noise:
        level = augment.pixel_noise / side * jax.random.uniform(level_key, (count, 1, 1, channels))
        triplets = triplets + level * jax.random.normal(noise_key, triplets.shape)
    return triplets
