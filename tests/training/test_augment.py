"""Random changes of alerts in training: what they may do, and what they leave alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acai_jax.training.augment import augmented_features, augmented_triplets
from acai_jax.training.config import Augment

KEY = jax.random.key(7)


@pytest.fixture
def triplets():
    return jax.random.normal(jax.random.key(0), (64, 63, 63, 3)) / 63


def test_flips_give_each_of_the_eight_symmetries_to_all_stamps_of_an_alert_alike(triplets):
    found = np.asarray(augmented_triplets(Augment(flips=True), KEY, triplets))
    symmetries = list(itertools.product((False, True), range(4)))
    seen = set()
    for before, after in zip(np.asarray(triplets), found, strict=True):
        (which,) = [
            symmetry
            for symmetry in symmetries
            if np.array_equal(np.rot90(before[::-1] if symmetry[0] else before, symmetry[1]), after)
        ]
        seen.add(which)
    assert len(seen) == 8


def test_smearing_spreads_a_star_and_loses_none_of_it():
    star = jnp.zeros((200, 63, 63, 3)).at[:, 31, 31].set(1)
    found = np.asarray(augmented_triplets(Augment(smear=0.4), KEY, star))
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
    centres = found[:, 31, 31]
    assert 0.6 <= centres.min() < 0.62
    assert 0.98 < centres.max() <= 1
    np.testing.assert_allclose(found[:, 30, 31], (1 - centres) / 4, atol=1e-6)
    assert len(np.unique(centres)) > 500  # each stamp by itself


def test_pixel_noise_is_in_units_of_the_stamps_rms(triplets):
    found = augmented_triplets(Augment(pixel_noise=0.5), KEY, triplets)
    levels = np.std(np.asarray(found - triplets), axis=(1, 2)) * 63
    assert 0.45 < levels.max() < 0.52
    assert levels.min() < 0.05


def test_features_are_shaken_or_dropped_and_sentinels_are_not_shaken():
    features = jnp.tile(jnp.array([[20.0, -999.0, 3.0]]), (4000, 1))
    known = {"centre": jnp.array([18.0, 1.0, 2.0]), "scale": jnp.array([2.0, 1.0, 0.1])}
    known["floor"] = jnp.zeros(3)
    shaken = Augment(feature_noise=0.5)
    found = np.asarray(augmented_features(shaken, KEY, features, missing=-999.0, **known))
    np.testing.assert_allclose(found.std(0), [1, 0, 0.05], rtol=0.05)
    assert (found[:, 1] == -999).all()
    dropping = Augment(feature_drop=0.25)
    found = np.asarray(augmented_features(dropping, KEY, features, missing=-999.0, **known))
    dropped = found == np.asarray(known["centre"])
    np.testing.assert_allclose(dropped.mean(0), 0.25, atol=0.03)
    assert (found[~dropped] == np.asarray(features)[~dropped]).all()


def test_what_is_taken_as_a_logarithm_is_shaken_and_dropped_as_one():
    features = jnp.tile(jnp.array([[20.0, -999.0]]), (4000, 1))
    known = {"centre": jnp.log(jnp.array([18.0, 2.0])), "scale": jnp.array([0.4, 0.1])}
    known |= {"floor": jnp.array([1.0, 1.0]), "missing": -999.0}
    found = np.asarray(augmented_features(Augment(feature_noise=0.5), KEY, features, **known))
    assert np.log(found[:, 0] / 20).std() == pytest.approx(0.2, rel=0.05)
    assert (found[:, 1] == -999).all()
    found = np.asarray(augmented_features(Augment(feature_drop=0.25), KEY, features, **known))
    np.testing.assert_allclose(np.unique(found), [-999, 2, 18, 20], rtol=1e-6)


def test_nothing_is_changed_by_default(triplets):
    features = jnp.ones((64, 3))
    known = {"floor": jnp.zeros(3), "centre": jnp.zeros(3), "scale": jnp.ones(3)}
    known["missing"] = -999.0
    assert augmented_features(Augment(), KEY, features, **known) is features
    assert augmented_triplets(Augment(), KEY, triplets) is triplets


@pytest.mark.parametrize("name", ["pixel_noise", "smear", "feature_noise", "feature_drop"])
@pytest.mark.parametrize("value", [-0.1, 11.0, float("nan")])
def test_an_impossible_amount_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Augment(**{name: value})
