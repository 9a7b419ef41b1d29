"""A bank of heads is the tree of one head with a leading axis k.

Slicing the leading axis gives one head, setting a slice replaces one, concatenating adds one: no
other head's numbers change.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int, Key

from acai_jax.errors import EvaluationError
from acai_jax.network.head import Head, block_weights, has_fast_form, head_weights
from acai_jax.network.head_config import HeadConfig, check_class_names
from acai_jax.network.separable import fast_cpu_features
from acai_jax.surveys import DEFAULT, Preset
from acai_jax.surveys.base import Inputs, Survey
from acai_jax.text import printable

_ROWS: Final = 8  # of a matrix product on a CPU

Provenance = Mapping[str, Any]
"""Where a head comes from: JSON-ready facts. "version" names the model in score tables; "positives"
are the labels that it was trained to find, where it has others than its own name; "temperature" is
what its logits are divided by before they become scores, where it has been calibrated."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class HeadBank:
    """Heads with their names and where they come from.

    Attributes:
        heads: with a leading axis; those of one class side by side.
        classes: k names, such as ("h", "o", "n", "v", "b").
        provenance: per class, where it comes from.
        preset: the preprocessing that the heads were trained with.
        survey: whose alerts the heads read; no others are scored.
        members: heads of each class; more than one are an ensemble.
    """

    heads: Head
    classes: tuple[str, ...]
    provenance: Mapping[str, Provenance]
    preset: Preset = "acai"
    survey: Survey = DEFAULT
    members: int = 1

    def __post_init__(self) -> None:
        if self.heads.inputs != self.survey.inputs:
            raise ValueError(f"the heads read other inputs than alerts of {self.survey.title} have")
        if self.preset not in self.survey.recipes:
            raise ValueError(f"alerts of {self.survey.title} have no preset {self.preset!r}")
        count = head_weights(self.heads)["score.bias"].shape[0]
        if len(self.classes) * self.members != count:
            each = f", {self.members} of each" if self.members > 1 else ""
            raise ValueError(f"{count} heads for {len(self.classes)} classes{each}: {self.classes}")
        check_class_names(self.classes)
        if missing := [c for c in self.classes if "version" not in self.provenance.get(c, {})]:
            raise ValueError(f"no version for {missing}")
        for name in self.classes:
            version = self.provenance[name]["version"]
            if not (isinstance(version, str) and version.isprintable()):
                raise ValueError(f"version of {name} is no text of one line: {version!r:.80}")
        for name, value in zip(self.classes, self.temperatures, strict=True):
            if not 0 < value < np.inf:
                raise ValueError(f"temperature of {name} is {value}, not a positive number")

    def __repr__(self) -> str:
        each = f", {self.members} of each" if self.members > 1 else ""
        heads = ", ".join(f"{name} {printable(of)}" for name, of in self.versions.items())
        return f"HeadBank({heads}{each}; {self.survey.title}, preset {self.preset})"

    @property
    def versions(self) -> dict[str, str]:
        """The version of each class's head, by class, in their order."""
        return {name: self.provenance[name]["version"] for name in self.classes}

    @property
    def temperatures(self) -> Float32[np.ndarray, " k"]:
        """What each head's logits are divided by before they become scores; 1 unless calibrated."""
        return np.array(
            [self.provenance[c].get("temperature", 1) for c in self.classes], np.float32
        )

    def places(self, name: str) -> range:
        """Where the heads of a class stand."""
        start = self.classes.index(name) * self.members
        return range(start, start + self.members)


def create_heads(
    config: HeadConfig, count: int, key: Key[Array, ""], inputs: Inputs = DEFAULT.inputs
) -> Head:
    """`count` heads with independent random weights, as one tree with a leading axis.

    A head's weights depend on its place and the key only, not on `count`. They read `inputs`.

    Example:
        >>> heads = create_heads(HeadConfig(), 5, jax.random.key(0))
        >>> heads.score.kernel.shape
        (5, 16, 1)
    """
    # run once: XLA takes seconds to optimise what runs for microseconds
    options = {"xla_backend_optimization_level": 0}
    create = jax.jit(
        functools.partial(_create_heads, config, count, inputs=inputs), compiler_options=options
    )
    return create(key)


def _create_heads(
    config: HeadConfig,
    count: int,
    key: Key[Array, ""],
    precision: str = "float32",
    inputs: Inputs = DEFAULT.inputs,
) -> Head:
    def create(index: Int[Array, ""]) -> Head:
        rngs = nnx.Rngs(jax.random.fold_in(key, index))
        return Head(config, rngs=rngs, precision=precision, inputs=inputs)

    return jax.vmap(create)(jnp.arange(count))


def apply_heads(
    heads: Head, features: Float[Array, "b f"], triplets: Float[Array, "b h w c"]
) -> Float[Array, "b k"]:
    """Logits of every head for every alert, without dropout.

    On the CPU the published kind of network runs in a faster form, equal to rounding; an alert's
    logits are then the same bits, however many alerts there are and wherever it stands.

    Args:
        heads: a bank of k heads.
        features: raw features, in the order of the heads' inputs; each head has its own norm.
        triplets: normalised stamps.

    Example:
        >>> heads = create_heads(HeadConfig(), 5, jax.random.key(0))
        >>> apply_heads(heads, jnp.zeros((2, 25)), jnp.zeros((2, 63, 63, 3))).shape
        (2, 5)
    """
    if not heads.plain and jax.default_backend() == "cpu" and has_fast_form(heads.config):
        weights = head_weights(heads)
        blocks = (block_weights(weights, 0), block_weights(weights, 2))
        image_features = fast_cpu_features(blocks, triplets)
        return _classify(heads, features, image_features.swapaxes(0, 1))
    return jax.vmap(Head.__call__, in_axes=(0, None, None), out_axes=1)(heads, features, triplets)


