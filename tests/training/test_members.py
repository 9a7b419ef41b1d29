"""The members of a run: each has its own values, whatever is beside it."""

import dataclasses

from acai_jax.network.head_config import HeadConfig
from acai_jax.training import Config
from acai_jax.training.members import members_of


def test_a_member_has_the_values_of_its_head():
    config = Config(
        heads=("h", "fast"),
        positives={"fast": ("kilonova", "flare")},
        class_weights="fixed",
        positive_weights={"h": 2.0, "fast": 0.5},
        model=HeadConfig(dense_dropout=0.4, conv_dropout=0.1),
    )
    first, second = members_of(config)
    assert (first.head, first.labels, first.positive_weight) == ("h", ("h",), 2.0)
    assert (second.labels, second.positive_weight) == (("kilonova", "flare"), 0.5)
    assert second.dropout == (0.4, 0.1)


def test_other_heads_change_no_member():
    (alone,) = members_of(Config(heads=("v",)))
    assert alone == members_of(Config(heads=("h", "v", "b")))[1]


def test_members_of_an_ensemble_differ_in_their_seeds_and_the_first_is_the_head_alone():
    config = Config(heads=("h", "v"), ensemble=3, seed=7)
    members = members_of(config)
    assert [member.name for member in members] == ["h-0", "h-1", "h-2", "v-0", "v-1", "v-2"]
    assert [member.seed for member in members] == [7, 8, 9] * 2
    (alone,) = members_of(Config(heads=("v",), seed=7))
    assert dataclasses.replace(members[3], name="v") == alone
