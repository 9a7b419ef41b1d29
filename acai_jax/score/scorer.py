"""Scorer: alerts in, score table out, in fixed batches, order kept, rejects kept as rows."""

import collections
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
import loky
import numpy as np
import polars as pl
from jaxtyping import Array, Float, Float32

from acai_jax.alerts import prepare
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import check_preset
from acai_jax.alerts.sources import Paths, encoded_alerts
from acai_jax.errors import AcaiError, Reject
from acai_jax.network.bank import HeadBank, apply_heads
from acai_jax.network.checkpoints import load_heads
from acai_jax.network.drb import BraaiStandIn, pad_rows
from acai_jax.network.ensemble import ensemble_score
from acai_jax.network.pretrained import DEFAULT_GENERATION, cache_folder, load_published
from acai_jax.network.separable import cpu_compiler_options
from acai_jax.score.columns import OF_ENSEMBLES, score_table, score_table_schema
from acai_jax.surveys import Preset

PUBLISHED: Final = "published"
_CPU_BATCHES: Final = (1, 8, 16, 32, 128)
_ACCELERATOR_BATCHES: Final = (1, 32, 512, 4096)
_SMALL_BATCH: Final = 8  # up to this many alerts, a second thread costs more than it brings


class Scorer:
    """Scores alerts with a bank of heads.

    Args:
        bank: the heads, their names and versions.
        weights_dir: where to look for braai's weights, which alerts without `drb` need under the
            preset "acai"; loaded at the first such alert.
        as_logits: give logits in place of scores everywhere, as calibration needs them.

    Example:
        >>> scorer = Scorer.load("published")  # doctest: +SKIP
        >>> scorer.score("night.tar.gz").select("candid", "acai_h", "reason")  # doctest: +SKIP
    """

    def __init__(
        self,
        bank: HeadBank,
        *,
        weights_dir: str | os.PathLike[str] | None = None,
        as_logits: bool = False,
    ) -> None:
        self.bank = bank
        self._process = os.getpid()
        on_cpu = jax.default_backend() == "cpu"
        self._batches: tuple[int, ...] = _CPU_BATCHES if on_cpu else _ACCELERATOR_BATCHES
        # XLA's own threads help little and vary much: whole batches go side by side instead
        self._threads = loky.cpu_count() if on_cpu else 1
        self._pool = ThreadPoolExecutor(self._threads)
        options = cpu_compiler_options() if on_cpu else None
        temperatures = bank.temperatures[None]
        leaves, structure = jax.tree.flatten(bank.heads)
        self._leaves: list[Array] = leaves
        self.compiled_batches: list[int] = []
        """Batch sizes compiled so far; constant once `warm_up` has run."""
        self.compile_seconds = 0.0
        """How long that took, each time with one run."""
        self._ready: set[int] = set()
        self._compiling = threading.Lock()

        def forward(leaves: list[Array], features: Array, triplets: Array) -> Array:
            self.compiled_batches.append(len(features))  # runs when traced, not when called
            logits = apply_heads(jax.tree.unflatten(structure, leaves), features, triplets)
            beside: list[Array] = []
            if bank.members > 1:  # otherwise the program stays as it was
                logits, *beside = ensemble_score(logits, bank.members)
            if (temperatures != 1).any():  # so here
                logits = logits / temperatures
            scores = logits if as_logits else jax.nn.sigmoid(logits)
            return jnp.concatenate([scores, *beside], axis=1)

        self._forward = jax.jit(forward, compiler_options=options)
        self._braai = BraaiStandIn(weights_dir)
        self._width = len(bank.classes) * (1 + (bank.members > 1) * len(OF_ENSEMBLES))
        inputs = bank.survey.inputs
        self._shapes = (len(inputs.features),), inputs.triplet

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = PUBLISHED,
        *,
        weights_dir: str | os.PathLike[str] | None = None,
    ) -> "Scorer":
        """Loads the published classifiers, or those of a checkpoint.

        Args:
            model: "published"; "published-20201110" for the first published generation; or as for
                `load_heads`: the directory of a checkpoint, for example.
            weights_dir: folder with the published `.h5` files; without it they are downloaded
                once and cached.

        Raises:
            WeightsError: the published weights cannot be had or are not the published ones.
            CheckpointError: the checkpoint is missing, incomplete or misshapen.
        """
        name = os.fspath(model)
        if name == PUBLISHED or name.startswith(f"{PUBLISHED}-"):
            generation = name.removeprefix(PUBLISHED).removeprefix("-") or DEFAULT_GENERATION
            bank = load_published(weights_dir, generation)
        else:
            bank = load_heads(name)
        return cls(bank, weights_dir=weights_dir)

    def score(
        self, paths: Paths, preset: Preset | None = None, *, num_workers: int | None = None
    ) -> pl.DataFrame:
        """Scores every alert behind `paths`.

        Args:
            paths: one or several files, archives or directories; see `read_alerts`.
            preset: whose preprocessing to follow; by default that of the model's training.
            num_workers: decoding processes; 0 decodes in this one. Default: one per core for
                archives and directories, none for a few alerts.

        Returns:
            One row per alert, in the order of the input; scores are null where `reason` says why.

        Raises:
            SourceError: a path does not exist, or is of no known kind.
            PresetError: there is no such preset.
        """
        tables = [table for table, _ in self.score_tables(paths, preset, num_workers=num_workers)]
        if not tables:
            return pl.DataFrame(schema=self.schema)
        return pl.concat(tables)

    def score_tables(
        self,
        paths: Paths,
        preset: Preset | None = None,
        *,
        num_workers: int | None = None,
        skip_chunks: int = 0,
    ) -> Iterator[tuple[pl.DataFrame, int]]:
        """As `score`, a stretch of rows at a time, in bounded memory.

        Args:
            paths: as for `score`.
            preset: as for `score`.
            num_workers: as for `score`.
            skip_chunks: leave out this many tables at the start, without decoding their alerts.

        Yields:
            (the next rows, bytes of the sources that they took), one for each chunk of alerts.
        """
        preset = preset or self.bank.preset
        survey = self.bank.survey
        check_preset(preset, survey)
        self._check_process()
        chunked = prepare.chunks(encoded_alerts(paths))
        for _ in range(skip_chunks):
            next(chunked, None)
        prepared = prepare.prepare_chunks(chunked, preset, num_workers, survey)
        pending: collections.deque[tuple[Future[pl.DataFrame], int]] = collections.deque()
        for chunk in itertools.islice(prepared, 1):  # compiles what the threads then share
            yield self._score_prepared(chunk, preset), chunk.source_bytes
        for chunk in prepared:
            future = self._pool.submit(self._score_prepared, chunk, preset)
            pending.append((future, chunk.source_bytes))
            if len(pending) > self._threads:
                future, source_bytes = pending.popleft()
                yield future.result(), source_bytes
        for future, source_bytes in pending:
            yield future.result(), source_bytes

    def score_packets(
        self, alerts: Sequence[AlertPacket | Reject], preset: Preset | None = None
    ) -> pl.DataFrame:
        """Scores alerts that are decoded already: one row each, as `score` gives them."""
        preset = preset or self.bank.preset
        self._check_process()
        prepared = prepare.prepare_alerts(alerts, preset, survey=self.bank.survey)
        return self._score_prepared(prepared, preset)

    def score_arrays(
        self, features: Float[np.ndarray, "b f"], triplets: Float[np.ndarray, "b h w c"]
    ) -> Float32[np.ndarray, "b k"]:
        """Scores alerts that are arrays already.

        Args:
            features: raw features in the order of the heads' inputs: `FEATURE_NAMES` for ZTF.
            triplets: normalised stamps, as `alert_arrays` makes them.

        Returns:
            Scores in 0..1, one column for each class of the bank, in its order.

        Raises:
            ValueError: the arrays are of other shapes.
        """
        self._check_process()
        features = np.asarray(features, np.float32)
        triplets = np.asarray(triplets, np.float32)
        count = len(features)
        if (features.shape[1:], triplets.shape) != (self._shapes[0], (count, *self._shapes[1])):
            expected = " and ".join(str(("b", *shape)).replace("'", "") for shape in self._shapes)
            raise ValueError(f"expected {expected}, not {features.shape}, {triplets.shape}")
        share = -(-count // self._threads)
        size = next((size for size in self._batches if size >= share), self._batches[-1])
        if count <= max(size, _SMALL_BATCH):
            found = self._batch(features, triplets)
        else:
            found = self._in_batches(features, triplets, size, self._pool.map)
        return found[:, : len(self.bank.classes)]

    def warm_up(self) -> None:
        """Compiles every batch size, so that no alert waits for it later."""
        for size in self._batches:
            self._batch(*(np.zeros((size, *shape), np.float32) for shape in self._shapes))

    def _check_process(self) -> None:
        """A forked child has none of the threads of JAX, and would wait for them for ever."""
        if os.getpid() != self._process:
            raise AcaiError(
                "a Scorer does not work in a fork()ed process: start processes by "
                'multiprocessing.get_context("spawn"), and load a Scorer in each'
            )

    def _in_batches(
        self,
        features: np.ndarray,
        triplets: np.ndarray,
        size: int,
        map_batches: Callable[..., Iterable[Any]],
    ) -> np.ndarray:
        starts = range(0, max(len(features), 1), size)
        pieces = [(features[i : i + size], triplets[i : i + size]) for i in starts]
        return np.concatenate(list(map_batches(lambda piece: self._batch(*piece), pieces)))

    def _batch(self, features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
        """One batch, padded to the next fixed size so that nothing is compiled anew.

        Scores, then of ensembles the columns of `OF_ENSEMBLES`.
        """
        count = len(features)
        if count == 0:
            return np.empty((0, self._width), np.float32)
        size = next(size for size in self._batches if size >= count)
        if size > count:
            features, triplets = pad_rows(features, size), pad_rows(triplets, size)
        if size in self._ready:
            return np.asarray(self._forward(self._leaves, features, triplets))[:count]
        with self._compiling:  # two threads compile a size once, and its time counts once
            started, first = time.monotonic(), size not in self._ready
            scores = np.asarray(self._forward(self._leaves, features, triplets))[:count]
            if first:
                self.compile_seconds += time.monotonic() - started
                self._ready.add(size)
        return scores

    def _score_prepared(self, prepared: prepare.Prepared, preset: Preset) -> pl.DataFrame:
        columns, features = prepared.columns, prepared.features
        accepted = prepared.accepted
        survey = self.bank.survey
        missing, reason = self._braai.fill(features, prepared.triplets, survey)
        for row in missing:
            place, name = accepted[row], cast(str, survey.replaced)
            drb = float(features[row, survey.inputs.features.index(name)])
            columns[name][place] = None if reason else drb
            columns["drb_source"][place] = None if reason else "braai"
            columns["reason"][place] = reason
        largest = self._batches[-1]  # other chunks are scored beside this one, in other threads
        scores = np.full((len(columns["reason"]), self._width), np.nan, np.float32)
        scores[accepted] = self._in_batches(features, prepared.triplets, largest, map)
        return score_table(columns, scores, self.bank.versions, preset, self.bank.survey)

    @functools.cached_property
    def schema(self) -> Mapping[str, Any]:
        """Column -> polars type of the tables of scores."""
        ensembles = self.bank.members > 1
        return score_table_schema(self.bank.classes, self.bank.survey, ensembles=ensembles)


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user has set JAX's cache already."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
