"""The compiled programs: masks, microbatches, independence, and one compilation."""

import functools
import os
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from acai_jax.network.head import with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.training import step
from acai_jax.training.config import Augment
from acai_jax.training.step import Batches, Data, Programs, Settings, put, take

# not relu: the fast form takes twice as long to compile, and is tested with the network
SMALL = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4, activation="tanh")
COUNT = 64


@pytest.fixture(scope="module")
def data() -> Data:
    """Two classes that differ in features and in pixels; targets of three heads."""
    rng = np.random.default_rng(0)
    targets = rng.random((3, COUNT)) < 0.4
    features = rng.normal(0, 1, (COUNT, 25)).astype(np.float32)
    features[:, 0] += targets[0]
    triplets = rng.normal(0, 1 / 63, (COUNT, 63, 63, 3)).astype(np.float32)
    triplets[:, 30:33, 30:33] += 0.3 * targets[1][:, None, None, None]
    return Data(features, targets, jax.device_put(triplets))


@functools.cache
def programs_of(microbatch=4, together=None) -> Programs:
    """Compiled once for all tests that run as many steps of as many alerts."""
    return Programs(SMALL, microbatch, together=together)


def first_state(names="hon", seed=0):
    keys = np.stack([step.head_key(seed, name) for name in names])
    return keys, step.start_state(step.start_weights(SMALL, keys))


def settings_of(key, *, epoch=0, number=0, rate=1e-3, weights=(1.0, 1.0), dropout=(0.25, 0.25)):
    return Settings(
        key,
        np.array(epoch, np.int32),
        np.array(number, np.int32),
        np.array(rate, np.float32),
        np.array(weights, np.float32),
        np.array(dropout, np.float32),
    )


def plan(steps, batch=8, seed=1):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.choice(COUNT, batch, replace=False) for _ in range(steps)])
    return rows.astype(np.int32)


def batches_of(rows):
    return Batches(rows, rows)


def train_alone(programs, state, key, rows, data, head, **settings):
    one = data._replace(targets=data.targets[head])
    return programs.train(
        take(state, head), settings_of(key, **settings), batches_of(rows), one, None
    )


def train_together(programs, state, keys, rows, data, settings=None):
    stacked = jax.tree.map(
        lambda *leaves: np.stack(leaves), *(settings or [settings_of(key) for key in keys])
    )
    axes = Data(None, 0, None)
    return programs.train(state, stacked, batches_of(rows), data, axes)


def test_a_step_follows_the_mean_gradient(data):
    keys, state = first_state()
    rows = plan(3)
    programs = programs_of()
    found, tally = train_alone(
        programs, state, keys[0], rows, data, 0, weights=(0.5, 2.0), dropout=(0, 0)
    )
    one = take(state, 0)

    def loss(weights, features, triplets, targets):
        logits = with_weights(programs._head, weights | one.norm)(features, triplets)
        scores = jax.nn.sigmoid(logits)
        right = jnp.where(targets, scores, 1 - scores)
        return (-jnp.log(right) * jnp.where(targets, 2.0, 0.5)).mean()

    @jax.jit
    def next_step(weights, moments, *batch):
        value, gradients = jax.value_and_grad(loss)(weights, *batch)
        updates, moments = step.adam().update(gradients, moments)
        return optax.apply_updates(weights, optax.tree.scale(1e-3, updates)), moments, value

    weights, moments, total = one.weights, one.optimizer, 0.0
    triplets = np.asarray(data.triplets)
    for batch in rows:
        arrays = data.features[batch], triplets[batch], data.targets[0][batch]
        weights, moments, value = next_step(weights, moments, *arrays)
        total += float(value) * len(batch)
    chex.assert_trees_all_close(found.weights, weights, atol=1e-5, rtol=1e-4)
    chex.assert_trees_all_equal(found.norm, one.norm)
    assert float(tally.loss) == pytest.approx(total, rel=1e-4)
    assert int(tally.alerts) == rows.size


