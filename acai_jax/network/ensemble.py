"""What several heads of one class say together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class EnsembleScore(NamedTuple):
    """What the members of k ensembles say of b alerts.

    Attributes:
        logits: of the mean of the members' scores.
        deviation: standard deviation of the members' scores.
        information: mutual information of the score and the choice of the member [nat]: how much
            of the uncertainty is disagreement. It is 0 where all say the same, however unsure
            they are, and at most log 2.
    """

    logits: Float[Array, "b k"]
    deviation: Float[Array, "b k"]
    information: Float[Array, "b k"]


def ensemble_score(logits: Float[Array, "b m"], members: int) -> EnsembleScore:
    """What ensembles say, from the logits of all their members.

    Args:
        logits: of k * `members` heads, those of one class side by side.
        members: of each ensemble.

    Example:
        >>> found = ensemble_score(jnp.array([[2.0, -2.0, 1.0, 1.0]]), 2)
        >>> found.logits.round(3).tolist(), (found.information > 0.1).tolist()
        ([[0.0, 1.0]], [[True, False]])

    Source: Houlsby et al. 2011 (arXiv:1112.5745), which calls the mutual information BALD.
    """
    logits = logits.reshape(logits.shape[0], -1, members)
    # in logarithms: scores that round to 0 or 1 still have an order
    ones = jax.nn.logsumexp(jax.nn.log_sigmoid(logits), -1)
    zeros = jax.nn.logsumexp(jax.nn.log_sigmoid(-logits), -1)
    mean = ones - zeros
    information = _entropy(mean) - _entropy(logits).mean(-1)
    return EnsembleScore(mean, jax.nn.sigmoid(logits).std(-1), jnp.maximum(information, 0))


def _entropy(logits: Array) -> Array:
    """Of a yes or no with these log-odds [nat]."""
    score = jax.nn.sigmoid(logits)
    return -score * jax.nn.log_sigmoid(logits) - (1 - score) * jax.nn.log_sigmoid(-logits)
