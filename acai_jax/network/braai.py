"""braai, the real/bogus network behind the `drb` that packets of schema 3.2 and earlier lack."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from acai_jax.network.separable import max_pool_2x2


class Braai(nnx.Module):
    """The published `braai_d6_m9`: triplet -> logit of "real".

    Args:
        rngs: source of the initial weights, which the published ones then replace.

    Example:
        >>> Braai(rngs=nnx.Rngs(0))(jax.numpy.zeros((2, 63, 63, 3))).shape
        (2,)

    Source: Duev et al. 2019 (arXiv:1907.11259); the published HDF5 file.
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        def conv(inputs: int, outputs: int) -> nnx.Conv:
            return nnx.Conv(
                inputs, outputs, (3, 3), padding="VALID", precision="highest", rngs=rngs
            )

        self.conv1 = conv(3, 16)
        self.conv2 = conv(16, 16)
        self.conv3 = conv(16, 32)
        self.conv4 = conv(32, 32)
        self.fc_1 = nnx.Linear(1152, 256, precision="highest", rngs=rngs)
        self.fc_out = nnx.Linear(256, 1, precision="highest", rngs=rngs)

    def __call__(self, triplets: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Logits of a batch of normalised triplets."""
        x = max_pool_2x2(jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(triplets)))))
        x = jax.nn.relu(self.conv4(jax.nn.relu(self.conv3(x))))
        x = max_pool_2x2(max_pool_2x2(x[:, :24, :24]))  # a 4x4 pool drops row and column 24
        x = jax.nn.relu(self.fc_1(x.reshape(len(x), -1)))
        return self.fc_out(x)[:, 0]


def drb_from_triplets(braai: Braai, triplets: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """The deep real/bogus score in 0..1, as packets since schema 3.3 carry it."""
    return jax.nn.sigmoid(braai(triplets))
