"""The network, written for one head."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from acai_jax.network.head_config import HeadConfig, input_size, output_size
from acai_jax.network.layers import Dropout, FeatureNorm, SeparableConv
from acai_jax.network.separable import SeparableConvBlock, max_pool_2x2
from acai_jax.network.separable_gradients import fast_cpu_block
from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Inputs

ModuleT = TypeVar("ModuleT", bound=nnx.Module)

_ACTIVATIONS: Final[dict[str, Callable[[Array], Array]]] = {
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "tanh": jnp.tanh,
}


class Head(nnx.Module):
    """One binary classifier: features and triplet -> the logit of one class.

    It keeps no random state: dropout draws from the key passed at the call, and only in a view
    made by `nnx.view(head, deterministic=False)`. A view by `plain=True` has no faster form.

    Args:
        config: hyperparameters.
        rngs: source of the initial weights (Glorot uniform, as Keras).
        precision: of matrix products and convolutions on accelerators; see `separable_conv`.
        inputs: what it reads.

    Raises:
        ValueError: the stamps are too small for so many convolutions.

    Example:
        >>> head = Head(HeadConfig(), rngs=nnx.Rngs(0))
        >>> head(jnp.zeros((2, 25)), jnp.zeros((2, 63, 63, 3))).shape
        (2,)

    Source: Duev & van der Walt 2021, section 3; the published HDF5 files.
    """

    def __init__(
        self,
        config: HeadConfig,
        *,
        rngs: nnx.Rngs,
        precision: str = "float32",
        inputs: Inputs = DEFAULT.inputs,
    ) -> None:
        def dense(inputs: int, outputs: int) -> nnx.Linear:
            kernel_init = nnx.initializers.glorot_uniform()
            return nnx.Linear(
                inputs, outputs, kernel_init=kernel_init, precision=precision, rngs=rngs
            )

        def conv(inputs: int, outputs: int) -> nnx.Module:
            if config.convolution == "separable":
                size = config.kernel_size
                return SeparableConv(inputs, outputs, size, precision=precision, rngs=rngs)
            kernel_init = nnx.initializers.glorot_uniform()
            return nnx.Conv(
                inputs,
                outputs,
                (config.kernel_size, config.kernel_size),
                padding="VALID",
                kernel_init=kernel_init,
                precision=precision,
                rngs=rngs,
            )

        blocks = len(config.filters) // 2
        if input_size(blocks, inputs.stamp, config.kernel_size) is None:
            raise ValueError(
                f"stamps of {inputs.stamp} pixels are too small for {len(config.filters)} "
                f"convolutions of {config.kernel_size} pixels"
            )
        self.config, self.inputs, self.plain = config, inputs, False
        widths = (len(inputs.features), *config.dense_units)
        channels = (len(inputs.channels), *config.filters)
        image_features = channels[-1]
        if config.reduction == "flatten":
            image_features *= output_size(blocks, inputs.stamp, config.kernel_size) ** 2
        for place, (before, after) in enumerate(itertools.pairwise(widths), 1):
            setattr(self, f"dense_{place}", dense(before, after))
        self.convs = nnx.List(map(conv, channels[:-1], channels[1:]))
        self.join = dense(widths[-1] + image_features, config.head_units)
        self.score = dense(config.head_units, 1)
        self.dense_dropout = Dropout(config.dense_dropout)
        self.conv_dropout = Dropout(config.conv_dropout)
        self.norm = FeatureNorm(inputs)

    def set_view(self, plain: bool | None = None) -> None:
        """Called by `nnx.view`."""
        self.plain = self.plain if plain is None else plain

    def __call__(
        self,
        features: Float[Array, "b f"],
        triplets: Float[Array, "b h w c"],
        *,
        key: Key[Array, ""] | None = None,
        dropout: Float[Array, "2"] | None = None,
    ) -> Float[Array, " b"]:
        """Logits of a batch.

        Args:
            features: raw features, in the order of `inputs`.
            triplets: normalised stamps.
            key: needed where dropout is active.
            dropout: rates of the dense and the convolutional branch, in place of the config's.
        """
        keys = (None, None) if key is None else jax.random.split(key)
        dense, conv = (None, None) if dropout is None else dropout
        image_features = self.image_features(triplets, key=keys[0], dropout=conv)
        return self.classify(features, image_features, key=keys[1], dropout=dense)

    def image_features(
        self,
        triplets: Float[Array, "b h w c"],
        *,
        key: Key[Array, ""] | None = None,
        dropout: Float[Array, ""] | None = None,
    ) -> Float[Array, "b o"]:
        """The convolutional branch."""
        blocks = len(self.convs) // 2
        size = input_size(blocks, self.inputs.stamp, self.config.kernel_size)
        x = triplets[:, :size, :size]
        for index in range(0, len(self.convs), 2):
            dropout_key = None if key is None else jax.random.fold_in(key, index + 1)
            x = self.conv_dropout(self._block(index, x), dropout_key, dropout)
        return x.mean((1, 2)) if self.config.reduction == "average" else x.reshape(x.shape[0], -1)

    def _block(self, index: int, x: Float[Array, "b h w c"]) -> Float[Array, "b p q o"]:
        """Two convolutions and a pool, on a CPU in the faster form where there is one."""
        on_cpu = jax.default_backend() == "cpu"
        if on_cpu and not self.plain and has_fast_blocks(self.config):
            return fast_cpu_block(block_weights(head_weights(self), index), x)
        activation = _ACTIVATIONS[self.config.activation]

        def plain(x: Float[Array, "b h w c"]) -> Float[Array, "b p q o"]:
            for conv in self.convs[index : index + 2]:
                x = activation(conv(x))
            return max_pool_2x2(x)

        # an accelerator computes images again sooner than it fetches them from its memory
        return plain(x) if on_cpu else jax.checkpoint(plain)(x)

    def classify(
        self,
        features: Float[Array, "b f"],
        image_features: Float[Array, "b o"],
        *,
        key: Key[Array, ""] | None = None,
        dropout: Float[Array, ""] | None = None,
    ) -> Float[Array, " b"]:
        """The logits of the dense branch, joined with the image's features."""
        return self.score(self.last_layer(features, image_features, key=key, dropout=dropout))[:, 0]

    def last_layer(
        self,
        features: Float[Array, "b f"],
        image_features: Float[Array, "b o"],
        *,
        key: Key[Array, ""] | None = None,
        dropout: Float[Array, ""] | None = None,
    ) -> Float[Array, "b u"]:
        """What the logits are made of: alerts that are near in it are alike to the head."""
        activation = _ACTIVATIONS[self.config.activation]
        x = self.norm(features)
        for place in range(1, len(self.config.dense_units) + 1):
            if place > 1:
                dropout_key = key if key is None or place == 2 else jax.random.fold_in(key, place)
                x = self.dense_dropout(x, dropout_key, dropout)
            x = activation(getattr(self, f"dense_{place}")(x))
        return activation(self.join(jnp.concatenate([x, image_features], axis=-1)))