def test_adam_is_that_of_keras_over_gradients_that_grow_and_shrink():
    import keras

    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.geomspace(10, 0.1, 150), np.geomspace(0.1, 30, 150)])
    gradients = (rng.normal(size=(300, 5)) * sizes[:, None]).astype(np.float32)
    variable = keras.Variable(np.zeros(5, np.float32))
    peer = keras.optimizers.Adam(0.01, amsgrad=True, epsilon=1e-7)
    weights = np.zeros(5, np.float32)
    state = step.adam().init(weights)
    for gradient in gradients:
        peer.apply([jnp.asarray(gradient)], [variable])
        update, state = step.adam().update(gradient, state)
        weights = weights + 0.01 * update
        np.testing.assert_allclose(weights, variable.value, atol=1e-5, rtol=1e-4)
    assert np.abs(weights).max() > 0.1


def test_microbatches_give_the_gradient_of_the_batch(data):
    keys, state = first_state()
    rows = plan(3)
    found = [
        train_alone(programs_of(size), state, keys[0], rows, data, 0, dropout=(0, 0))
        for size in (1, 4)
    ]
    chex.assert_trees_all_close(*found, atol=1e-5, rtol=1e-4)


def test_fillers_and_steps_not_taken_change_nothing(data):
    keys, state = first_state()
    programs = programs_of()
    rows = plan(3)
    rows[2, 6:] = -1
    nothing = np.full((3, 8), -1, np.int32)
    train = functools.partial(train_alone, programs, state, keys[0], data=data, head=0)
    short, tally = train(rows)
    long, long_tally = train(np.concatenate([rows, nothing]))
    chex.assert_trees_all_equal((short, tally), (long, long_tally))
    assert int(tally.alerts) == 22
    kept, empty = train(nothing)
    chex.assert_trees_all_equal(kept, take(state, 0))
    assert (float(empty.loss), int(empty.alerts)) == (0.0, 0)
    # what a filler's slot holds makes no difference
    spoilt = data._replace(triplets=data.triplets.at[-1].set(7.0), features=data.features.copy())
    spoilt.features[-1] = 7.0
    rows[rows == COUNT - 1] = 0
    chex.assert_trees_all_equal(train(rows, data=spoilt), train(rows, data=data))


def test_heads_that_have_stopped_keep_their_bits_while_others_train(data):
    keys, state = first_state()
    rows = np.stack([plan(3), np.full((3, 8), -1, np.int32), plan(3, seed=3)])
    found, tally = train_together(programs_of(together=True), state, keys, rows, data)
    chex.assert_trees_all_equal(take(found, 1), take(state, 1))
    assert np.asarray(tally.alerts).tolist() == [24, 0, 24]
    for head in (0, 2):
        assert not np.array_equal(
            found.weights["join.kernel"][head], state.weights["join.kernel"][head]
        )


def test_a_head_alone_is_the_head_in_the_bank_after_many_steps(data):
    keys, state = first_state()
    rows = np.stack([plan(60, seed=seed) for seed in range(3)])
    segments = np.split(rows, 20, axis=1)  # of as many steps as other tests run
    bank = state
    for number, some in enumerate(segments):
        settings = [settings_of(key, number=3 * number) for key in keys]
        bank, _ = train_together(programs_of(together=True), bank, keys, some, data, settings)
    for head in range(3):
        alone = take(state, head)
        for number, some in enumerate(segments):
            one = data._replace(targets=data.targets[head])
            settings = settings_of(keys[head], number=3 * number)
            alone, _ = programs_of().train(alone, settings, batches_of(some[head]), one, None)
        chex.assert_trees_all_close(alone.weights, take(bank, head).weights, atol=1e-5, rtol=0)
        moved = np.abs(alone.weights["join.kernel"] - state.weights["join.kernel"][head]).max()
        assert moved > 0.01


def test_nothing_of_one_head_reaches_another(data):
    keys, state = first_state()
    rows = np.stack([plan(3, seed=seed) for seed in range(3)])
    programs = programs_of(together=True)
    before, _ = train_together(programs, state, keys, rows, data)
    disturbed = data._replace(targets=data.targets.copy())
    disturbed.targets[1] = ~disturbed.targets[1]
    other_rows = rows.copy()
    other_rows[1, 1:] = -1
    settings = [settings_of(key) for key in keys]
    settings[1] = settings_of(keys[1], rate=0.1, weights=(0.1, 9.0), dropout=(0.5, 0.5))
    other_state = jax.tree.map(np.array, state)
    other_state.weights["join.kernel"][1] = np.nan
    after, _ = train_together(programs, other_state, keys, other_rows, disturbed, settings)
    for head in (0, 2):
        chex.assert_trees_all_equal(take(before, head), take(after, head))


