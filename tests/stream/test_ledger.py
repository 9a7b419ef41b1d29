"""The ledger: in whatever order things happen, nothing is lost, and nothing unwritten committed."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from acai_jax.errors import OutputError
from acai_jax.stream.kafka import Offsets
from acai_jax.stream.ledger import Entry, Ledger
from acai_jax.stream.registry import StoppedError

PLACES = (("night", 0), ("night", 1))
COUNTS = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)
Message = tuple[tuple[str, int], int]
FATES = st.sampled_from(["written"] * 9 + ["left", "stopped", "failed"])


class Worker(RuleBasedStateMachine):
    """A ledger between messages, a table and a broker; other workers are there, too."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.written: set[Message] = set()
        self.committed: Offsets = dict.fromkeys(PLACES, 0)
        self.pending: deque[tuple[Entry, set[Message]]] = deque()
        self.results: deque[Entry | None] = deque()
        self.answer: bool | None = None  # of the broker, on its way
        self.left: set[int] = set()  # generations

    @initialize()
    def assigned(self) -> None:
        self.ledger.renew()
        self.position = dict(self.committed)

    @rule(counts=COUNTS)
    def begin(self, counts: tuple[int, int]) -> None:
        messages = {
            (place, self.position[place] + number)
            for place, count in zip(PLACES, counts, strict=True)
            for number in range(count)
        }
        self.position |= {p: self.position[p] + n for p, n in zip(PLACES, counts, strict=True)}
        offsets = {place: self.position[place] for place, _ in messages}
        self.pending.append((self.ledger.begin(offsets), messages))

    @precondition(lambda self: self.pending)
    @rule(fates=st.lists(FATES, min_size=1, max_size=3))
    def write(self, fates: list[str]) -> None:
        for fate, (entry, messages) in zip(fates, list(self.pending), strict=False):
            self.pending.popleft()
            self.write_one(fate, entry, messages)

    def write_one(self, fate: str, entry: Entry, messages: set[Message]) -> None:

        def flush() -> None:
            assert not self.ledger.failed
            assert entry.generation not in self.left
            self.left |= {entry.generation} if fate in ("left", "stopped") else set()
            if fate == "left":
                self.ledger.leave(entry)
            elif fate == "stopped":
                raise StoppedError("the registry is away")
            elif fate == "failed":
                raise OutputError("disk full")
            else:
                self.written |= messages

        try:
            self.results.append(self.ledger.write(entry, flush))
        except OutputError:
            assert self.ledger.failed
            self.results.append(None)

    @precondition(lambda self: self.results)
    @rule(count=st.integers(1, 3))
    def enter(self, count: int) -> None:
        for _ in range(min(count, len(self.results))):
            self.ledger.enter(self.results.popleft())

    @rule(applied=st.booleans())
    def commit(self, applied: bool) -> None:
        waiting = self.answer is not None
        if offsets := self.ledger.to_commit():
            assert not waiting
            self.answer = applied
            self.given(offsets, applied)

    @rule(counts=COUNTS, applied=st.booleans())
    def go_on(self, counts: tuple[int, int], applied: bool) -> None:
        """As most batches do."""
        self.begin(counts)
        self.write(["written"] * len(self.pending))
        self.enter(len(self.results))
        self.commit(applied)

    @precondition(lambda self: self.answer is not None)
    @rule(heard=st.booleans())
    def answered(self, heard: bool) -> None:
        self.ledger.answered(committed=bool(self.answer) and heard)
        self.answer = None

    @rule(
        how=st.sampled_from(["lost", "revoked", "revoked, and the commit fails"]),
        ahead=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    )
    def rebalanced(self, how: str, ahead: tuple[int, int]) -> None:
        """The partitions come back; meanwhile another worker has gone on."""
        if how != "lost":
            self.given(self.ledger.to_commit_at_last(), applied=how == "revoked")
            assert self.ledger.to_commit() == self.ledger.to_commit_at_last() == {}
        for place, count in zip(PLACES, ahead, strict=True):
            here = self.committed[place]
            self.written |= {(place, here + number) for number in range(count)}
            self.committed[place] += count
        self.assigned()

    @precondition(lambda self: self.ledger.failed)
    @rule()
    def next_run(self) -> None:
        self.ledger = Ledger()
        self.pending.clear()
        self.results.clear()
        self.left.clear()
        self.answer = None
        self.assigned()

    def given(self, offsets: Offsets, applied: bool) -> None:
        """What is given to be committed never goes back, nor past what is not written."""
        assert not (offsets and self.ledger.failed)
        for place, offset in offsets.items():
            assert offset >= self.committed[place]
            assert {(place, number) for number in range(offset)} <= self.written
        self.committed |= offsets if applied else {}

    def teardown(self) -> None:
        """All is well from now on: what has begun, or begins again, is written and committed."""
        if not hasattr(self, "position"):
            return
        left = self.ledger.failed or None in self.write_all()
        if left:
            self.next_run() if self.ledger.failed else self.rebalanced("lost", (0, 0))
            self.position = dict.fromkeys(PLACES, 100)
            for place in PLACES:
                messages = {(place, number) for number in range(self.committed[place], 100)}
                self.pending.append((self.ledger.begin({place: 100}), messages))
            assert None not in self.write_all()
        if self.answer is not None:
            self.answered(heard=True)
        while offsets := self.ledger.to_commit():
            self.given(offsets, applied=True)
            self.ledger.answered(committed=True)
        assert self.committed == self.position

    def write_all(self) -> list[Entry | None]:
        """Of this generation, what became of the batches that were not yet entered."""
        ours = self.ledger.begin({})
        while self.pending:
            self.write(["written"])
        found = list(self.results)
        while self.results:
            self.enter(1)
        # a batch that begins now is written unless something was left in this generation
        found.append(self.ledger.write(ours, lambda: None))
        return [entry for entry in found if entry is None or entry.generation == ours.generation]