def head_weights(heads: nnx.Module) -> dict[str, Any]:
    """The weights (or their shapes) by name, such as "convs.0.depthwise", in a fixed order.

    The constants of the feature norm are among them, as "norm.centre" and so on.
    """
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(heads)))
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def identity_norm(inputs: Inputs = DEFAULT.inputs) -> dict[str, Array]:
    """The weights "norm.*" of a single head that takes its features as they are.

    Example:
        >>> sorted(identity_norm())
        ['norm.centre', 'norm.floor', 'norm.limit', 'norm.scale', 'norm.sentinel']
    """
    return {f"norm.{name}": array for name, array in head_weights(FeatureNorm(inputs)).items()}


def with_weights(heads: ModuleT, weights: Mapping[str, Array | np.ndarray]) -> ModuleT:
    """The same heads with other weights.

    Args:
        heads: a head or a bank; an abstract one will do.
        weights: as `head_weights` gives them.

    Raises:
        ValueError: names, shapes or dtypes are not those of `heads`; the message names them.
    """
    expected = head_weights(heads)
    check_weights(expected, weights)
    leaves = [jnp.asarray(weights[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(heads), leaves)


def check_weights(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compares names, shapes and dtypes of two sets of weights, arrays or their descriptions.

    Raises:
        ValueError: they differ; the message names the first weights that do.
    """
    if missing := expected.keys() - found.keys():
        raise ValueError(f"missing weights: {', '.join(sorted(missing))}")
    if surplus := found.keys() - expected.keys():
        raise ValueError(f"unknown weights: {', '.join(sorted(surplus))}")
    for name, wanted in expected.items():
        given = found[name]
        if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"weights {name}: {given.dtype}{list(given.shape)}, "
                f"not {wanted.dtype}{list(wanted.shape)}"
            )


def block_weights(weights: Mapping[str, Any], index: int) -> SeparableConvBlock:
    """The weights of convolutions `index` and `index` + 1."""
    names = ("depthwise", "pointwise", "bias")
    return SeparableConvBlock(
        *(weights[f"convs.{conv}.{name}"] for conv in (index, index + 1) for name in names)
    )


def has_fast_blocks(config: HeadConfig) -> bool:
    """Whether there is a faster form of the convolutions for CPUs."""
    kind = (config.convolution, config.kernel_size, config.activation)
    return kind == ("separable", 3, "relu")


def has_fast_form(config: HeadConfig) -> bool:
    """Whether there is a faster form of the whole branch: of the published kind of network."""
    kind = (config.reduction, len(config.filters))
    return has_fast_blocks(config) and kind == ("average", 4)
