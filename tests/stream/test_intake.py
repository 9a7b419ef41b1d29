"""The intake: when a batch is due, and what it knows of its partitions."""

from collections.abc import Callable

import pytest

from acai_jax.stream import intake as module
from acai_jax.stream.intake import Intake

ONE, TWO, THREE = (("night", number) for number in (1, 2, 3))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake(clock: Clock) -> Intake[str]:
    return Intake(batch_size=3, batch_seconds=2.0, clock=clock)


def test_nothing_is_never_due(intake: Intake[str], clock: Clock):
    clock.now += 100
    assert (intake.due(), intake.in_hand, intake.room, intake.patience(0.1)) == (False, 0, 3, 0.1)


def test_a_batch_is_due_once_it_is_full_and_knows_where_to_go_on(intake: Intake[str]):
    for number, place in enumerate((ONE, TWO, ONE)):
        assert (intake.due(), intake.room) == (False, 3 - number)
        intake.take(f"message {number}", place, 10 + number, size=1)
    assert (intake.due(), intake.room) == (True, 0)
    messages, offsets = intake.hand_over()
    assert messages == ["message 0", "message 1", "message 2"]
    assert offsets == {ONE: 13, TWO: 12}
    assert (intake.due(), intake.in_hand) == (False, 0)
    assert intake.hand_over() == ([], {})


def test_a_batch_is_due_once_its_first_message_has_waited(intake: Intake[str], clock: Clock):
    for _ in range(2):
        intake.take("first", ONE, 0, size=1)
        clock.now += 1.75
        intake.take("second", ONE, 1, size=1)
        assert not intake.due()
        assert (intake.patience(0.5), intake.patience(0.125)) == (0.25, 0.125)
        clock.now += 0.25
        assert intake.due()
        intake.hand_over()


def test_large_messages_are_due_at_once(intake: Intake[str]):
    for _ in range(2):
        intake.take("half", ONE, 0, size=module._BATCH_BYTES // 2)
        assert not intake.due()
        intake.take("half", ONE, 1, size=module._BATCH_BYTES // 2)
        assert intake.due()
        intake.hand_over()


def test_the_end_is_there_once_every_partition_of_ours_has_ended(intake: Intake[str]):
    assert not intake.at_end()  # not known yet
    intake.assign([ONE, TWO])
    intake.end(ONE, 0)
    assert not intake.at_end()
    intake.end(TWO, 0)
    assert intake.at_end()
    intake.take("late", ONE, 0, size=1)
    assert not intake.at_end()
    intake.end(ONE, 0)
    assert intake.at_end()
    intake.withdraw()
    assert not intake.at_end()
    intake.assign([TWO])
    assert not intake.at_end()  # nor is what it once knew of it
    intake.assign([])
    assert intake.at_end()


def ends(**offsets: int | None) -> Callable[[tuple[str, int]], int | None]:
    return lambda place: offsets[f"p{place[1]}"]


def test_the_lag_is_that_of_partitions_of_ours_that_have_been_read(intake: Intake[str]):
    intake.take("message", ONE, 4, size=1)
    intake.take("message", TWO, 9, size=1)
    assert intake.lag(ends()) == 0
    intake.assign([ONE, TWO, THREE])
    assert intake.lag(ends(p1=7, p2=30)) == 2 + 20
    assert intake.lag(ends(p1=None, p2=10)) == 0
    assert intake.lag(ends(p1=2, p2=11)) == 1  # an old figure of the broker's
    intake.assign([TWO])
    assert intake.lag(ends(p2=30)) == 20


def test_what_was_held_is_released_also_if_it_was_lost_in_the_meantime(intake: Intake[str]):
    assert not intake.holding
    assert intake.hold() == set()
    intake.assign([ONE, TWO])
    assert intake.hold() == {ONE, TWO}
    intake.withdraw()
    intake.assign([THREE])
    assert intake.hold() == {THREE}
    assert intake.holding
    assert intake.release() == {ONE, TWO, THREE}
    assert not intake.holding
    assert intake.release() == set()
