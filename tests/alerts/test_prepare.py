import itertools
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.prepare import (
    CHUNK_ALERTS,
    chunks,
    prepare,
    prepare_alerts,
    prepare_chunks,
    row_columns,
)
from acai_jax.alerts.sources import Encoded, encoded_alerts, read_alerts
from acai_jax.errors import Reject
from acai_jax.surveys.ztf import FEATURE_NAMES, ZTF

ROOT = Path(__file__).parents[2]


@pytest.fixture
def night(tmp_path):
    """Three files: sound alerts, some that cannot be scored, and one that is no alert."""
    records = [packet_record(i) for i in range(40)]
    records[5]["candidate"]["magpsf"] = None
    records[7]["candidate"]["drb"] = None
    records[9]["cutoutScience"] = None
    (tmp_path / "a.avro").write_bytes(avro_bytes(*records))
    (tmp_path / "b.avro").write_bytes(b"no alert")
    (tmp_path / "c.avro").write_bytes(avro_bytes(packet_record(40), codec="deflate"))
    return tmp_path


def small_chunks(pieces, size=1):
    pieces = iter(pieces)
    while chunk := list(itertools.islice(pieces, size)):
        yield chunk


def pieces_of(night):
    """One piece for each alert, in order."""
    records = [packet_record(i) for i in range(12)]
    records[5]["candidate"]["magpsf"] = None
    pieces = [Encoded(f"m{i}", avro_bytes(record)) for i, record in enumerate(records)]
    return [*pieces, *encoded_alerts(night)]


def test_chunks_are_deterministic(night):
    def shape():
        return [[p.origin for p in chunk] for chunk in chunks(encoded_alerts(night))]

    assert shape() == shape()


def test_chunks_close_by_count_and_by_size():
    small = [Encoded(str(i), b"x") for i in range(2 * CHUNK_ALERTS + 3)]
    assert [len(c) for c in chunks(small)] == [CHUNK_ALERTS, CHUNK_ALERTS, 3]
    large = [Encoded(str(i), bytes(20 * 2**20)) for i in range(3)]
    assert [len(c) for c in chunks(large)] == [2, 1]
    claimed = [Encoded(str(i), b"", 10**9) for i in range(2)]
    assert [len(c) for c in chunks(claimed)] == [1, 1]
    assert list(chunks([])) == []


def test_rows_and_arrays(night):
    (chunk,) = chunks(encoded_alerts(night))
    prepared = prepare(chunk, "acai")
    columns = prepared.columns
    assert tuple(columns) == row_columns()
    assert {len(column) for column in columns.values()} == {42}
    assert prepared.accepted.tolist() == [i for i in range(42) if i not in (5, 9, 40)]
    assert prepared.features.shape == (39, 25)
    assert prepared.triplets.shape == (39, 63, 63, 3)
    assert prepared.source_bytes == sum(path.stat().st_size for path in night.iterdir())

    assert columns["reason"][5] == "null feature: magpsf"
    assert columns["candid"][5] == packet_record(5)["candid"]
    assert columns["objectId"][5] == "ZTF26test005"
    assert columns["jd"][5] == packet_record(5)["candidate"]["jd"]
    assert columns["reason"][9] == "null stamp (cutoutScience)"
    assert columns["reason"][40].startswith("not an Avro container")
    assert columns["candid"][40] is columns["jd"][40] is columns["drb_source"][5] is None
    assert columns["origin"][40] == str(night / "b.avro")
    assert columns["drb_source"][7] == "braai"
    assert columns["drb"][7] is None
    assert [r is None for r in columns["reason"]] == [i in prepared.accepted for i in range(42)]

    by_hand = [packet for packet in read_alerts(night) if isinstance(packet, AlertPacket)]
    assert [c for c in columns["candid"] if c is not None] == [p.candid for p in by_hand]


def test_drb_column_says_what_was_used(night):
    (chunk,) = chunks(encoded_alerts(night))
    columns = prepare(chunk, "kowalski").columns
    assert (columns["drb_source"][7], columns["drb"][7]) == ("rb", 0.75)
    assert prepare(chunk, "boom").columns["reason"][7] == "null feature: drb"


def test_only_rejects():
    prepared = prepare_alerts([Reject("broken: badly", 7, "ZTF1", "a")] * 2, "acai")
    assert prepared.features.shape == (0, 25)
    assert prepared.triplets.shape == (0, 63, 63, 3)
    assert prepared.columns["reason"] == ["broken: badly"] * 2
    assert prepared.columns["candid"] == [7, 7]
    assert prepared.columns["objectId"] == ["ZTF1", "ZTF1"]


