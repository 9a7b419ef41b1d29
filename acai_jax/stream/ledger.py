"""The ledger of a stream: what is written, and which offsets may be committed for that."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from acai_jax.stream.kafka import Offsets
from acai_jax.stream.registry import StoppedError

log: Final = logging.getLogger("acai_jax.stream")


class Entry(NamedTuple):
    """How far a batch brings its partitions, and in which generation it began."""

    generation: int
    offsets: Offsets


class Ledger:
    """Offsets on their way from a batch that begins to a commit, one partition after the other.

    A generation is the time from one assignment of partitions to the next. An offset is given out
    to be committed only in its own generation, and only once its batch and all that began before it
    in that generation are written. What is not written is never given out, nor is anything after
    it: its messages come again, to the worker or the run that goes on from the last commit.

    One thread writes (`write`, `leave`, `wants`), in the order in which the batches began; another
    one does all the rest.

    Attributes:
        generation: the current one.
        failed: nothing more is written or committed.

    Example:
        >>> ledger = Ledger()
        >>> first, second = ledger.begin({("night", 0): 5}), ledger.begin({("night", 0): 9})
        >>> ledger.enter(ledger.write(first, lambda: print("to all outputs")))
        to all outputs
        >>> ledger.to_commit()
        {('night', 0): 5}
        >>> ledger.enter(ledger.write(second, lambda: ledger.leave(second)))
        >>> ledger.answered(committed=True), ledger.to_commit()
        (False, {})
    """

    def __init__(self) -> None:
        self.generation = 0
        self.failed = False
        self._left = -1
        """The last generation of whose messages some are left to another worker, or run."""
        self._written: Offsets = {}
        self._committing: Offsets | None = None

    def begin(self, offsets: Offsets) -> Entry:
        """Notes that a batch begins, behind whose messages these offsets are."""
        return Entry(self.generation, offsets)

    def write(self, entry: Entry, flush: Callable[[], None]) -> Entry | None:
        """Has a batch written, if all before it are.

        Args:
            entry: of the batch.
            flush: writes it to all outputs.

        Returns:
            The entry, for `enter`; None if some of the batch was not written.

        Raises:
            Exception: what `flush` raises; from then on the ledger has failed.
        """
        if self.failed or entry.generation <= self._left:
            return None
        try:
            flush()
        except StoppedError as error:
            log.warning("%s; alerts that need it will come again", error)
            self.leave(entry)
        except BaseException:
            self.failed = True  # or a later batch would commit what is not written
            raise
        return None if entry.generation <= self._left else entry

    def leave(self, entry: Entry) -> None:
        """Leaves what is not written of a batch, and all after it, to another worker or run."""
        self._left = entry.generation

    def wants(self, entry: Entry) -> bool:
        """Whether it makes sense to go on trying to write a batch."""
        return entry.generation == self.generation and not self.failed

    def enter(self, entry: Entry | None) -> None:
        """Takes note of what `write` has returned, in the same order."""
        if entry is not None and entry.generation == self.generation:
            self._written |= entry.offsets

    def to_commit(self) -> Offsets:
        """What is to be committed now; nothing while an answer to the last commit is to come."""
        if self.failed or self._committing is not None or not self._written:
            return {}
        self._committing, self._written = self._written, {}
        return self._committing

    def answered(self, *, committed: bool) -> bool:
        """Takes the answer to the last commit; returns whether its offsets will be given again."""
        offsets, self._committing = self._committing, None
        if committed or not offsets:
            return False
        self._written = offsets | self._written
        return True

    def to_commit_at_last(self) -> Offsets:
        """All that may be committed, answered or not; it is not given again."""
        offsets = {} if self.failed else (self._committing or {}) | self._written
        self._forget()
        return offsets

    def renew(self) -> None:
        """Begins another generation: partitions were assigned, or lost."""
        self.generation += 1
        self._forget()

    def _forget(self) -> None:
        self._written = {}
        if self._committing is not None:
            self._committing = {}  # its answer is still to come
