"""What the members of an ensemble say together."""

import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit, xlogy

from acai_jax.network.ensemble import ensemble_score


def test_it_is_what_the_textbook_says_in_float64():
    rows = np.random.default_rng(0).uniform(-8, 8, (1000, 3)).astype(np.float32)
    rows[:50] = rows[:50, :1]  # of one mind
    found = ensemble_score(jnp.asarray(rows), 3)
    scores = expit(rows.astype(np.float64))
    mean = scores.mean(1, keepdims=True)

    def entropy(p):
        return -xlogy(p, p) - xlogy(1 - p, 1 - p)

    np.testing.assert_allclose(found.logits, logit(mean), atol=2e-4)
    np.testing.assert_allclose(found.deviation, scores.std(1, keepdims=True), atol=1e-6)
    information = entropy(mean) - entropy(scores).mean(1, keepdims=True)
    np.testing.assert_allclose(found.information, information, atol=1e-6)


def test_the_order_of_scores_that_round_to_1_is_kept():
    found = ensemble_score(jnp.array([[30.0, 40.0], [31.0, 40.0], [95.0, 95.0]]), 2)
    assert (np.diff(found.logits[:, 0]) > 0).all()
    assert np.isfinite(np.concatenate(found)).all()


def test_members_of_one_class_stand_side_by_side():
    found = ensemble_score(jnp.array([[4.0, 4.0, -4.0, -4.0, 4.0, -4.0]]), 2)
    np.testing.assert_allclose(found.logits, [[4, -4, 0]], atol=1e-5)
    np.testing.assert_allclose(found.information, [[0, 0, found.information[0, 2]]], atol=1e-6)
    assert 0.5 < float(found.information[0, 2]) < np.log(2)
