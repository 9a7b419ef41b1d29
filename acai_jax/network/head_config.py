"""The hyperparameters of a head, and the sizes of its feature maps; they need no JAX."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from acai_jax.classes import BESIDE_SCORES
from acai_jax.surveys import SURVEYS
from acai_jax.surveys.base import Inputs

_MAX_NAME: Final = 64  # of a class, as of a label


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Hyperparameters of one head: those that the paper tuned, at the published values.

    Attributes:
        dense_units: widths of the layers that read the features, one or more.
        dense_dropout: dropout rate between them.
        filters: output channels of each convolution; a 2x2 max pool follows every second one.
        convolution: depthwise separable or regular ones.
        kernel_size: pixels along each side of the convolutions' kernels.
        conv_dropout: dropout rate after each pool.
        reduction: average the last feature map over its pixels, or flatten it.
        head_units: width of the layer that joins features and image.
        activation: of every layer but the last, which gives a logit.

    Raises:
        ValueError: a count or a rate that makes no network.

    Source: Duev & van der Walt 2021 (arXiv:2111.12142), section 3.
    """

    dense_units: tuple[int, ...] = (64, 32)
    dense_dropout: float = 0.25
    filters: tuple[int, ...] = (16, 16, 32, 32)
    convolution: Literal["separable", "regular"] = "separable"
    kernel_size: int = 3
    conv_dropout: float = 0.25
    reduction: Literal["average", "flatten"] = "average"
    head_units: int = 16
    activation: Literal["relu", "elu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        blocks = len(self.filters) // 2
        largest = max(each.inputs.stamp for each in SURVEYS.values())
        if not self.filters or len(self.filters) % 2:
            raise ValueError(f"filters must be pairs: {self.filters}")
        if self.kernel_size < 1 or input_size(blocks, largest, self.kernel_size) is None:
            raise ValueError(
                f"no stamp has room for {len(self.filters)} convolutions of {self.kernel_size} "
                f"pixels, with a pool after every second one"
            )
        if not self.dense_units or min(*self.dense_units, *self.filters, self.head_units) < 1:
            raise ValueError(f"every layer needs a unit or more: {self}")
        if not all(0 <= rate < 1 for rate in (self.dense_dropout, self.conv_dropout)):
            raise ValueError(f"dropout rates lie in 0 <= rate < 1: {self}")


class Size(NamedTuple):
    """How large a head is.

    Attributes:
        weights: that are trained.
        multiplications: for one alert.
    """

    weights: int
    multiplications: int


def size_of(config: HeadConfig, inputs: Inputs) -> Size:
    """How large a head is that reads `inputs`.

    Example:
        >>> from acai_jax.surveys import DEFAULT
        >>> size_of(HeadConfig(), DEFAULT.inputs)
        Size(weights=7340, multiplications=2710556)

    Raises:
        ValueError: the stamps are too small for its convolutions.
    """
    kernel, weights, multiplications = config.kernel_size, 0, 0
    side = input_size(len(config.filters) // 2, inputs.stamp, kernel)
    if side is None:
        raise ValueError(f"stamps of {inputs.stamp} pixels are too small for {config}")
    channels = (len(inputs.channels), *config.filters)
    for place, (before, after) in enumerate(itertools.pairwise(channels)):
        side -= kernel - 1
        apart = config.convolution == "separable"
        taps = kernel**2 * before + before * after if apart else kernel**2 * before * after
        weights += taps + after
        multiplications += side**2 * taps
        side //= 1 + place % 2
    image = channels[-1] * (side**2 if config.reduction == "flatten" else 1)
    dense = (len(inputs.features), *config.dense_units)
    layers = [*itertools.pairwise(dense), (dense[-1] + image, config.head_units)]
    for before, after in (*layers, (config.head_units, 1)):
        weights += before * after + after
        multiplications += before * after
    return Size(weights, multiplications)


def input_size(blocks: int, stamp: int, kernel_size: int = 3) -> int | None:
    """Rows and columns of stamps that reach the output of `blocks` blocks; None for none.

    'Valid' convolutions and floor pooling drop the last rows and columns, so they need not be
    computed: 60 of 63 suffice for two blocks.

    Example:
        >>> input_size(2, stamp=63)
        60
    """
    size = output_size(blocks, stamp, kernel_size)
    if size < 1:
        return None
    for _ in range(blocks):
        size = 2 * size + 2 * (kernel_size - 1)
    return size


def output_size(blocks: int, stamp: int, kernel_size: int = 3) -> int:
    """Rows and columns of the feature map after `blocks` blocks."""
    size = stamp
    for _ in range(blocks):
        size = (size - 2 * (kernel_size - 1)) // 2
    return size


def check_class_names(names: Sequence[str]) -> None:
    """Raises a `ValueError` unless each name can be a column's and a file's, and none comes twice.

    Example:
        >>> check_class_names(["h", "h_version"])
        Traceback (most recent call last):
        ValueError: 'h_version' can be no class's name: it would be taken for the version of 'h'
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes must be different names, one or more: {tuple(names)}")
    for name in names:
        if not (isinstance(name, str) and name.strip(".") and name.isprintable()) or "/" in name:
            raise ValueError(f"{name!r:.80} can be no class's name: it can be no file's")
        if len(name) > _MAX_NAME:
            raise ValueError(f"{name!r:.80} can be no class's name: it is too long")
        for suffix, what in BESIDE_SCORES.items():
            if name.endswith(suffix):
                of = name.removesuffix(suffix)
                raise ValueError(
                    f"{name!r} can be no class's name: it would be taken for the {what} of {of!r}"
                )