def test_a_head_starts_the_same_whatever_is_beside_it():
    _, three = first_state("hon")
    _, other = first_state("vo")
    _, seeded = first_state("hon", seed=1)
    chex.assert_trees_all_equal(take(three, 1), take(other, 1))
    assert not np.array_equal(three.weights["join.kernel"][0], three.weights["join.kernel"][1])
    assert not np.array_equal(three.weights["join.kernel"], seeded.weights["join.kernel"])


def test_dropout_follows_epoch_and_step(data):
    keys, state = first_state()
    programs, rows = programs_of(), plan(3)
    train = functools.partial(train_alone, programs, state, keys[0], rows, data, 0)
    base, _ = train()
    chex.assert_trees_all_equal(base, train()[0])
    for change in ({"epoch": 1}, {"number": 1}, {"dropout": (0.5, 0.25)}, {"dropout": (0.25, 0.5)}):
        other, _ = train(**change)
        assert not np.array_equal(base.weights["join.kernel"], other.weights["join.kernel"])
    # a call of one step and a call of two are one call of three
    left, right = rows.copy(), np.roll(rows, -1, axis=0)
    left[1:], right[2:] = -1, -1
    first, _ = train_alone(programs, state, keys[0], left, data, 0)
    both = jax.tree.map(lambda leaf: np.asarray(leaf)[None], first)
    second, _ = train_alone(programs, both, keys[0], right, data, 0, number=1)
    chex.assert_trees_all_equal(base, second)


