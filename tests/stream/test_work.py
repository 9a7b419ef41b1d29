"""Walls around the work: what one message causes is a reject, and the others get their scores."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Message
from polars.testing import assert_frame_equal
from streams import alert, settings, small_scorer

from acai_jax.errors import Reject
from acai_jax.score.scorer import Scorer
from acai_jax.stream import work as module
from acai_jax.stream.outputs import ScoreEncoder
from acai_jax.stream.work import Outcome, Work


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise ValueError


ERRORS = (
    *(OverflowError("too large"), MemoryError(), RecursionError("deep"), KeyError("x")),
    *(StopIteration(), AssertionError(), zlib.error("bits"), SpeechlessError(), OSError(5, "I/O")),
    *(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), pl.exceptions.ComputeError("no")),
)
BAD = 3


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return small_scorer()


@pytest.fixture
def work(scorer, tmp_path) -> Work:
    mine = tmp_path / "mine.toml"
    mine.write_text("[all]\nwhere = 'acai_h >= 0'")
    nowhere: Any = type("Broker", (), {"bootstrap": "127.0.0.1:9"})
    given = {"to_topic": "scores", "to_stdout": True, "filters": ("all",), "filters_file": mine}
    return Work(settings(nowhere, tmp_path, "night", **given), scorer)


@pytest.fixture
def messages() -> list[Message]:
    values = [alert(0), alert(1), b"poison", alert(BAD), alert(4)]
    return [
        Message(topic="night", partition=0, offset=n, value=value, timestamp=(1, 1000 * n))
        for n, value in enumerate(values)
    ]


def raising(error: Exception, function: Callable[..., Any], bad: Callable[..., bool]) -> Any:
    def either(*given: Any) -> Any:
        if bad(*given):
            raise error
        return function(*given)

    return either


def fail(
    patch: pytest.MonkeyPatch, scorer: Scorer, stage: str, error: Exception, *, always: bool = False
) -> None:
    """Makes a stage of the work fail for one alert; `always` also for a reject of its name."""

    def bad_alert(alerts: Any, _: object) -> bool:
        return any(a.candid == BAD and (always or not isinstance(a, Reject)) for a in alerts)

    def bad_record(_: object, record: Any) -> bool:
        return record["candid"] == BAD

    def bad_rows(rows: pl.DataFrame, _: object) -> bool:
        return BAD in rows["candid"]

    if stage == "score":
        patch.setattr(scorer, "score_packets", raising(error, scorer.score_packets, bad_alert))
    elif stage == "filter":
        patch.setattr(module, "apply_filter", raising(error, module.apply_filter, bad_rows))
    else:
        function = getattr(ScoreEncoder, stage)
        patch.setattr(ScoreEncoder, stage, raising(error, function, bad_record))


def scores(outcome: Outcome) -> pl.DataFrame:
    return outcome.table.select("candid", "offset", "timestamp", "^acai_.$")


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        *(("score", error) for error in ERRORS),
        *((stage, ERRORS[0]) for stage in ("filter", "message", "line")),
    ],
)
def test_whatever_an_alert_causes_is_its_own_reject(
    work, scorer, messages, monkeypatch, stage, error
):
    sound = work.do(messages)
    assert sound.table["reason"].is_not_null().to_list() == [False, False, True, False, False]
    fail(monkeypatch, scorer, stage, error)
    found = work.do(messages)
    row = found.table.row(3, named=True)
    assert row["reason"].startswith(f"internal error: {type(error).__name__}")
    assert (row["candid"], row["objectId"], row["acai_h"]) == (BAD, "ZTF26test003", None)
    assert found.decoded.to_list() == [True, True, False, False, True]
    others = [0, 1, 2, 4]
    # alone, an alert is scored in a batch of another size
    assert_frame_equal(scores(found)[others], scores(sound)[others], abs_tol=1e-6)
    assert found.table["reason"][others].equals(sound.table["reason"][others])
    assert set(found.encoded) == set(found.lines) == {("night", 0, n) for n in (0, 1, 4)}
    assert json.loads(found.lines["night", 0, 4])["candid"] == 4
    assert found.passed["all"]["candid"].to_list() == [0, 1, 4]


def test_an_alert_whose_very_name_fails_keeps_its_reason_and_place(
    work, scorer, messages, monkeypatch
):
    fail(monkeypatch, scorer, "score", OverflowError("n"), always=True)
    row = work.do(messages).table.row(3, named=True)
    assert (row["candid"], row["offset"]) == (None, 3)
    assert row["reason"] == "internal error: OverflowError: n"


def test_a_device_that_fails_is_no_fault_of_the_alerts(work, scorer, messages, monkeypatch):
    """Else a night's alerts would become rejects, and their offsets be committed."""

    def failing(*_: object) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(scorer, "_forward", failing)
    with pytest.raises(RuntimeError, match="the device is lost"):
        work.do(messages)
