"""The compiled programs: training steps of one head, and logits; how they run on many heads.

Each program is written for one head and is pure, so that it can be vmapped over heads, and once
more over seeds, learning rates and dropout rates.
"""

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import loky
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int, UInt32

from acai_jax.datasets.splits import stable_hash
from acai_jax.network.bank import abstract_heads, apply_heads, take_head
from acai_jax.network.head import Head, head_weights, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.separable import cpu_compiler_options
from acai_jax.surveys import DEFAULT
from acai_jax.surveys.base import Inputs
from acai_jax.training.augment import augmented_features, augmented_triplets
from acai_jax.training.config import Augment

_ADAM_EPSILON = 1e-7  # the published models'
_NO_CHANGE = Augment()
_CPU_MICROBATCH = 2  # alerts whose images fit in a core's cache
_WEIGHTS, _DROPOUT, _AUGMENT = 0, 1, 2  # streams of random numbers
_MEMBERS = "members"  # axis of the mesh

Array = jax.Array | np.ndarray
Weights = dict[str, Any]


class HeadState(NamedTuple):
    """One head in training; k of them with a leading axis.

    Attributes:
        weights: what is trained, by name.
        norm: what is not, as "norm.centre".
        optimizer: Adam's moments.
    """

    weights: Weights
    norm: Weights
    optimizer: optax.OptState


class Data(NamedTuple):
    """What a head trains on: the rows of a split, and the triplets at hand."""

    features: Float[Array, "n f"]
    targets: Bool[Array, " n"]
    triplets: Float[Array, "m h w c"]


class Batches(NamedTuple):
    """Which alerts the next steps take.

    Attributes:
        rows: of the split; -1 where a batch is not full. A step of -1 only is not taken.
        slots: where in the triplets at hand these rows stand.
    """

    rows: Int[Array, "s b"]
    slots: Int[Array, "s b"]


class Settings(NamedTuple):
    """What else decides the steps of one head.

    Attributes:
        key: random key of the head, as `head_key` gives it.
        epoch: number of the epoch.
        step: number of the first step in it.
        learning_rate: of this epoch.
        class_weights: of a negative and a positive.
        dropout: rates in the dense and the convolutional branch.
    """

    key: UInt32[Array, "2"]
    epoch: Int[Array, ""]
    step: Int[Array, ""]
    learning_rate: Float[Array, ""]
    class_weights: Float[Array, "2"]
    dropout: Float[Array, "2"]


class Tally(NamedTuple):
    """The loss summed over alerts, and how many they were."""

    loss: Float[Array, ""]
    alerts: Int[Array, ""]


def head_key(seed: int, name: str) -> UInt32[np.ndarray, "2"]:
    """The key of a head's random numbers; it depends on nothing but the seed and the name."""
    key = jax.random.fold_in(jax.random.key(seed), np.uint32(stable_hash(name) & 0xFFFFFFFF))
    return np.asarray(jax.random.key_data(key))


def adam() -> optax.GradientTransformation:
    r"""Adam with AMSGrad as Keras has it, for a learning rate of 1.

    The largest second moment is kept as it is, and the bias of the newest corrects it. (Optax keeps
    the largest corrected one: the first few gradients would slow down a whole training.) The update
    of step :math:`t` with gradient :math:`g_t` is

    .. math::

        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
        \hat{v}_t = \max(\hat{v}_{t-1}, v_t), \quad
        \Delta_t = -\frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \frac{m_t}{\sqrt{\hat{v}_t} + \epsilon}

    where :math:`\beta_1 = 0.9`, :math:`\beta_2 = 0.999`, :math:`\epsilon = 10^{-7}`.

    Example:
        >>> import numpy as np
        >>> transformation = adam()
        >>> state = transformation.init(np.zeros(2, np.float32))
        >>> np.round(transformation.update(np.array([3.0, -0.1], np.float32), state)[0], 3)
        Array([-1.,  1.], dtype=float32)
    """
    decay, decay_of_squares = 0.9, 0.999

    def bias(count: Any) -> Array:
        steps = count.astype(jnp.float32) + 1
        return -jnp.sqrt(1 - decay_of_squares**steps) / (1 - decay**steps)

    plain: Any = {"bias_correction_mu": False, "bias_correction_nu": False}
    moments = optax.scale_by_amsgrad(decay, decay_of_squares, _ADAM_EPSILON, **plain)
    return optax.chain(moments, optax.scale_by_schedule(bias))


