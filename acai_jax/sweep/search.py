"""What a sweep searches, and how: one frozen tree, every field defaulted and read."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from acai_jax.network.head_config import HeadConfig
from acai_jax.training.config import Config

Settings = Mapping[str, Any]
"""A trial's values, by the axis; axes that it lacks are as the configuration has them."""

_WITHOUT: Final = "without "  # names the axis of a feature
_OF_MODEL: Final = (
    *("kernel_size", "convolution", "reduction", "head_units", "activation"),
    *("dense_dropout", "conv_dropout"),
)
_RANGES: Final = ("dense_dropout", "conv_dropout", "learning_rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The values that trials may have: those that the paper tuned. One value fixes an axis.

    Attributes:
        dense_layers: layers that read the features.
        dense_units: width of the first of them; each further one has half of that before it.
        blocks: pairs of convolutions.
        filters: output channels in the first pair; each further one has twice that before it.
        kernel_size: pixels along each side of the convolutions' kernels.
        convolution: separable or regular ones.
        reduction: average the last feature map, or flatten it.
        head_units: width of the layer that joins features and image.
        activation: of every layer but the last.
        dense_dropout: lowest and highest rate between dense layers.
        conv_dropout: lowest and highest rate after pools.
        learning_rate: lowest and highest at the start; its logarithm is searched.
        optional_features: features each of which a trial may do without.

    Raises:
        ValueError: an axis has no values, or a range is upside down.
    """

    dense_layers: tuple[int, ...] = (1, 2, 3)
    dense_units: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 2, 3)
    filters: tuple[int, ...] = (8, 16, 32)
    kernel_size: tuple[int, ...] = (3, 5)
    convolution: tuple[Literal["separable", "regular"], ...] = ("separable", "regular")
    reduction: tuple[Literal["average", "flatten"], ...] = ("average", "flatten")
    head_units: tuple[int, ...] = (16, 32, 64)
    activation: tuple[Literal["relu", "elu", "tanh"], ...] = ("relu", "elu", "tanh")
    dense_dropout: tuple[float, float] = (0.0, 0.5)
    conv_dropout: tuple[float, float] = (0.0, 0.5)
    learning_rate: tuple[float, float] = (3e-4, 1e-2)
    optional_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in {**self.structural, **self.ranges}.items():
            if not values:
                raise ValueError(f"{name} of the space has no value")
        for name, (low, high) in self.ranges.items():
            if not 0 <= low <= high or (name == "learning_rate" and not low > 0):
                raise ValueError(f"{name} of the space is no range: {low} to {high}")
        if max(self.dense_dropout[1], self.conv_dropout[1]) >= 1:
            raise ValueError("dropout rates of the space must be below 1")
        for name, values in self.structural.items():
            if any(isinstance(value, int) and value < 1 for value in values):
                raise ValueError(f"{name} of the space must be 1 or more")

    @property
    def structural(self) -> dict[str, tuple[Any, ...]]:
        """Axes of which each value makes another program."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {n: v for n, v in named.items() if n not in (*_RANGES, "optional_features")}

    @property
    def masks(self) -> dict[str, tuple[bool, ...]]:
        """Axes of features that may be left out."""
        return {f"{_WITHOUT}{name}": (False, True) for name in self.optional_features}

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Axes of numbers, with their ends."""
        return {name: getattr(self, name) for name in _RANGES}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How a sweep goes.

    Each round asks for so many trials and halves them: all train for a few epochs, the better
    ones go on to the next rung, and so on up to `max_epochs` of the configuration. What they came
    to decides what the next round asks for.

    Attributes:
        grid: "original": the 27 points of the published sweep, in one round, in place of a search.
        space: what is searched.
        rounds: of the search.
        trials: of a round.
        structures: different structures in a round; the trials of one train as one population.
        first_epochs: of the first rung.
        keep: one in so many trials goes on to the next rung, which ends after so many times the
            epochs.
        seeds: heads of each class that are trained anew with the winner's values.
        at_once: most trials of one population; fewer take less memory on an accelerator.

    Raises:
        ValueError: a value is impossible; the message names the field.

    Example:
        >>> Search(first_epochs=3, keep=3).rungs(max_epochs=40)
        (3, 9, 27, 40)
    """

    grid: Literal["original"] | None = None
    space: Space = dataclasses.field(default_factory=Space)
    rounds: int = 3
    trials: int = 27
    structures: int = 4
    first_epochs: int = 3
    keep: int = 3
    seeds: int = 5
    at_once: int = 64

    def __post_init__(self) -> None:
        least = {"keep": 2}
        for name in ("rounds", "trials", "structures", "first_epochs", "keep", "seeds", "at_once"):
            if getattr(self, name) < least.get(name, 1):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more")

    def rungs(self, max_epochs: int) -> tuple[int, ...]:
        """The epochs after which trials are compared; the last ones end with `max_epochs`."""
        found, epochs = [], self.first_epochs
        while epochs < max_epochs:
            found.append(epochs)
            epochs *= self.keep
        return (*found, max_epochs)

    def kept(self, trials: int) -> int:
        """How many of so many trials go on from a rung."""
        return -(-trials // self.keep)

    def as_json(self) -> dict[str, Any]:
        """The whole tree, JSON-ready."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def original_grid() -> list[Settings]:
    """The points of the published sweep: widths of dense layers, convolutions and the last layer.

    Source: the sweep in the authors' repository, https://github.com/dmitryduev/acai.

    Example:
        >>> len(original_grid()), original_grid()[0]["filters"]
        (27, 16)
    """
    widths = itertools.product((64, 128, 256), (16, 32, 64), (16, 32, 64))
    names = ("dense_units", "filters", "head_units")
    return [
        {"dense_layers": 2, "blocks": 2, **dict(zip(names, point, strict=True))} for point in widths
    ]


def config_of(config: Config, settings: Settings) -> Config:
    """The configuration that a trial trains by.

    Raises:
        ValueError: there is no such network.

    Example:
        >>> config_of(Config(), {"filters": 8, "blocks": 2, "without ra": True}).model.filters
        (8, 8, 16, 16)
    """
    model = {name: settings[name] for name in _OF_MODEL if name in settings}
    if "dense_units" in settings:
        widths = (settings["dense_units"] >> layer for layer in range(settings["dense_layers"]))
        model["dense_units"] = tuple(max(1, width) for width in widths)
    if "filters" in settings:
        blocks = range(settings["blocks"])
        model["filters"] = tuple(settings["filters"] << b for b in blocks for _ in range(2))
    left_out = (axis.removeprefix(_WITHOUT) for axis, out in settings.items() if out is True)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model),
        learning_rate=settings.get("learning_rate", config.learning_rate),
        without=tuple(dict.fromkeys((*config.without, *left_out))),
    )


def structure_of(config: Config) -> HeadConfig:
    """What trials must have in common to train as one population."""
    return dataclasses.replace(config.model, dense_dropout=0.0, conv_dropout=0.0)
