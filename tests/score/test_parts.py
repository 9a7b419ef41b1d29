"""Score tables in parts: whatever kills a run, its rows are there once, in order."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from acai_jax.errors import OutputError, UsageError
from acai_jax.score import parts
from acai_jax.score.parts import PartWriter

RUN = {"inputs": ["night.tar"], "preset": "acai"}


def table(first: int, count: int = 3) -> pl.DataFrame:
    candid = range(first, first + count)
    return pl.DataFrame(
        {"candid": candid, "reason": ["null feature: drb" if c % 5 == 0 else None for c in candid]},
        schema={"candid": pl.Int64, "reason": pl.String},
    )


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "_PART_ROWS", 5)


def test_complete_run(tmp_path, small_parts):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN) as writer:
        for first in range(0, 30, 3):
            writer.add(table(first))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(30))
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
    assert dict(writer.summary().iter_rows()) == {None: 24, "null feature": 6}


def interrupt(out: Path, chunks: int, **flags: bool) -> None:
    with contextlib.suppress(KeyboardInterrupt), PartWriter(out, RUN, **flags) as writer:
        for chunk in range(chunks):
            writer.add(table(3 * chunk))
        raise KeyboardInterrupt


def test_an_interrupted_run_leaves_readable_parts_and_is_resumed(tmp_path, small_parts):
    out = tmp_path / "scores.parquet"
    interrupt(out, 5)
    assert not out.exists()
    written = pl.read_parquet(tmp_path / "scores.parquet.parts" / "*.parquet")
    assert written["candid"].to_list() == list(range(15))
    with PartWriter(out, RUN, resume=True) as writer:
        assert (writer.chunks_done, writer.rows_done()) == (5, 15)
        for chunk in range(writer.chunks_done, 10):
            writer.add(table(3 * chunk))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(30))


def test_a_killed_run_is_resumed_without_gaps_or_doubles(tmp_path):
    out = tmp_path / "scores.parquet"
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from test_parts import RUN, table\n"
        "from acai_jax.score import parts; parts._PART_ROWS = 5\n"
        "with parts.PartWriter(sys.argv[1], RUN) as writer:\n"
        "    for chunk in range(10_000):\n"
        "        writer.add(table(3 * chunk)); time.sleep(0.005)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, out, Path(__file__).parent])
    folder = tmp_path / "scores.parquet.parts"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("part-*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with PartWriter(out, RUN, resume=True) as writer:
        done = writer.chunks_done
        assert done >= 8
        assert writer.rows_done() == 3 * done
        writer.add(table(3 * done))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(3 * done + 3))


def test_nothing_is_overwritten_unasked(tmp_path):
    out = tmp_path / "scores.parquet"
    interrupt(out, 1)
    with pytest.raises(OutputError, match=r"parts exists: --resume goes on"):
        PartWriter(out, RUN)
    with PartWriter(out, RUN, overwrite=True) as writer:
        assert writer.chunks_done == 0
        writer.add(table(100))
    with pytest.raises(OutputError, match="exists"):
        PartWriter(out, RUN)
    assert pl.read_parquet(out)["candid"].to_list() == [100, 101, 102]


def test_a_run_of_something_else_is_not_resumed(tmp_path):
    out = tmp_path / "scores.parquet"
    interrupt(out, 1)
    with pytest.raises(OutputError, match=r"another run \(preset differ\)"):
        PartWriter(out, {**RUN, "preset": "boom"}, resume=True)
    with PartWriter(out, RUN, overwrite=True) as writer:  # refusing left no lock behind
        writer.add(table(0))


def test_a_finished_table_of_another_run_is_not_taken_for_this_one(tmp_path):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN) as writer:
        writer.add(table(0))
    with pytest.raises(OutputError, match=r"scores\.parquet belongs to another run \(inputs"):
        PartWriter(out, {**RUN, "inputs": ["other.tar"]}, resume=True)


def test_two_runs_cannot_write_to_one_file(tmp_path):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN) as writer:
        writer.add(table(0))
        for flags in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError, match="another run is writing"):
                PartWriter(out, RUN, **flags)
        writer.add(table(3))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(6))


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("scores.csv", {}, r"should end in \.parquet"),
        ("folder.parquet", {"overwrite": True}, "is a folder"),
        ("new.parquet", {"resume": True, "overwrite": True}, "exclude each other"),
    ],
)
def test_impossible_outputs_are_refused_at_once(tmp_path, name, flags, message):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises((OutputError, UsageError), match=message):
        PartWriter(tmp_path / name, RUN, **flags)


def test_resuming_a_complete_run_does_nothing(tmp_path):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN, resume=True) as writer:
        writer.add(table(0))
    before = out.read_bytes()
    with PartWriter(out, RUN, resume=True) as writer:
        assert writer.complete
    assert out.read_bytes() == before


def test_a_missing_part_is_done_again(tmp_path, small_parts):
    out = tmp_path / "scores.parquet"
    interrupt(out, 6)
    folder = tmp_path / "scores.parquet.parts"
    sorted(folder.glob("part-*"))[1].unlink()
    with PartWriter(out, RUN, resume=True) as writer:
        assert writer.chunks_done == 2
        for chunk in range(2, 6):
            writer.add(table(3 * chunk))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(18))


@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("damaged", [0, 1])
def test_a_part_that_cannot_be_read_is_done_again(tmp_path, small_parts, size, damaged):
    out = tmp_path / "scores.parquet"
    interrupt(out, 6)
    folder = tmp_path / "scores.parquet.parts"
    part = sorted(folder.glob("part-*"))[damaged]
    part.write_bytes(part.read_bytes()[:size])
    (folder / ".part-000000006-000000008.parquet.7.tmp").write_bytes(b"half")
    (folder / "whole.parquet").write_bytes(b"half")
    with PartWriter(out, RUN, resume=True) as writer:
        again = f"chunks from {2 * damaged + 1} on are done again"
        assert writer.problems == [f"{part} cannot be read: {again}"]
        assert writer.chunks_done == 2 * damaged
        assert len(list(folder.iterdir())) == 1 + damaged
        for chunk in range(writer.chunks_done, 6):
            writer.add(table(3 * chunk))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(18))


@pytest.mark.parametrize("content", [b"", b'{"inputs"', b"\xff", b"[7]"])
def test_a_run_that_is_not_known_any_more_starts_again(tmp_path, small_parts, content):
    out = tmp_path / "scores.parquet"
    interrupt(out, 3)
    (tmp_path / "scores.parquet.parts" / "run.json").write_bytes(content)
    with PartWriter(out, RUN, resume=True) as writer:
        assert "run.json cannot be read: all is done again" in writer.problems[0]
        assert writer.chunks_done == 0
        writer.add(table(0))
    assert pl.read_parquet(out)["candid"].to_list() == [0, 1, 2]


def test_a_crash_at_any_step_of_the_end_is_resumed(tmp_path, small_parts, monkeypatch):
    """The end is: the whole file, its name, then `run.json` and the parts removed."""

    class Crash(BaseException):
        pass

    steps: list[int] = []

    def crashing(step):
        def run(*arguments, **options):
            steps.append(0)
            if len(steps) == crash_at:
                raise Crash
            return step(*arguments, **options)

        return run

    for name in ("put_in_place", "sync"):
        monkeypatch.setattr(parts, name, crashing(getattr(parts, name)))
    monkeypatch.setattr(parts.shutil, "rmtree", crashing(parts.shutil.rmtree))
    crashes = 0
    for crash_at in range(1, 9):
        steps.clear()
        out = tmp_path / str(crash_at) / "scores.parquet"
        try:
            with PartWriter(out, RUN) as writer:
                for chunk in range(4):
                    writer.add(table(3 * chunk))
        except Crash:
            crashes += 1
        steps.extend([0] * 9)  # no more crashes
        with PartWriter(out, RUN, resume=True) as writer:
            for chunk in range(writer.chunks_done, 0 if writer.complete else 4):
                writer.add(table(3 * chunk))
        assert pl.read_parquet(out)["candid"].to_list() == list(range(12))
        assert [path.name for path in out.parent.iterdir()] == ["scores.parquet"]
    assert crashes >= 4


def test_a_finished_file_that_is_damaged_is_made_again(tmp_path):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN) as writer:
        writer.add(table(0))
    out.write_bytes(out.read_bytes()[:100])
    with PartWriter(out, RUN, resume=True) as writer:
        assert writer.problems == [f"{out} cannot be read: all is done again"]
        writer.add(table(0))
    assert pl.read_parquet(out)["candid"].to_list() == [0, 1, 2]


def test_an_overwriting_run_that_was_interrupted_goes_on(tmp_path, small_parts):
    out = tmp_path / "scores.parquet"
    with PartWriter(out, RUN) as writer:
        writer.add(table(100))
    interrupt(out, 1, overwrite=True)
    with PartWriter(out, RUN, resume=True) as writer:
        assert (writer.complete, writer.chunks_done) == (False, 1)
        writer.add(table(3))
    assert pl.read_parquet(out)["candid"].to_list() == list(range(6))


def test_no_alerts_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="no alerts"), PartWriter(tmp_path / "s.parquet", RUN):
        pass
