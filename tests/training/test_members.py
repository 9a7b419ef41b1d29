"""The members of a run: each has its own values, whatever is beside it."""

import dataclasses

import pytest

from acai_jax.head_config import HeadConfig
from acai_jax.training import Config
from acai_jax.training.members import members_of


def test_a_member_has_the_values_of_its_head():
    config = Config(
        heads=("h", "fast"),
        positives={"fast": ("kilonova", "flare")},
        class_weights="fixed",
        positive_weights={"h": 2.0, "fast": 0.5},
        model=HeadConfig(dense_dropout=0.4, conv_dropout=0.1),
        seed=7,
    )
    first, second = members_of(config)
    assert (first.head, first.labels, first.positive_weight) == ("h", ("h",), 2.0)
    assert (second.head, second.labels) == ("fast", ("kilonova", "flare"))
    assert second.positive_weight == 0.5
    assert (second.dropout, second.seed) == ((0.4, 0.1), 7)
    for name in ("balance", "learning_rate", "patience", "plateau_patience", "max_epochs"):
        assert getattr(second, name) == getattr(config, name)


def test_other_heads_change_no_member():
    (alone,) = members_of(Config(heads=("v",)))
    assert alone == members_of(Config(heads=("h", "v", "b")))[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        alone.seed = 1