def start_weights(
    config: HeadConfig, keys: UInt32[np.ndarray, "k 2"], inputs: Inputs = DEFAULT.inputs
) -> Weights:
    """The random weights that k heads start from, the identity as their feature norm included."""

    def create(key: UInt32[Array, "2"]) -> Head:
        key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(key)), _WEIGHTS)
        return Head(config, rngs=nnx.Rngs(key), inputs=inputs)

    # run once: XLA takes seconds to optimise what runs for microseconds
    options = {"xla_backend_optimization_level": 0}
    heads = jax.jit(jax.vmap(create), compiler_options=options)(keys)
    return {name: np.asarray(array) for name, array in head_weights(heads).items()}


def start_state(weights: Weights) -> HeadState:
    """Heads before their first step, with the leading axis that `weights` have."""
    norm = {name: array for name, array in weights.items() if name.startswith("norm.")}
    trained = {name: array for name, array in weights.items() if name not in norm}
    optimizer = jax.jit(jax.vmap(adam().init))(jax.device_put(trained))
    return HeadState(trained, norm, jax.device_get(optimizer))


# --- programs of one head --------------------------------------------------------------------


def train_segment(
    head: Head,
    microbatch: int,
    augment: Augment,
    state: HeadState,
    settings: Settings,
    batches: Batches,
    data: Data,
) -> tuple[HeadState, Tally]:
    """Trains one head for a number of steps.

    Args:
        head: an abstract head: its hyperparameters and shapes.
        microbatch: alerts whose gradient is computed at once.
        augment: how alerts are changed at random.
        state: where the head stands.
        settings: what decides the steps.
        batches: the alerts of each step.
        data: where they are taken from.

    Returns:
        The head after them, and the training loss on the way.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(settings.key)), _DROPOUT)
    key = jax.random.fold_in(key, settings.epoch)

    def step(carry: tuple[HeadState, Tally, Array], batch: Batches) -> tuple[Any, None]:
        state, tally, number = carry
        step_key = jax.random.fold_in(key, number)
        take = functools.partial(
            _train_step, head, microbatch, augment, settings, step_key, batch, data
        )
        state, tally = jax.lax.cond((batch.rows >= 0).any(), take, lambda *kept: kept, state, tally)
        return (state, tally, number + 1), None

    start = (state, Tally(jnp.float32(0), jnp.int32(0)), settings.step)
    (state, tally, _), _ = jax.lax.scan(step, start, batches)
    return state, tally


def _train_step(
    head: Head,
    microbatch: int,
    augment: Augment,
    settings: Settings,
    key: jax.Array,
    batch: Batches,
    data: Data,
    state: HeadState,
    tally: Tally,
) -> tuple[HeadState, Tally]:
    """One step: the mean gradient of a batch, and what Adam makes of it."""

    def loss_of(weights: Weights, part: Batches, key: jax.Array) -> Array:
        training = nnx.view(with_weights(head, weights | state.norm), deterministic=False)
        features, triplets = data.features[part.rows], data.triplets[part.slots]
        if augment.is_on:  # otherwise the program stays as it was
            keys = jax.random.split(jax.random.fold_in(key, _AUGMENT))
            norm = {name: state.norm[f"norm.{name}"] for name in ("floor", "centre", "scale")}
            missing = head.inputs.sentinel
            features = augmented_features(augment, keys[0], features, missing=missing, **norm)
            triplets = augmented_triplets(augment, keys[1], triplets)
        logits = training(
            features,
            triplets,
            key=key,
            dropout=jnp.asarray(settings.dropout),
        )
        targets = data.targets[part.rows].astype(jnp.int32)
        losses = optax.sigmoid_binary_cross_entropy(logits, targets.astype(jnp.float32))
        taken = (part.rows >= 0).astype(jnp.float32)
        return (losses * settings.class_weights[targets] * taken).sum()

    def add(total: tuple[Array, Weights], part: tuple[Array, Batches]) -> tuple[Any, None]:
        number, rows = part
        found = jax.value_and_grad(loss_of)(state.weights, rows, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, found), None

    count = len(batch.rows) // microbatch
    parts = jax.tree.map(lambda array: array.reshape(count, microbatch), batch)
    zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, state.weights))
    (loss, gradients), _ = jax.lax.scan(add, zero, (jnp.arange(count), parts))
    alerts = (batch.rows >= 0).sum(dtype=jnp.int32)
    gradients = jax.tree.map(lambda gradient: gradient / alerts.astype(jnp.float32), gradients)
    updates, optimizer = adam().update(gradients, state.optimizer, state.weights)
    weights = jax.tree.map(
        lambda weight, update: weight + settings.learning_rate * update, state.weights, updates
    )
    state = HeadState(weights, state.norm, optimizer)
    return state, Tally(tally.loss + loss, tally.alerts + alerts)


def logits_of(
    heads: Head,
    weights: Weights,
    batches: Batches,
    features: Float[Array, "n f"],
    triplets: Float[Array, "m h w c"],
) -> Float[Array, "s b"]:
    """One head's logits, batch by batch, without dropout.

    Args:
        heads: an abstract bank of one head.
        weights: of the head, its norm included.
        batches: whose logits; those of rows -1 mean nothing.
        features: of a split.
        triplets: those at hand.
    """
    bank = with_weights(heads, {name: array[None] for name, array in weights.items()})

    def one_batch(batch: Batches) -> Array:
        return apply_heads(bank, features[batch.rows], triplets[batch.slots])[:, 0]

    return jax.lax.map(one_batch, batches)


# --- many heads ------------------------------------------------------------------------------


class Programs:
    """The programs, compiled, for a bank of heads: arrays of the host in, arrays of the host out.

    An accelerator runs one program that is vmapped over all heads; several of them share the heads.
    On a CPU that is slower than one head after the other, and XLA's own threads help little: a
    thread for each core takes the next head. Neither way makes a head depend on the others.

    Args:
        config: hyperparameters of the heads.
        microbatch: alerts whose gradient is computed at once; by default what suits the device.
        inputs: what the heads read.
        precision: of matrix products on accelerators; see `separable_conv`.
        augment: how alerts are changed at random in training.
        together: run all heads as one program; by default where there is an accelerator.
    """

    def __init__(
        self,
        config: HeadConfig,
        microbatch: int | None,
        *,
        inputs: Inputs = DEFAULT.inputs,
        precision: str = "float32",
        augment: Augment = _NO_CHANGE,
        together: bool | None = None,
    ) -> None:
        on_cpu = jax.default_backend() == "cpu"
        self.together = runs_together(together)
        self._mesh = mesh_of_members() if self.together else None
        self._pool = ThreadPoolExecutor(loky.cpu_count())
        self._compiling = threading.Lock()
        self._compiled: set[Any] = set()
        bank = abstract_heads(config, 1, precision, inputs)
        head = jax.eval_shape(lambda heads: take_head(heads, 0), bank)
        self._options = cpu_compiler_options() if on_cpu else None
        self._microbatch = microbatch or (_CPU_MICROBATCH if on_cpu else None)
        self._head, self._bank, self._augment = head, bank, augment
        self._programs: dict[Any, Any] = {}

    def train(
        self, state: HeadState, settings: Settings, batches: Batches, data: Data, axes: Data | None
    ) -> tuple[HeadState, Tally]:
        """`train_segment` of one head, or, with `axes`, of all.

        Args:
            state: of one head, or of k with a leading axis; so for the next two.
            settings: what decides the steps.
            batches: the alerts of each step.
            data: where they are taken from.
            axes: None for one head; otherwise 0 where a part of `data` has a leading axis too.
        """
        microbatch = self._microbatch or batches.rows.shape[-1]
        microbatch = int(np.gcd(microbatch, batches.rows.shape[-1]))
        function = functools.partial(train_segment, self._head, microbatch, self._augment)
        in_axes = None if axes is None else (0, 0, 0, axes)
        return self._run(("train", axes), function, in_axes, state, settings, batches, data)

    def logits(
        self,
        weights: Weights,
        batches: Batches,
        features: Float[Array, "n f"],
        triplets: Float[Array, "m h w c"],
    ) -> Float[np.ndarray, "k taken"]:
        """Logits of all heads for the rows of `batches`, the fillers left out."""
        function = functools.partial(logits_of, self._bank)
        if self.together:
            found = self._run(
                "logits", function, (0, None, None, None), weights, batches, features, triplets
            )
        else:
            run = functools.partial(self._run, "logits", function, None)
            heads = range(len(next(iter(weights.values()))))
            found = self.map_heads(
                lambda head: run(take(weights, head), batches, features, triplets), heads
            )
        return np.stack([one[batches.rows >= 0] for one in found])

    def map_heads(self, function: Any, heads: Sequence[int]) -> list[Any]:
        """`function` of each head, side by side; an error is raised once no head runs any more."""

        def guarded(head: int) -> Any:
            with jax.transfer_guard("disallow"):  # it holds for one thread
                return function(head)

        futures = [self._pool.submit(guarded, head) for head in heads]
        wait(futures)
        return [future.result() for future in futures]

    def _run(self, name: Any, function: Any, in_axes: Any, *args: Any) -> Any:
        if in_axes is not None and self._mesh is not None:
            return self._run_everywhere(name, function, in_axes, self._mesh, args)
        if name not in self._programs:
            if in_axes is not None:
                function = jax.vmap(function, in_axes=in_axes)
            self._programs.setdefault(name, jax.jit(function, compiler_options=self._options))
        return self._call(name, jax.device_put(args))

    def _run_everywhere(
        self, name: Any, function: Any, in_axes: Any, mesh: Mesh, args: tuple[Any, ...]
    ) -> Any:
        """`function` of all heads, each device with its share of them."""
        everything, share = PartitionSpec(), PartitionSpec(_MEMBERS)
        specs = jax.tree.map(
            lambda axis: everything if axis is None else share,
            in_axes,
            is_leaf=lambda axis: axis is None,
        )
        if name not in self._programs:
            shared = jax.shard_map(
                jax.vmap(function, in_axes=in_axes),
                mesh=mesh,
                in_specs=specs,
                out_specs=share,
                check_vma=False,
            )
            self._programs[name] = jax.jit(shared, compiler_options=self._options)
        # every device has as many heads: the last one is there more than once
        count = len(jax.tree.leaves(args[0])[0])
        chosen = np.minimum(np.arange(-(-count // mesh.size) * mesh.size), count - 1)
        placed = jax.tree.map(
            lambda spec, part: jax.device_put(
                part if spec == everything else jax.tree.map(lambda leaf: leaf[chosen], part),
                NamedSharding(mesh, spec),
            ),
            specs,
            args,
            is_leaf=lambda each: isinstance(each, PartitionSpec),
        )
        return jax.tree.map(lambda leaf: leaf[:count], self._call(name, placed))

    def _call(self, name: Any, args: tuple[Any, ...]) -> Any:
        """Runs a program; returns what it gives as arrays of the host."""
        program = self._programs[name]
        shapes = (name, *(leaf.shape for leaf in jax.tree.leaves(args)))
        if shapes not in self._compiled:
            with self._compiling:  # threads would each compile it
                result = program(*args)
                self._compiled.add(shapes)
        else:
            result = program(*args)
        return jax.device_get(result)


def runs_together(together: bool | None) -> bool:
    """Whether all heads are one program; by default where there is an accelerator."""
    return jax.default_backend() != "cpu" if together is None else together


def mesh_of_members() -> Mesh | None:
    """The devices of this process, which share the heads; None where there is one."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), (_MEMBERS,)) if len(devices) > 1 else None


def everywhere(together: bool | None) -> NamedSharding | None:
    """Where data go that all heads read: to each device of the mesh, or to the only one."""
    mesh = mesh_of_members() if runs_together(together) else None
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def take(tree: Any, head: int) -> Any:
    """One head of a tree of arrays with a leading axis."""
    return jax.tree.map(lambda leaf: leaf[head], tree)


def put(tree: Any, head: int, found: Any) -> None:
    """Writes one head back into a tree of NumPy arrays with a leading axis."""

    def write(leaf: np.ndarray, value: Any) -> None:
        leaf[head] = value

    jax.tree.map(write, tree, found)


def stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure as a tree of NumPy arrays with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
