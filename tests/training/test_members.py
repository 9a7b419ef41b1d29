"""The members of a run: each has its own values, whatever is beside it."""

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
