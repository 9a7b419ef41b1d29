"""Tables of a stream: whoever writes, and whatever crashes, each row is there once."""

import contextlib
import itertools
import os
import tempfile
import threading
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import alert, small_scorer

from acai_jax.alerts.packet import read_packet
from acai_jax.classes import CLASSES
from acai_jax.commands.filter import Filter
from acai_jax.errors import OutputError
from acai_jax.stream import tables
from acai_jax.stream.tables import PLACE, StreamTable, scan_tables
from acai_jax.stream.work import places


def rows(
    *candids: int,
    first: int = 0,
    topic: str = "night",
    version: str = "1",
    reason: str | None = None,
) -> pl.DataFrame:
    count = len(candids)
    return pl.DataFrame(
        {
            "candid": candids,
            "acai_h_version": [version] * count,
            "preset": ["acai"] * count,
            "reason": [reason] * count,
            "topic": [topic] * count,
            "partition": [0] * count,
            "offset": range(first, first + count),
            "timestamp": [None] * count,
        },
        schema={
            "candid": pl.Int64,
            **dict.fromkeys(("acai_h_version", "preset", "reason"), pl.String),
            **PLACE,
        },
    )


def writer(folder: Path, version: str = "1") -> StreamTable:
    return StreamTable(folder, ("candid",), {"acai_h_version": version})


def candids(folder: Path) -> list[int]:
    return scan_tables(folder).collect()["candid"].to_list()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_row_is_there_once_whoever_brings_it(tmp_path):
    one, two = writer(tmp_path), writer(tmp_path)
    assert one.add(rows(1, 2, 2)).rows["offset"].to_list() == [0, 1]
    assert two.add(rows(2, 3, first=7)).rows["candid"].to_list() == [3]
    assert one.add(rows(3, first=9)).rows.is_empty()
    assert sorted(candids(tmp_path)) == [1, 2, 3]


def test_the_same_message_again_is_passed_on_but_not_written(tmp_path):
    writer(tmp_path).add(rows(1, 2))
    again = writer(tmp_path)  # after a crash: another process
    found = again.add(rows(1, 2, 5))
    assert found.rows["candid"].to_list() == [1, 2, 5]
    assert found.new["candid"].to_list() == [5]
    assert sorted(candids(tmp_path)) == [1, 2, 5]


def test_an_alert_of_another_topic_is_known_too(tmp_path):
    writer(tmp_path).add(rows(1, topic="ztf_20260101_programid1"))
    assert writer(tmp_path).add(rows(1, 2, topic="ztf_20260102_programid1")).rows.height == 1
    assert len(candids(tmp_path / "ztf_20260101_programid1")) == 1


def test_another_model_scores_the_same_alert_again(tmp_path):
    writer(tmp_path, "1").add(rows(1))
    assert writer(tmp_path, "2").add(rows(1, version="2")).rows.height == 1
    assert writer(tmp_path, "1").add(rows(1, first=5)).rows.is_empty()
    assert candids(tmp_path) == [1, 1]
    other_heads = rows(1).rename({"acai_h_version": "acai_tde_version"})
    other_model = StreamTable(tmp_path, ("candid",), {"acai_tde_version": "1"})
    assert other_model.add(other_heads).rows.height == 1
    assert len(candids(tmp_path)) == 3


def standing(folder: Path) -> list[tuple[int, str | None]]:
    return scan_tables(folder).select("candid", "reason").sort("candid").collect().rows()


def test_an_alert_without_scores_gives_way_to_one_with_scores_and_never_comes_back(tmp_path):
    one, two = writer(tmp_path), writer(tmp_path)
    one.add(rows(1, 2, reason="null feature: drb"))
    assert standing(tmp_path) == [(1, "null feature: drb"), (2, "null feature: drb")]
    assert two.add(rows(1, first=7, reason="another")).rows.is_empty()
    found = two.add(rows(1, first=8, topic="later"))
    assert (found.rows.height, found.new.height, found.upgraded) == (1, 1, 1)
    for table in (one, two, writer(tmp_path)):
        assert table.add(rows(1, first=9, reason="null feature: drb")).rows.is_empty()
        assert table.add(rows(1, first=9)).rows.is_empty()
        again = table.add(rows(1, first=8, topic="later"))  # the same message: passed on again
        assert (again.rows.height, again.new.height, again.upgraded) == (1, 0, 0)
    assert standing(tmp_path) == [(1, None), (2, "null feature: drb")]
    one.close()
    two.close()
    assert standing(tmp_path) == [(1, None), (2, "null feature: drb")]