def test_values_fit_their_columns():
    packet = next(iter(decoded(packet_record(isdiffpos=1, ndethist=4.0, nbad=float("nan")))))
    columns = prepare_alerts([packet], "acai").columns
    assert columns["isdiffpos"] == ["1"]
    assert columns["ndethist"] == [4]
    assert isinstance(columns["ndethist"][0], int)
    assert columns["nbad"] == [None]
    assert columns["fid"] == [1]
    for name, expected in [("isdiffpos", ["t"]), ("jd", [2460000.0])]:
        value = True if name == "isdiffpos" else 2460000
        (packet,) = decoded(packet_record(**{name: value}))
        assert prepare_alerts([packet], "acai").columns[name] == expected


def decoded(record):
    from acai_jax.alerts.sources import decode

    return list(decode(Encoded("here", [record])))


def same(left, right):
    assert repr(left.columns) == repr(right.columns)
    np.testing.assert_array_equal(left.accepted, right.accepted)
    np.testing.assert_array_equal(left.features, right.features)
    np.testing.assert_array_equal(left.triplets, right.triplets)
    assert left.source_bytes == right.source_bytes


def test_workers_change_nothing(night):
    pieces = pieces_of(night)
    alone = list(prepare_chunks(small_chunks(pieces), "acai", 0))
    shared = list(prepare_chunks(small_chunks(pieces), "acai", 2))
    assert len(alone) == len(shared) == len(pieces)
    for left, right in zip(alone, shared, strict=True):
        same(left, right)
    reasons = [reason for p in alone for reason in p.columns["reason"]]
    assert reasons.count("null feature: magpsf") == 2


def test_slow_consumer_is_not_run_ahead_of(night):
    pulled = 0

    def counted():
        nonlocal pulled
        for piece in itertools.cycle(pieces_of(night)[:3]):
            pulled += 1
            yield [piece]

    results = prepare_chunks(counted(), "acai", 1)
    for taken in range(1, 6):
        next(results)
        assert pulled <= taken + 3
    results.close()


def run_python(source, *arguments):
    """Runs a program that comes on standard input, as from a notebook or a shell."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-", *map(str, arguments)],
        input=textwrap.dedent(source),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )


def test_reading_imports_no_jax():
    done = run_python(
        """
        import sys
        import acai_jax.alerts.prepare
        heavy = {"jax", "jaxlib", "flax", "tensorflow", "astropy", "pyarrow", "polars", "h5py"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert done.stdout == "[]\n", done.stderr


def test_workers_start_from_a_script_without_a_guard(night):
    done = run_python(
        """
        import sys
        from acai_jax.alerts.sources import encoded_alerts
        from acai_jax.alerts.prepare import chunks, prepare_chunks
        for prepared in prepare_chunks(chunks(encoded_alerts(sys.argv[1])), "acai", 2):
            print(len(prepared.columns["candid"]), len(prepared.accepted))
        """,
        night,
    )
    assert (done.stdout, done.stderr) == ("42 39\n", "")


def test_columns_are_the_tables():
    assert set(FEATURE_NAMES) < set(ZTF.table_fields) < set(row_columns())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_workers_end_when_their_parent_is_killed(night):
    done = run_python(
        """
        import os, signal, sys
        from pathlib import Path
        from acai_jax.alerts.sources import encoded_alerts
        from acai_jax.alerts.prepare import prepare_chunks

        def chunks_until_killed():
            for _ in range(4):
                yield list(encoded_alerts(sys.argv[1]))
            for stat in Path("/proc").glob("[0-9]*/stat"):
                pid, _, rest = stat.read_text().partition(" ")
                if rest.rpartition(")")[2].split()[1] == str(os.getpid()):
                    print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        for _ in prepare_chunks(chunks_until_killed(), "acai", 1):
            pass
        """,
        night,
    )
    children = [int(line) for line in done.stdout.split()]
    assert children, done.stderr
    deadline = time.monotonic() + 60
    while alive := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def test_files_of_many_alerts_count_by_their_size():
    pieces = [Encoded(f"{n}.avro", Path(f"{n}.avro"), source_bytes=2**21) for n in range(40)]
    assert [len(chunk) for chunk in chunks(pieces)] == [16, 16, 8]