Worker.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAnyOrder = Worker.TestCase


def begun(ledger: Ledger, *offsets: int) -> list[Entry]:
    return [ledger.begin({PLACES[0]: offset}) for offset in offsets]


def test_what_is_written_is_committed_once_its_last_commit_is_answered():
    ledger = Ledger()
    for entry in begun(ledger, 5, 9):
        ledger.enter(ledger.write(entry, lambda: None))
        assert ledger.to_commit() == ({PLACES[0]: 5} if entry.offsets[PLACES[0]] == 5 else {})
    assert ledger.answered(committed=False)  # given again, unless there is a later one
    assert ledger.to_commit() == {PLACES[0]: 9}
    assert not ledger.answered(committed=True)
    assert ledger.to_commit() == {}


def test_the_last_commit_is_of_all_that_is_written_answered_or_not():
    ledger = Ledger()
    both = ledger.begin({PLACES[0]: 5, PLACES[1]: 7})
    for entry in (both, *begun(ledger, 9)):
        ledger.enter(ledger.write(entry, lambda: None))
        ledger.to_commit()
    assert ledger.to_commit_at_last() == {PLACES[0]: 9, PLACES[1]: 7}
    assert not ledger.answered(committed=False)  # the earlier one: too late to matter
    assert ledger.to_commit() == ledger.to_commit_at_last() == {}


def test_after_a_failure_nothing_is_written_or_committed():
    ledger = Ledger()
    one, two, three = begun(ledger, 5, 9, 12)
    ledger.enter(ledger.write(one, lambda: None))

    def full() -> None:
        raise OutputError("disk full")

    with pytest.raises(OutputError):
        ledger.write(two, full)
    assert ledger.write(three, full) is None
    assert not ledger.wants(three)
    assert ledger.to_commit() == ledger.to_commit_at_last() == {}


def test_a_stop_leaves_what_follows_to_the_next_run(caplog):
    ledger = Ledger()
    one, two, three = begun(ledger, 5, 9, 12)

    def away() -> None:
        raise StoppedError("no registry")

    for entry, flush in ((one, lambda: None), (two, away), (three, away)):
        ledger.enter(ledger.write(entry, flush))
    assert caplog.messages == ["no registry; alerts that need it will come again"]
    assert ledger.to_commit_at_last() == {PLACES[0]: 5}


def test_another_generation_has_nothing_of_the_one_before():
    ledger = Ledger()
    one, two = begun(ledger, 5, 9)
    ledger.enter(ledger.write(one, lambda: None))
    assert ledger.to_commit() == {PLACES[0]: 5}
    assert ledger.wants(two)
    ledger.renew()
    assert not ledger.wants(two)
    ledger.enter(ledger.write(two, lambda: None))
    assert not ledger.answered(committed=False)
    assert ledger.to_commit() == {}