def test_the_same_message_may_get_its_scores_later(tmp_path):
    """When braai's weights are there, and the topic is read again."""
    writer(tmp_path).add(rows(1, 2, reason="null feature: drb"))
    found = writer(tmp_path).add(rows(1, 2))
    assert (found.rows.height, found.upgraded) == (2, 2)
    assert standing(tmp_path) == [(1, None), (2, None)]
    assert writer(tmp_path).add(rows(1, 2, reason="null feature: drb")).rows.is_empty()


def test_of_rows_that_come_together_the_one_with_scores_is_kept(tmp_path):
    together = pl.concat([rows(1, reason="no stamp"), rows(1, 2, first=1)])
    found = writer(tmp_path).add(together)
    assert (found.rows["offset"].to_list(), found.upgraded) == ([1, 2], 0)
    assert standing(tmp_path) == [(1, None), (2, None)]


def test_scores_of_another_model_take_no_ones_place(tmp_path):
    writer(tmp_path, "1").add(rows(1, reason="no stamp"))
    assert writer(tmp_path, "2").add(rows(1, version="2")).upgraded == 0
    assert scan_tables(tmp_path).collect()["reason"].to_list().count(None) == 1
    assert candids(tmp_path) == [1, 1]


def test_rows_of_several_identities(tmp_path):
    identity = ("offset", "partition", "topic", "candid")
    table = StreamTable(tmp_path, identity)
    table.add(rows(1, 1))
    assert candids(tmp_path) == [1, 1]
    again = StreamTable(tmp_path, identity)
    assert again.add(rows(1, 1)).new.is_empty()
    # another message at a place that was used: a log that began anew
    assert again.add(rows(2)).new.height == 1


def test_small_files_are_merged_and_closing_leaves_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MERGED_FILES", 3)
    monkeypatch.setattr(tables, "_LARGEST_SPAN", 9)
    table = writer(tmp_path)
    for number in range(20):
        table.add(rows(number, first=number))
    spans = [name.split("-")[1:] for name in files(tmp_path)]
    assert [(int(a), int(b[:8])) for a, b in spans] == [(1, 9), (10, 18), (19, 19), (20, 20)]
    assert candids(tmp_path) == list(range(20))
    table.close()
    assert len(files(tmp_path)) == 3
    assert writer(tmp_path).add(rows(*range(21), first=50)).rows["candid"].to_list() == [20]


def test_a_crash_while_merging_leaves_nothing_double(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MERGED_FILES", 3)
    table = writer(tmp_path)
    table.add(rows(1))
    table.add(rows(2, first=1))
    monkeypatch.setattr(Path, "unlink", die_removing_parts)
    with pytest.raises(Killed):
        table.add(rows(3, first=2))
    monkeypatch.undo()
    assert len(files(tmp_path)) == 4
    assert candids(tmp_path) == [1, 2, 3]
    writer(tmp_path)
    assert len(files(tmp_path)) == 1
    assert candids(tmp_path) == [1, 2, 3]


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: object, **__: object) -> None:
    raise Killed


