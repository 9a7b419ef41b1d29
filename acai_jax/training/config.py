"""The configuration of a training run: one frozen tree, every field defaulted and read."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import tyro

from acai_jax.classes import CLASSES
from acai_jax.network.head_config import HeadConfig, check_class_names

ClassWeights = Literal["none", "frequency", "fixed", "balanced"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes, drawn anew each time that an alert is trained on; none of them by default.

    Attributes:
        flips: mirror and turn the triplet: the sky has no up. All stamps of an alert alike.
        pixel_noise: largest standard deviation of noise that is added to a stamp's pixels, in units
            of its rms pixel.
        smear: up to this share of each pixel goes to its four neighbours, as in worse seeing;
            each stamp by itself.
        feature_noise: standard deviation of noise that is added to each feature, in units of its
            robust one; sentinels stay.
        feature_drop: share of features that are replaced by their median.

    Raises:
        ValueError: a value is impossible.

    Example:
        >>> Augment(flips=True, feature_drop=0.1).is_on, Augment().is_on
        (True, False)
    """

    flips: bool = False
    pixel_noise: float = 0.0
    smear: float = 0.0
    feature_noise: float = 0.0
    feature_drop: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (
            ("pixel_noise", 10),
            ("smear", 0.8),
            ("feature_noise", 10),
            ("feature_drop", 0.9),
        ):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} of augment is {value}; it must lie in 0 to {most}")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed at all."""
        return self != Augment()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained, on what, and how; the defaults follow the paper.

    Attributes:
        dataset: folder of one packaged dataset, or a folder above it.
        heads: names of the heads to train. A head's only positive label is its own name, unless
            `positives` says otherwise.
        positives: name of a head, then its positive labels: `--config.positives transient h o n`.
        init: checkpoint to extend. Trained heads replace those of the same name or are added; all
            others keep every byte.
        ensemble: heads trained for each class, from seeds that follow `seed`; their scores are
            averaged, and say how far they disagree.
        folds: parts of the training split's objects. With two or more, heads of each class are
            trained without each part in turn, and each training alert gets the score of those
            that have not seen its object, in `out_of_fold.parquet`.
        warm_start: start from the weights, and the feature norm, that `init` has for a head.
        seed: of weights, of the choice of negatives, of the order of the data, and of dropout.
        model: hyperparameters of the heads.
        augment: random changes of the alerts in training; by default none, as in the paper.
        balance: negatives per positive; those beyond are kept aside for round two.
        class_weights: weigh both classes alike ("none"), by their numbers ("frequency"), by
            `positive_weights` ("fixed"), or so that precision and recall become equal ("balanced",
            adjusted after every epoch).
        positive_weights: name of a head, and the weight of a positive in units of a negative's;
            for "fixed".
        without: features that the heads do not look at.
        feature_limit: features, or the logarithms of those with a long tail, are cut off at this
            many robust standard deviations; a sentinel becomes minus this.
        batch_size: alerts in a step of one head.
        learning_rate: of Adam with AMSGrad, at the start.
        plateau_patience: epochs without a better validation loss before the learning rate falls.
        plateau_factor: what it is then multiplied by.
        patience: epochs without a better validation loss before a head stops.
        max_epochs: a head stops after these in each round.
        round_two: train on with the dropped negatives that were misclassified.
        precision: of matrix products on accelerators, as JAX names it: less than float32 is faster.
            Whatever it is, the result is scored in float32.
        microbatch: alerts whose gradient is computed at once, the same gradient in less memory; by
            default what suits the device.
        segment_steps: steps in one call of the compiled program; a run can be interrupted between.
        memory_limit_gb: stamps beyond this are streamed from disk [GB]; by default a third of the
            device's memory.
        checkpoint_seconds: time between saved states [s].
        wandb: log to Weights & Biases too.

    Raises:
        ValueError: a value is impossible; the message names the field.

    Example:
        >>> Config(heads=("h", "fast"), positives={"fast": ("kilonova", "flare")}).labels("fast")
        ('kilonova', 'flare')

    Source: Duev & van der Walt 2021 (arXiv:2111.12142), section 3, and the authors' defaults.
    """

    dataset: Path = Path("datasets")
    heads: tuple[str, ...] = CLASSES
    positives: tyro.conf.UseAppendAction[dict[str, tuple[str, ...]]] = dataclasses.field(
        default_factory=dict
    )
    init: Path | None = None
    ensemble: int = 1
    folds: int = 1
    warm_start: bool = False
    seed: int = 0
    model: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    augment: Augment = dataclasses.field(default_factory=Augment)
    balance: float = 2.5
    class_weights: ClassWeights = "none"
    positive_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    without: tuple[str, ...] = ()
    feature_limit: float = 10.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    plateau_patience: int = 4
    plateau_factor: float = 0.5
    patience: int = 10
    max_epochs: int = 100
    round_two: bool = True
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    microbatch: int | None = None
    segment_steps: int = 50
    memory_limit_gb: float | None = None
    checkpoint_seconds: float = 60.0
    wandb: Literal["off", "offline", "online"] = "off"

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            least = _LEAST.get(name)
            if least is not None and value is not None and not value >= least:
                raise ValueError(f"{name} is {value}; it must be {least} or more")
        for name in ("balance", "feature_limit", "learning_rate"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}; it must be positive and finite")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(
                f"plateau_factor is {self.plateau_factor}; it must lie between 0 and 1"
            )
        if self.seed + self.members > 2**32:
            raise ValueError(f"seed is {self.seed}; the last one must be below 2**32")
        if self.microbatch is not None and self.batch_size % self.microbatch:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of {self.microbatch}")
        check_class_names(self.heads)
        if self.warm_start and self.init is None:
            raise ValueError("warm_start needs init, the checkpoint to start from")
        self._check_names("positives", self.positives)
        if empty := [name for name, labels in self.positives.items() if not labels]:
            raise ValueError(f"positives of {empty[0]}: no label")
        self._check_names("positive_weights", self.positive_weights)
        if (self.class_weights == "fixed") != bool(self.positive_weights):
            raise ValueError('positive_weights and class_weights "fixed" go together')
        if bad := [n for n, weight in self.positive_weights.items() if not weight > 0]:
            raise ValueError(f"positive_weights of {bad[0]} must be positive")
        if self.class_weights == "fixed" and (missing := {*self.heads} - {*self.positive_weights}):
            raise ValueError(f"positive_weights has no entry for {sorted(missing)}")

    def _check_names(self, field: str, names: dict[str, Any]) -> None:
        if unknown := set(names) - set(self.heads):
            raise ValueError(f"{field} names {sorted(unknown)}, not among heads {self.heads}")

    @property
    def members(self) -> int:
        """Heads of each class."""
        return self.ensemble * self.folds

    def labels(self, head: str) -> tuple[str, ...]:
        """The labels that are positives of a head."""
        return self.positives.get(head, (head,))

    def as_json(self) -> dict[str, Any]:
        """The whole tree, JSON-ready."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


_LEAST = {
    "seed": 0,
    "ensemble": 1,
    "folds": 1,
    "batch_size": 1,
    "plateau_patience": 1,
    "patience": 1,
    "max_epochs": 1,
    "microbatch": 1,
    "segment_steps": 1,
    "memory_limit_gb": 0,
    "checkpoint_seconds": 0,
}