def _classify(
    heads: Head, features: Float[Array, "b f"], image_features: Float[Array, "b k o"]
) -> Float[Array, "b k"]:
    """Logits, always the same number of rows at a time.

    XLA multiplies matrices of 1, of some and of many rows by different programs, whose sums differ
    in the last bits.
    """
    count = len(features)

    def pieces(array: Array) -> Array:
        padding = [(0, -count % _ROWS), *[(0, 0)] * (array.ndim - 1)]
        return jnp.pad(array, padding).reshape(-1, _ROWS, *array.shape[1:])

    def classify(piece: tuple[Array, Array]) -> Array:
        return jax.vmap(Head.classify, in_axes=(0, None, 1), out_axes=1)(heads, *piece)

    logits = jax.lax.map(classify, (pieces(features), pieces(image_features)))
    return logits.reshape(-1, logits.shape[-1])[:count]


def last_layers(
    heads: Head, features: Float[Array, "b f"], triplets: Float[Array, "b h w c"]
) -> Float[Array, "b u"]:
    """What the logits of all heads are made of, side by side: a space in which like is near like.

    Args:
        heads: as for `apply_heads`.
        features: as for `apply_heads`.
        triplets: as for `apply_heads`.

    Example:
        >>> heads = create_heads(HeadConfig(), 5, jax.random.key(0))
        >>> last_layers(heads, jnp.zeros((2, 25)), jnp.zeros((2, 63, 63, 3))).shape
        (2, 80)
    """

    def of_head(head: Head) -> Float[Array, "b u"]:
        return head.last_layer(features, head.image_features(triplets))

    return jax.vmap(of_head, out_axes=1)(heads).reshape(len(features), -1)


def stack_heads(heads: Sequence[Head]) -> Head:
    """A bank of single heads of one kind, in the order given."""
    return _arranged(lambda *leaves: np.stack(leaves), *heads)


def _arranged(arrange: Callable[..., np.ndarray], *heads: Head) -> Head:
    """Heads whose weights are those of others, moved by numpy: JAX would compile each shape."""

    def arranged(*leaves: Array) -> Array:
        return jnp.asarray(arrange(*map(np.asarray, leaves)))

    return jax.tree.map(arranged, *heads)


def abstract_heads(
    config: HeadConfig, count: int, precision: str = "float32", inputs: Inputs = DEFAULT.inputs
) -> Head:
    """A bank that holds shapes and dtypes in place of numbers; see `Head`."""
    # a copy: modules can be changed
    return jax.tree.map(lambda leaf: leaf, _abstract_heads(config, count, precision, inputs))


@functools.cache
def _abstract_heads(config: HeadConfig, count: int, precision: str, inputs: Inputs) -> Head:
    return jax.eval_shape(
        lambda: _create_heads(config, count, jax.random.key(0), precision, inputs)
    )


def take_head(heads: Head, index: int) -> Head:
    """Head `index` of a bank, as a single head without the leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], heads)


def choose_heads(bank: HeadBank, names: Sequence[str]) -> HeadBank:
    """Some heads of a bank.

    Raises:
        EvaluationError: there is no such head.
    """
    for name in names:
        if name not in bank.classes:
            known = ", ".join(bank.classes)
            raise EvaluationError(f"no head {name!r} in the model; there are: {known}")
    places = np.array([place for name in names for place in bank.places(name)])
    heads = _arranged(lambda leaf: leaf[places], bank.heads)
    provenance = {name: bank.provenance[name] for name in names}
    return dataclasses.replace(bank, heads=heads, classes=tuple(names), provenance=provenance)


def merge_banks(bank: HeadBank, other: HeadBank) -> HeadBank:
    """A bank with the heads of another in the place of those of the same name, or after them.

    Every head keeps its bytes.

    Raises:
        ValueError: the banks differ in hyperparameters, preset, survey or members of a class.
    """
    if bank.heads.config != other.heads.config:
        raise ValueError(
            f"heads of one bank share their config: {bank.heads.config} != {other.heads.config}"
        )
    if (bank.preset, bank.survey.name) != (other.preset, other.survey.name):
        raise ValueError("heads of one bank share their preset and survey")
    if bank.members != other.members:
        raise ValueError(f"{bank.members} heads of each class do not go with {other.members}")
    places = {name: place for place, name in enumerate(bank.classes + other.classes)}
    first = np.array(list(places.values()))[:, None] * bank.members
    order = (first + np.arange(bank.members)).ravel()
    heads = _arranged(lambda *two: np.concatenate(two)[order], bank.heads, other.heads)
    provenance = {**bank.provenance, **other.provenance}
    return dataclasses.replace(bank, heads=heads, classes=tuple(places), provenance=provenance)
