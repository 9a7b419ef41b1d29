"""The intake of a stream: what is in hand, and the partitions that it comes from."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from acai_jax.stream.kafka import Offsets, Place

T = TypeVar("T")

_BATCH_BYTES: Final = 64 * 2**20


class Intake(Generic[T]):
    """Messages that have come and are not yet worked on. It touches neither them nor a broker.

    Args:
        batch_size: so many messages are enough for a batch.
        batch_seconds: for so long the first message of a batch waits for more [s].
        clock: tells the time [s].

    Attributes:
        assigned: the partitions that are ours; None as long as that is not known.
        holding: nothing more is wanted for now.

    Example:
        >>> intake = Intake(batch_size=2, batch_seconds=1.0)
        >>> intake.take("first", ("night", 0), 4, size=80_000)
        >>> intake.due(), intake.room
        (False, 1)
        >>> intake.take("second", ("night", 0), 5, size=80_000)
        >>> intake.due(), intake.hand_over()
        (True, (['first', 'second'], {('night', 0): 6}))
    """

    def __init__(
        self, batch_size: int, batch_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._clock = clock
        self.assigned: set[Place] | None = None
        self.holding = False
        self._held: set[Place] = set()
        self._ended: set[Place] = set()
        self._taken: Offsets = {}
        self._messages: list[T] = []
        self._offsets: Offsets = {}
        self._bytes = 0
        self._first_came = 0.0

    # --- messages ------------------------------------------------------------------------------

    def take(self, message: T, place: Place, offset: int, size: int) -> None:
        """Takes a message of `size` bytes."""
        if not self._messages:
            self._first_came = self._clock()
        self._ended.discard(place)
        self._taken[place] = self._offsets[place] = offset + 1
        self._messages.append(message)
        self._bytes += size

    @property
    def in_hand(self) -> int:
        """How many messages are in hand."""
        return len(self._messages)

    @property
    def room(self) -> int:
        """How many messages a batch still has room for."""
        return self._batch_size - self.in_hand

    def patience(self, most: float) -> float:
        """How long to wait for messages: until the batch is due, and at most so long [s]."""
        if not self._messages:
            return most
        return min(most, self._first_came + self._batch_seconds - self._clock())

    def due(self) -> bool:
        """Whether what is in hand is to be worked on."""
        if not self._messages:
            return False
        return (
            self.room <= 0
            or self._bytes >= _BATCH_BYTES
            or self._clock() - self._first_came >= self._batch_seconds
        )

    def hand_over(self) -> tuple[list[T], Offsets]:
        """All that is in hand, which it is no longer, and the offsets behind it."""
        batch = self._messages, self._offsets
        self._messages, self._offsets, self._bytes = [], {}, 0
        return batch

    # --- partitions ----------------------------------------------------------------------------

    def assign(self, places: Iterable[Place]) -> None:
        """From now on these partitions are ours."""
        self.assigned = set(places)
        self._ended.clear()

    def withdraw(self) -> None:
        """The partitions are no longer ours; what is in hand stays."""
        self.assigned = None
        self._ended.clear()

    def end(self, place: Place, offset: int) -> None:
        """A partition has no more messages for now, up to this offset.

        The end of a transaction has an offset, too, and is no message.
        """
        self._ended.add(place)
        self._taken[place] = offset

    def at_end(self) -> bool:
        """Whether no partition that is ours has more messages."""
        return self.assigned is not None and self.assigned <= self._ended

    def lag(self, newest: Callable[[Place], int | None]) -> int:
        """Messages that are there and not yet taken.

        Args:
            newest: the offset that a partition's next message will get, if that is known.
        """
        places = (self.assigned or set()) & self._taken.keys()
        return sum(max(0, (newest(place) or 0) - self._taken[place]) for place in places)

    def hold(self) -> set[Place]:
        """From now on nothing more is wanted; returns the partitions to pause."""
        self.holding = True
        self._held |= self.assigned or set()
        return self.assigned or set()

    def release(self) -> set[Place]:
        """More is wanted again; returns the partitions to resume."""
        # also those that were lost in the meantime, which stay paused otherwise if they come back
        held, self._held, self.holding = self._held, set(), False
        return held
