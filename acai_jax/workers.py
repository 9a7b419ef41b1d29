"""Work in worker processes, beside the network: chunks in, results out, in order."""

import collections
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

import loky

from acai_jax.errors import AcaiError
from acai_jax.processes import undisturbed

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def map_chunks(
    chunked: Iterable[Chunk],
    function: Callable[[Chunk], Result],
    workers: int | None,
) -> Iterator[Result]:
    """Calls `function` on each chunk in `workers` processes, keeping their order.

    A few chunks per worker are under way at once, and no more: memory stays bounded however slow
    the consumer is.

    Args:
        chunked: pieces of work, such as `chunks` yields.
        function: picklable; what it returns is, too.
        workers: how many processes; 0 works in this one. None: one per core, but none for so few
            alerts that starting processes would take longer.
    """
    if workers is None:
        chunked = iter(chunked)
        first = list(itertools.islice(chunked, 2))
        workers = loky.cpu_count() if len(first) > 1 else 0
        chunked = itertools.chain(first, chunked)
    if workers == 0:
        yield from map(function, chunked)
        return
    resource_tracker.ensure_running()  # its start would let signals through to new workers
    # loky's workers import no __main__: it works from notebooks and scripts without a guard
    executor = loky.ProcessPoolExecutor(
        workers, initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    try:
        yield from _in_order(
            chunked, lambda chunk: _submit(executor, function, chunk), 2 * workers + 1
        )
    except BrokenProcessPool:
        raise AcaiError(
            "a worker process was killed, often for want of memory: try fewer --workers"
        ) from None
    finally:
        executor.shutdown(kill_workers=True)


def _submit(
    executor: loky.ProcessPoolExecutor, function: Callable[[Chunk], Result], chunk: Chunk
) -> "Future[Result]":
    """Submits work; a worker that starts on it never hears signals, which are for its parent."""
    with undisturbed():
        return executor.submit(function, chunk)


def _end_with_parent(parent: int) -> None:
    """Ties this worker's end to its parent's: a lost one would wait for ever with its result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_order(
    chunked: Iterable[Chunk],
    submit: Callable[[Chunk], "Future[Result]"],
    ahead: int,
) -> Iterator[Result]:
    source = iter(chunked)
    pending = collections.deque(submit(chunk) for chunk in itertools.islice(source, ahead))
    while pending:
        result = pending.popleft().result()
        pending.extend(submit(chunk) for chunk in itertools.islice(source, 1))
        yield result
