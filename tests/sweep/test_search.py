"""What trials may be, and what round after round asks for."""

import math

import numpy as np
import pytest

from acai_jax.network.head_config import HeadConfig
from acai_jax.sweep.importance import importances
from acai_jax.sweep.sampler import ask
from acai_jax.sweep.search import Search, Space, config_of, original_grid, structure_of
from acai_jax.sweep.trials import Result, Trial
from acai_jax.training import Config

SEARCH = Search(trials=12, structures=3, space=Space(optional_features=("ra",)))


def fits(settings):
    try:
        config_of(Config(), settings)
    except ValueError:
        return False
    return True


def judged(settings, number, round_=0):
    """A trial whose loss is known, and depends on two of its values."""
    loss = abs(math.log(settings["learning_rate"] / 3e-3)) + (settings["activation"] == "tanh")
    return Trial(number, round_, settings, (Result(0, 3, {"h": loss}),))


def test_trials_of_few_structures_that_differ_in_everything_else():
    asked = ask(SEARCH, 0, 0, [], fits)
    assert len(asked) == 12
    assert len({structure_of(config_of(Config(), each)) for each in asked}) == 3
    assert len({each["learning_rate"] for each in asked}) == 12
    assert {each["without ra"] for each in asked} == {True, False}
    for settings in asked:
        config = config_of(Config(), settings)
        assert config.model.dense_dropout == settings["dense_dropout"]
        assert config.without == (("ra",) if settings["without ra"] else ())


def test_what_is_asked_follows_from_seed_round_and_trials_alone():
    first = ask(SEARCH, 0, 0, [], fits)
    assert ask(SEARCH, 0, 0, [], fits) == first
    assert ask(SEARCH, 1, 0, [], fits) != first
    trials = [judged(settings, number) for number, settings in enumerate(first)]
    second = ask(SEARCH, 0, 1, trials, fits)
    assert ask(SEARCH, 0, 1, trials, fits) == second
    assert second != ask(SEARCH, 0, 1, trials[::-1][:6], fits)


def test_later_rounds_ask_for_what_earlier_ones_found_good():
    trials = []
    for round_ in range(4):
        asked = ask(SEARCH, 0, round_, trials, fits)
        trials += [judged(s, len(trials) + n, round_) for n, s in enumerate(asked)]
    means = [sum(t.loss for t in trials if t.round == r) / 12 for r in range(4)]
    assert means[3] < 0.7 * means[0]


def test_what_decides_is_found_out():
    rng = np.random.default_rng(0)
    settings = [
        {
            **point,
            "learning_rate": float(rng.uniform(1e-4, 1e-2)),
            "conv_dropout": float(rng.random()),
        }
        for point in original_grid()
    ]
    losses = [each["filters"] * (each["learning_rate"] + 1e-3) for each in settings]
    results = [(Result(0, 3, {"h": loss}),) for loss in losses]
    trials = [Trial(n, 0, *each) for n, each in enumerate(zip(settings, results, strict=True))]
    found = importances(trials)
    assert set(found) == {"filters", "head_units", "dense_units", "learning_rate", "conv_dropout"}
    assert set(list(found)[:2]) == {"filters", "learning_rate"}
    assert 0.3 < sum(found.values()) < 1.2
    assert importances(trials[:1]) == {}


def test_a_small_space_is_tried_once_and_no_more():
    fixed = {"blocks": (1,), "filters": (2,), "kernel_size": (3,), "reduction": ("average",)}
    rates = {"dense_dropout": (0.1, 0.1), "conv_dropout": (0.0, 0.0), "learning_rate": (1e-3, 1e-3)}
    space = Space(
        **fixed,
        **rates,
        dense_layers=(1, 2),
        dense_units=(8,),
        convolution=("separable",),
        head_units=(4, 8),
        activation=("relu",),
    )
    search = Search(space=space, trials=12)
    asked = ask(search, 0, 0, [], fits)
    assert {(each["dense_layers"], each["head_units"]) for each in asked} == {
        *((1, 4), (1, 8), (2, 4), (2, 8))
    }
    assert len(asked) == 4
    assert ask(search, 0, 1, [Trial(n, 0, s) for n, s in enumerate(asked)], fits) == []


def test_values_that_make_no_network_are_not_asked_for():
    space = Space(blocks=(1, 3), kernel_size=(3, 13))  # 3 blocks of 13 pixels leave nothing
    asked = ask(Search(space=space, structures=12, trials=12), 0, 0, [], fits)
    assert len(asked) == 12
    assert {(each["blocks"], each["kernel_size"]) for each in asked} == {(1, 3), (1, 13), (3, 3)}


def test_the_original_grid_has_the_published_network_in_it():
    models = [config_of(Config(), settings).model for settings in original_grid()]
    assert len(set(models)) == 27
    assert HeadConfig() in models


def test_rungs_end_with_the_last_epoch():
    assert Search(first_epochs=3, keep=3).rungs(27) == (3, 9, 27)
    assert Search(first_epochs=3, keep=2).rungs(5) == (3, 5)
    assert Search(first_epochs=3).rungs(3) == (3,)
    assert [Search(keep=3).kept(count) for count in (27, 9, 3, 1, 4)] == [9, 3, 1, 1, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Space(filters=()),
        lambda: Space(learning_rate=(1e-2, 1e-3)),
        lambda: Space(learning_rate=(0.0, 1e-3)),
        lambda: Space(conv_dropout=(0.0, 1.0)),
        lambda: Space(blocks=(0, 1)),
        lambda: Search(keep=1),
        lambda: Search(trials=0),
    ],
)
def test_impossible_searches_are_refused(make):
    with pytest.raises(ValueError, match=r"of the space|it must be more"):
        make()
