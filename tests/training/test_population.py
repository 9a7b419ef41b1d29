"""Populations: members with values of their own, which come out as they would alone."""

import dataclasses
import functools
import threading

import chex
import jax
import numpy as np
import pytest
from rich.console import Console

from acai_jax.network.head_config import HeadConfig
from acai_jax.training import Config
from acai_jax.training.inputs import checked_split, dataset_facts
from acai_jax.training.members import members_of
from acai_jax.training.population import population_of
from acai_jax.training.progress import Display
from acai_jax.training.step import Programs, take

SMALL = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4, activation="tanh")


@pytest.fixture(scope="module")
def train_population(simulated_dataset, tmp_path_factory):
    """Members -> their population after two epochs, in turn or in one program."""
    facts = dataset_facts(simulated_dataset)
    read = functools.partial(
        checked_split, simulated_dataset, resident=True, progress=lambda _: None
    )
    splits = read("train"), read("validation")
    config = Config(model=SMALL, batch_size=16, segment_steps=4)
    ways = {together: Programs(SMALL, None, together=together) for together in (False, True)}

    def trained(members, together=False):
        with Display(Console(quiet=True)) as display:
            population = population_of(
                *(config, members, *splits, ways[together], facts.survey.inputs),
                *(tmp_path_factory.mktemp("population"), display, threading.Event()),
            )
            with jax.transfer_guard("disallow"):
                for _ in range(2):
                    population.epoch()
        return population

    return trained


def test_a_member_alone_is_the_member_of_a_population(train_population):
    (plain,) = members_of(Config(heads=("h",), max_epochs=5, patience=1))
    changes = (
        {"head": "v", "labels": ("v",)},
        {"seed": 5},
        {"learning_rate": 1e-2},
        {"dropout": (0.0, 0.5)},
        {"class_weights": "balanced", "positive_weight": 2.0},
        {"balance": 1.0},
        {"without": ("ra", "dec")},
        {"fold": (1, 3)},
    )
    members = [plain, *(dataclasses.replace(plain, **each) for each in changes)]
    together = train_population(members)
    kernels = {
        together.state.heads.weights["join.kernel"][i].tobytes() for i in range(len(members))
    }
    assert len(kernels) == len(members)  # each change makes another head
    for index in (2, 3, 8):
        alone = train_population([members[index]])
        for tree in ("heads", "best", "control"):
            one, other = (getattr(each.state, tree) for each in (alone, together))
            chex.assert_trees_all_equal(take(one, 0), take(other, index))


def test_members_of_one_program_drop_out_when_they_are_through(train_population, monkeypatch):
    (plain,) = members_of(Config(heads=("h",)))
    members = [dataclasses.replace(plain, balance=balance) for balance in (0.1, 0.1, 0.1, 4.0)]
    sizes, train = [], Programs.train

    def counted(self, state, settings, *rest):
        sizes.append(np.size(settings.step))
        return train(self, state, settings, *rest)

    monkeypatch.setattr(Programs, "train", counted)
    together = train_population(members, together=True)
    assert set(sizes) == {4, 1}
    in_turn = train_population(members)
    for name, weights in in_turn.state.heads.weights.items():
        found = together.state.heads.weights[name]
        np.testing.assert_allclose(found, weights, rtol=1e-3, atol=1e-4, err_msg=name)
