"""The members of a run: the heads that are trained, each with settings of its own.

Nothing that decides how a member comes out depends on the members beside it.
"""

import dataclasses
from collections.abc import Iterable

from acai_jax.errors import TrainingError
from acai_jax.surveys.base import Survey
from acai_jax.training.config import ClassWeights, Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One head in training, and all that decides how it comes out, beside the data.

    Attributes:
        name: of the member: the head's, and a number if the head has several members.
        head: the class that it learns.
        labels: those that are its positives.
        seed: of its weights, its choice of negatives, the order of its data, and its dropout.
        balance: negatives per positive.
        class_weights: how its classes are weighed; see `Config`.
        positive_weight: weight of a positive, in units of a negative's, before it is adjusted.
        learning_rate: at the start.
        plateau_patience: epochs without a better loss before the learning rate falls.
        plateau_factor: what it is then multiplied by.
        patience: epochs without a better loss before the member stops.
        max_epochs: it stops after these in each round.
        without: features that it does not look at.
        dropout: rates in the dense and the convolutional branch.
        fold: of the training split's objects, the part that it does not train on, and how many
            parts there are; None where it trains on all.

    Example:
        >>> from acai_jax.training.config import Config
        >>> [(member.head, member.labels) for member in members_of(Config(heads=("h", "v")))]
        [('h', ('h',)), ('v', ('v',))]
    """

    name: str
    head: str
    labels: tuple[str, ...]
    seed: int
    balance: float
    class_weights: ClassWeights
    positive_weight: float
    learning_rate: float
    plateau_patience: int
    plateau_factor: float
    patience: int
    max_epochs: int
    without: tuple[str, ...]
    dropout: tuple[float, float]
    fold: tuple[int, int] | None = None


def check_features(names: Iterable[str], survey: Survey) -> None:
    """Raises a `TrainingError` unless heads can do without these features."""
    if unknown := [name for name in names if name not in survey.inputs.features]:
        raise TrainingError(f"without: alerts of {survey.title} have no feature {unknown[0]}")


def members_of(config: Config) -> tuple[Member, ...]:
    """The members of each head of the configuration, in its order.

    The first member of an ensemble is the head that would be trained without the others. With
    folds, each member of the ensemble becomes as many, and each of these leaves out another fold.
    """
    return tuple(
        Member(
            name=f"{head}-{number}" if config.members > 1 else head,
            head=head,
            labels=config.labels(head),
            seed=config.seed + number,
            balance=config.balance,
            class_weights=config.class_weights,
            positive_weight=config.positive_weights.get(head, 1.0),
            learning_rate=config.learning_rate,
            plateau_patience=config.plateau_patience,
            plateau_factor=config.plateau_factor,
            patience=config.patience,
            max_epochs=config.max_epochs,
            without=config.without,
            dropout=(config.model.dense_dropout, config.model.conv_dropout),
            fold=(number % config.folds, config.folds) if config.folds > 1 else None,
        )
        for head in config.heads
        for number in range(config.members)
    )
