import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import packet_record

from acai_jax.alerts import columnar
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import read_alerts
from acai_jax.errors import Reject


def saved(tmp_path, records, **options):
    table = records if isinstance(records, pa.Table) else pa.Table.from_pylist(records)
    pq.write_table(table, tmp_path / "a.parquet", **options)
    return tmp_path / "a.parquet"


def rows_of(path, **options):
    return [row for rows, _, _ in columnar.parquet_records(path, "a", **options) for row in rows]


def outcomes(path):
    return ["x" if isinstance(found, Reject) else found.candid for found in read_alerts(path)]


def candids(count):
    return [packet_record(number)["candid"] for number in range(count)]


def test_only_what_a_packet_has_is_read(tmp_path):
    records = [packet_record(number) | {"junk": "j" * 99, "jd": 1.0} for number in range(3)]
    for record in records:
        record["candidate"] |= {"rcid": 7, "note": "n", "list": [1, 2]}
    path = saved(tmp_path, records)
    for row, record in zip(rows_of(path), records, strict=True):
        assert "junk" not in row
        assert "prv_candidates" not in row
        assert row["cutoutScience"] == {"stampData": record["cutoutScience"]["stampData"]}
        left_out = {"note", "list"}
        expected = {k: v for k, v in record["candidate"].items() if k not in left_out}
        assert row["candidate"] == expected
    assert rows_of(path, histories=True) == records
    assert outcomes(path) == candids(3)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_shares_grow_to_one_and_rows_keep_their_order(tmp_path, size):
    table = pa.Table.from_pylist([{"candid": number} for number in range(size)])
    path = saved(tmp_path, table, row_group_size=70)
    pieces = list(columnar.parquet_records(path, "a"))
    assert [row["candid"] for rows, _, _ in pieces for row in rows] == list(range(size))
    shares = [share for _, share, _ in pieces]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_what_nothing_needs_is_never_unfolded(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "_FREE_GROUP_BYTES", 2**20)
    huge = pa.array([bytes(2**21)] * 4, pa.large_binary())
    table = pa.Table.from_pylist([packet_record(i) for i in range(4)]).append_column("x", huge)
    path = saved(tmp_path, table, use_dictionary=False, compression="zstd")
    assert outcomes(path) == candids(4)
    # a replay sends every column: there it is too much, and each alert is told
    rows = rows_of(path, histories=True)
    assert [row.candid for row in rows] == candids(4)
    assert {row.kind for row in rows} == {"too large"}


def test_a_large_value_that_repeats_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "_BATCH_BYTES", 2**21)
    records = [packet_record(number) for number in range(12)]
    for record in records[3:9]:
        record["cutoutScience"]["stampData"] = bytes(4 * 2**20)
    path = saved(tmp_path, records, compression="zstd")
    largest = []
    really = columnar.batch_records

    def watched(batch, *arguments):
        largest.append(batch.nbytes)
        return really(batch, *arguments)

    monkeypatch.setattr(columnar, "batch_records", watched)
    found = list(read_alerts(path))
    assert [r.candid for r in found] == candids(12)
    assert [isinstance(r, Reject) for r in found] == [3 <= i < 9 for i in range(12)]
    assert {r.kind for r in found if isinstance(r, Reject)} == {"too large"}
    assert max(largest) < 6 * 2**20


def test_values_without_a_place_in_python_cost_their_row(tmp_path):
    records = [packet_record(number) for number in range(5)]
    days = pa.array([0, 0, 2**31 - 1, 0, 0], pa.int32()).cast(pa.date32())
    table = pa.Table.from_pylist(records).drop(["schemavsn"]).append_column("schemavsn", days)
    found = list(read_alerts(saved(tmp_path, table)))
    assert [r.candid for r in found] == candids(5)
    assert [isinstance(r, Reject) for r in found] == [False, False, True, False, False]
    assert "has no place in Python: OverflowError" in found[2].reason
    assert found[2].objectId == records[2]["objectId"]


def test_a_damaged_row_group_costs_itself(tmp_path):
    path = saved(
        tmp_path,
        [packet_record(number) for number in range(6)],
        row_group_size=2,
        compression="none",
        use_dictionary=False,
        column_encoding=None,
    )
    column = pq.read_metadata(path).row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    raw[column.data_page_offset : column.data_page_offset + 20] = b"\xff" * 20
    path.write_bytes(raw)
    found = list(read_alerts(path))
    assert [r.candid for r in found if isinstance(r, AlertPacket)] == [
        candid for i, candid in enumerate(candids(6)) if i not in (2, 3)
    ]
    (reject,) = [r for r in found if isinstance(r, Reject)]
    assert reject.reason.endswith("(2 rows are lost with it)")


def test_a_footer_of_any_size_is_not_parsed(tmp_path, monkeypatch):
    path = saved(tmp_path, [{f"c{i}": 1 for i in range(100)}])
    monkeypatch.setattr(columnar, "_MAX_FOOTER_BYTES", 1000)
    (reject,) = read_alerts(path)
    assert reject.reason.startswith("too large: a Parquet file whose footer has")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"a": 1}, "a table without candidate, objectId and candid, or diaSource"),
        ({"ssMatches": 1}, "a packet of Roman"),
    ],
)
def test_tables_of_other_things_are_one_reject(tmp_path, record, said):
    (reject,) = read_alerts(saved(tmp_path, [record]))
    assert said in reject.reason


def test_a_flat_table_of_the_portal_is_told(tmp_path):
    (reject,) = read_alerts(saved(tmp_path, [{"i:candid": 7, "i:objectId": "ZTF1", "i:jd": 1.0}]))
    assert "Fink portal" in reject.reason
    assert (reject.candid, reject.objectId) == (7, "ZTF1")


def test_a_row_that_unfolds_too_much_is_refused(tmp_path):
    histories = [[{"jd": 0.0}] * 600_000, [{"jd": 0.0}]]
    records = [packet_record(i) | {"prv_candidates": h} for i, h in enumerate(histories)]
    first, second = rows_of(saved(tmp_path, records), histories=True)
    assert first.kind == "too large"
    assert first.candid == candids(1)[0]
    assert second["prv_candidates"] == [{"jd": 0.0}]
