"""Events that are only ever added, and what they add up to."""

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acai_jax.errors import LabelsError, OutputError
from acai_jax.labelling import store as store_module
from acai_jax.labelling.store import (
    LEASE_SECONDS,
    Asked,
    Event,
    LabelStore,
    Standing,
    _is_on_network,
    decided,
)


def event(request, labeller="ann", alert_id=7, label=None, action=None, **more) -> Event:
    action = action or ("label" if label else "skip")
    return Event(
        request=str(request),
        labeller=labeller,
        action=action,
        alert_id=alert_id,
        object_id=f"ZTF26test{alert_id:03d}",
        label=label,
        **more,
    )


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    yield store
    store.close()


def test_events_keep_all_that_is_known_of_them(store):
    asked = Asked(why="boundary", head="h", score=0.25, round=3, model="v1")
    exact = 2**63 - 1  # a float would lose its last digits
    given = event("a", alert_id=exact, label="h", comment="faint", seconds=1.5, asked=asked)
    (stored,) = store.append([given])
    assert stored.time > 1.7e9
    assert list(store.history()) == [stored]
    assert (stored.alert_id, stored.asked, stored.comment) == (exact, asked, "faint")


def test_an_event_is_durable_before_it_is_said_to_be_saved(store):
    assert store._events.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._events.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_request_that_is_sent_again_adds_nothing(store):
    first = store.append([event("a", label="h"), event("b", label="n", alert_id=8)])
    again = store.append([event("b", label="n", alert_id=8), event("c", label="v", alert_id=9)])
    assert again[0] == first[1]
    assert [each.number for each in store.history()] == [1, 2, 3]
    with pytest.raises(LabelsError, match="request a is that of another event"):
        store.append([event("d", label="h"), event("a", label="o")])
    assert len(list(store.history())) == 3  # all or none


def test_events_cannot_be_changed_or_removed(store):
    store.append([event("a", label="h")])
    for change in ("UPDATE events SET label = 'n'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            store._events.execute(change)


def test_an_undo_lets_the_answer_before_it_stand_again(store):
    store.append([event("a", label="h"), event("b", label="n")])
    assert store.standing().labels(7) == {"ann": "n"}
    store.append([event("c", action="undo", undoes="b")])
    assert store.standing().labels(7) == {"ann": "h"}
    store.append([event("d", action="undo", undoes="a")])
    assert store.standing().alert_ids() == []


@pytest.mark.parametrize("undoes", ["z", "a"])
def test_nobody_undoes_what_is_not_theirs(store, undoes):
    store.append([event("a", label="h")])
    with pytest.raises(LabelsError, match="no answer of bob"):
        store.append([event("b", labeller="bob", action="undo", undoes=undoes)])


def test_skipped_alerts_come_back_last(store):
    assert store.take("ann", [7, 8, 9], 2) == [7, 8]
    store.append([event("a", alert_id=7)])
    assert store.take("ann", [7, 8, 9], 9) == [8, 9, 7]
    store.append([event("b", alert_id=8, label="h"), event("c", alert_id=9)])
    assert store.take("ann", [7, 8, 9], 9) == [7, 9]
    store.append([event("d", alert_id=7)])
    assert store.take("ann", [7, 8, 9], 9) == [9, 7]


def test_two_labellers_get_no_alert_both_unless_it_needs_two_opinions(store):
    assert store.take("ann", [7, 8, 9], 2, now=0.0) == [7, 8]
    assert store.take("bob", [7, 8, 9], 9, now=1.0) == [9]
    assert store.take("bob", [7, 8, 9], 9, lambda alert_id: 1 + (alert_id == 7), now=1.0) == [7, 9]
    # who has gone leaves the alerts to others, and keeps what is answered
    store.append([event("a", alert_id=8, label="h")])
    assert store.take("bob", [7, 8, 9], 9, now=LEASE_SECONDS + 0.5) == [7, 9]


def test_alerts_without_a_clear_label_go_to_one_more_labeller(store):
    both = lambda alert_id: 2  # noqa: E731
    assert store.take("ann", [7], 1, both) == [7]
    store.append([event("a", label="h")])
    assert store.take("bob", [7], 1, both) == [7]  # who has answered holds it no more
    store.append([event("b", labeller="bob", label="n")])
    assert store.take("ann", [7], 1, both) == []
    assert store.take("cyd", [7], 1, both) == [7]
    store.append([event("c", labeller="cyd", label="n")])
    assert store.take("dan", [7], 1, both) == []
    store.append([event("d", alert_id=8, action="unsure")])
    assert store.take("ann", [8], 1) == []
    assert store.take("bob", [8], 1) == [8]


def test_processes_see_what_others_store(store, tmp_path):
    other = LabelStore(tmp_path / "labels.db")
    store.append([event("a", label="h")])
    assert other.standing().labels(7) == {"ann": "h"}
    other.append([event("b", labeller="bob", label="n")])
    assert store.standing().labels(7) == {"ann": "h", "bob": "n"}
    assert store.take("ann", [8], 1) == [8]
    assert other.take("bob", [8], 1) == []
    other.close()


def _label_until_killed(path: Path, said) -> None:
    store = LabelStore(path)
    for number in range(10**6):
        store.append([event(number, label="h", alert_id=number)])
        said.send(number)


def test_a_killed_process_loses_nothing_that_it_had_acknowledged(tmp_path):
    context = multiprocessing.get_context("spawn")
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=_label_until_killed, args=(tmp_path / "labels.db", said))
    process.start()
    last = [heard.recv() for _ in range(10)][-1]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while heard.poll():
        last = heard.recv()
    store = LabelStore(tmp_path / "labels.db")
    stored = [int(each.request) for each in store.history()]
    assert stored[: last + 1] == [*range(last + 1)]
    assert len(stored) <= last + 2  # one may have been stored and not acknowledged
    store.close()


@pytest.mark.parametrize(
    ("content", "error"), [(b"no database at all" * 99, LabelsError), (None, LabelsError)]
)
def test_other_files_are_refused(tmp_path, content, error):
    path = tmp_path / "other.db"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE other (x)")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(error, match=r"other\.db is no store of labels"):
        LabelStore(path)


def test_a_place_that_is_not_there_is_said(tmp_path):
    with pytest.raises(OutputError, match="no_folder"):
        LabelStore(tmp_path / "no_folder" / "labels.db")


def test_a_network_disk_gets_no_write_ahead_log(tmp_path, monkeypatch):
    assert not _is_on_network(tmp_path / "labels.db")
    monkeypatch.setattr(store_module, "_is_on_network", lambda path: True)
    store = LabelStore(tmp_path / "labels.db")
    assert store._events.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    store.append([event("a", label="h")])
    store.close()


LABELLERS = ("ann", "bob")


@given(st.data())
def test_what_stands_is_what_a_labeller_last_said_and_did_not_take_back(data):
    standing, said = Standing(), {name: [] for name in LABELLERS}
    for number in range(data.draw(st.integers(0, 12))):
        name = data.draw(st.sampled_from(LABELLERS))
        if said[name] and data.draw(st.booleans()):
            request, _ = said[name].pop(data.draw(st.integers(0, len(said[name]) - 1)))
            standing.add(event(number, name, action="undo", undoes=request))
        else:
            label = data.draw(st.sampled_from(["h", "n", None]))
            said[name].append((str(number), label))
            standing.add(event(number, name, label=label))
    expected = {name: answers[-1][1] for name, answers in said.items() if answers}
    expected = {name: label for name, label in expected.items() if label}
    assert standing.labels(7) == expected
    assert (standing.missing(7, 1) == 0) == (decided(expected.values()) is not None)