def test_the_program_can_be_vmapped_over_seeds_rates_and_dropout(data):
    variants = [(0, 1e-3, 0.25), (1, 1e-2, 0.5), (2, 1e-4, 0.0)]
    rows = plan(3)
    states, settings, expected = [], [], []
    programs = programs_of()
    for seed, rate, dropout in variants:
        keys, state = first_state(seed=seed)
        states.append(take(state, 0))
        settings.append(settings_of(keys[0], rate=rate, dropout=(dropout, dropout)))
        alone, _ = train_alone(
            programs, state, keys[0], rows, data, 0, rate=rate, dropout=(dropout, dropout)
        )
        expected.append(alone.weights)
    stack = functools.partial(jax.tree.map, lambda *leaves: np.stack(leaves))
    head_program = functools.partial(step.train_segment, programs._head, 4, Augment())
    over_heads = jax.vmap(head_program, in_axes=(0, 0, 0, Data(None, 0, None)))
    sweep = jax.jit(jax.vmap(over_heads, in_axes=(0, 0, None, None)))
    one_head = data._replace(targets=data.targets[:1])
    found, _ = sweep(
        jax.tree.map(lambda leaf: leaf[:, None], stack(*states)),
        jax.tree.map(lambda leaf: leaf[:, None], stack(*settings)),
        jax.tree.map(lambda leaf: leaf[None], batches_of(rows)),
        one_head,
    )
    for index, weights in enumerate(expected):
        one = jax.tree.map(lambda leaf, index=index: leaf[index, 0], found.weights)
        chex.assert_trees_all_close(one, weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("together", [False, True])
def test_the_program_is_compiled_once(data, monkeypatch, together):
    chex.clear_trace_counter()
    monkeypatch.setattr(step, "train_segment", chex.assert_max_traces(step.train_segment, n=1))
    keys, state = first_state()
    programs = Programs(SMALL, 4, together=together)
    for seed in range(3):
        rows = plan(3, seed=seed)
        if together:
            state, _ = train_together(programs, state, keys, np.stack([rows] * 3), data)
            state = jax.tree.map(np.array, state)
        else:
            found = programs.map_heads(
                lambda head, rows=rows, state=state: train_alone(
                    programs, state, keys[head], rows, data, head, epoch=head
                ),
                range(3),
            )
            for head, (one, _) in enumerate(found):
                put(jax.tree.map(np.array, state), head, one)


def test_nothing_goes_to_the_device_unasked():
    programs = programs_of()
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        programs.map_heads(lambda head: jnp.sin(np.float32(head)), range(2))


def test_less_precision_is_asked_for_in_every_product_of_the_plain_form(data):
    keys, state = first_state()
    for precision, name in (("float32", "HIGHEST"), ("tensorfloat32", "HIGH")):
        head = Programs(SMALL, 4, precision=precision)._head
        program = functools.partial(step.train_segment, head, 4, Augment())
        one = data._replace(targets=data.targets[0])
        arguments = (take(state, 0), settings_of(keys[0]), batches_of(plan(1)), one)
        found = set(re.findall(r"Precision\.(\w+)", str(jax.make_jaxpr(program)(*arguments))))
        assert found == {name}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("config", [SMALL, HeadConfig(filters=(4, 4, 4, 4))], ids=["plain", "fast"])
def test_logits_are_those_of_each_head(data, together, config):
    keys = np.stack([step.head_key(0, name) for name in "hon"])
    state = step.start_state(step.start_weights(config, keys))
    programs = Programs(config, None, together=together)
    weights = {**state.weights, **state.norm}
    rows = np.array([[3, 1, 4], [1, 5, -1]], np.int32)
    found = programs.logits(weights, batches_of(rows), data.features, data.triplets)
    assert found.shape == (3, 5)
    wanted = np.array([3, 1, 4, 1, 5])
    for head in range(3):
        alone = with_weights(programs._head, take(weights, head))
        expected = alone(jnp.asarray(data.features[wanted]), data.triplets[wanted])
        np.testing.assert_allclose(found[head], expected, atol=2e-5, rtol=1e-4)


def test_random_changes_follow_from_the_key_and_leave_the_rest_of_a_step_as_it_was(data):
    keys, state = first_state()
    found = []
    augments = Augment(flips=True, feature_noise=1.0), Augment(flips=True)
    for programs in (programs_of(), *(Programs(SMALL, 4, augment=each) for each in augments)):
        one = data._replace(targets=data.targets[0])
        for _ in range(2):
            trained, _ = programs.train(
                take(state, 0), settings_of(keys[0]), batches_of(plan(3)), one, None
            )
            found.append(trained.weights["score.kernel"])
    for first, second in (found[:2], found[2:4], found[4:]):
        np.testing.assert_array_equal(first, second)
    assert not np.allclose(found[0], found[2])
    assert not np.allclose(found[2], found[4])


SHARED = """
from unittest import mock
import chex, jax, numpy as np
from acai_jax.network.head_config import HeadConfig
from acai_jax.training import step
from acai_jax.training.step import Batches, Data, Programs, Settings

model = HeadConfig(filters=(2, 2), dense_units=(4,), head_units=2, convolution="regular")
rng = np.random.default_rng(0)
keys = np.stack([step.head_key(0, name) for name in "abcde"])
settings = Settings(keys, *(np.zeros(5, np.int32) for _ in range(2)), np.full(5, 1e-2, np.float32),
                    np.ones((5, 2), np.float32), np.full((5, 2), 0.25, np.float32))
state = step.start_state(step.start_weights(model, keys))
rows = rng.integers(0, 16, (5, 3, 4)).astype(np.int32)
features, targets = rng.normal(size=(16, 25)).astype(np.float32), rng.random((5, 16)) < 0.4
triplets = rng.normal(size=(16, 63, 63, 3)).astype(np.float32)
devices, found = jax.devices(), []
for count in (1, 2, 4):
    with mock.patch("jax.local_devices", return_value=devices[:count]):
        place = lambda array: jax.device_put(array, step.everywhere(True))
        data = Data(place(features), targets, place(triplets))
        assert len(data.triplets.devices()) == count
        with jax.transfer_guard("disallow"):
            programs = Programs(model, None, together=True)
            heads, tally = programs.train(
                state, settings, Batches(rows, rows), data, Data(None, 0, None))
            weights = heads.weights | heads.norm
            rows_ = Batches(rows[0], rows[0])
            logits = programs.logits(weights, rows_, data.features, data.triplets)
    assert logits.shape == (5, 12)
    found.append((heads, tally, logits))
for other in found[1:]:
    chex.assert_trees_all_close(found[0], other, atol=1e-6, rtol=1e-5)
print("the same")
"""


def test_several_devices_share_the_heads():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    found = subprocess.run(
        [sys.executable, "-c", SHARED], env=environment, text=True, capture_output=True
    )
    assert found.stdout == "the same\n", found.stderr