def die_removing_parts(path: Path, missing_ok: bool = False) -> None:
    if not path.name.startswith("."):
        raise Killed
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class Sequence:
    """Two writers at one folder, and crashes between any two of their steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers = [writer(folder), writer(folder)]
        self.sent: dict[int, str | None] = {}

    def step(
        self, which: int, crash: str, reason: str | None, batch: list[int], first: int
    ) -> None:
        table = self.writers[which]
        monkeypatch = pytest.MonkeyPatch()
        if crash == "before the rename":
            monkeypatch.setattr(Path, "replace", die)
        elif crash == "before the old files are removed":
            monkeypatch.setattr(Path, "unlink", die_removing_parts)
        try:
            table.add(rows(*batch, first=first, reason=reason))
            for candid in batch:  # what has scores stays, and so does the first reason
                self.sent[candid] = self.sent.get(candid, reason) if reason else None
        except Killed:
            crash = "now"
        finally:
            monkeypatch.undo()
        if crash != "no":
            self.writers[which] = writer(self.folder)
            if crash == "now":  # nothing was committed: the messages come again, to the other one
                self.step(1 - which, "no", reason, batch, first)
        elif len(batch) == 1:
            table.close()
        assert standing(self.folder) == sorted(self.sent.items())


CRASHES = ("no", "no", "no", "after", "before the rename", "before the old files are removed")


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(CRASHES),
            st.sampled_from((None, "one", "another")),
            st.lists(st.integers(0, 25), min_size=1, max_size=5),
        ),
        max_size=10,
    )
)
def test_any_sequence_of_writes_and_crashes_gives_each_alert_once(steps):
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(tables, "_MERGED_FILES", 2)
    monkeypatch.setattr(tables, "_LARGEST_SPAN", 8)
    with tempfile.TemporaryDirectory() as folder:
        sequence = Sequence(Path(folder))
        for number, (which, crash, reason, batch) in enumerate(steps):
            sequence.step(which, crash, reason, batch, first=10 * number)
        writer(Path(folder))
        assert not any(name.endswith(".tmp") for name in files(Path(folder)))
    monkeypatch.undo()


def test_writers_at_the_same_time(tmp_path):
    """Four threads bring the same alerts in different orders."""

    def work(number: int) -> None:
        table = writer(tmp_path)
        for start in range(0, 60, 6):
            batch = [(start * (number + 1) + i) % 60 for i in range(6)]
            table.add(rows(*batch, *range(start, start + 6), first=1000 * number + 20 * start))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(candids(tmp_path)) == list(range(60))


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_there(tmp_path):
    table = writer(tmp_path)
    (tmp_path / "night").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="night"):
        table.add(rows(1))
    (tmp_path / "night").unlink()
    assert table.add(rows(1)).rows.height == 1
    with pytest.raises(OutputError, match="night"):
        StreamTable(tmp_path / "night" / files(tmp_path)[0] / "below", ("candid",))


def test_a_write_that_fails_after_the_rename_is_found_again(tmp_path, monkeypatch):
    table = writer(tmp_path)
    table.add(rows(1))
    fsync, calls = os.fsync, itertools.count()

    def failing(descriptor: int) -> None:
        if next(calls) == 1:  # the folder's, after the file's
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        table.add(rows(2, first=1))
    assert table.add(rows(2, 3, first=1)).rows["candid"].to_list() == [2, 3]
    assert candids(tmp_path) == [1, 2, 3]


def test_a_damaged_file_is_an_error_not_a_gap(tmp_path):
    writer(tmp_path).add(rows(1))
    (tmp_path / "night" / f"{'0' * 16}-00000001-00000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match="damaged file"):
        writer(tmp_path).add(rows(2))


@pytest.mark.parametrize("missing", [["drb_source"], ["drb_source", "reason"]])
def test_files_of_earlier_versions_have_fewer_columns(tmp_path, missing):
    """Writers know what is in them, and readers read them beside new ones."""
    messages = [
        Message(topic="night", partition=0, offset=number, value=alert(number), timestamp=(1, 0))
        for number in range(5)
    ]
    scored = small_scorer().score_packets([read_packet(m.value() or b"") for m in messages])
    table = scored.hstack(places(messages))
    old = tmp_path / "scores" / "night" / f"{'0' * 16}-00000001-00000001.parquet"
    old.parent.mkdir(parents=True)
    table[:3].drop(missing).write_parquet(old)
    out = tmp_path / "passed.csv"
    for count in (3, 5):
        found = scan_tables(tmp_path).sort("candid").collect()
        assert found["acai_h"].equals(table["acai_h"][:count])
        Filter(table=tmp_path, where="acai_h >= 0", out=out, overwrite=True).run()
        assert pl.read_csv(out)["candid"].sort().to_list() == list(range(count))
        model = {f"acai_{name}_version": f"test_{name}" for name in CLASSES}
        new = StreamTable(tmp_path / "scores", ("candid",), model).add(table).new
        assert new["candid"].to_list() == ([3, 4] if count == 3 else [])
    found = scan_tables(tmp_path).sort("candid").collect()
    assert found["drb_source"].to_list() == [None] * 3 + ["packet"] * 2
    assert found["reason"].null_count() == 5


def test_folders_without_tables_are_errors(tmp_path):
    with pytest.raises(OutputError, match="no table of a stream"):
        scan_tables(tmp_path)
    with pytest.raises(OutputError, match="no such folder"):
        scan_tables(tmp_path / "nowhere")
