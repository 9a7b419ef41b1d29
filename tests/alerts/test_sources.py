import base64
import bz2
import collections
import gzip
import io
import json
import os
import resource
import sys
import tarfile

import numpy as np
import pytest
from synthetic import avro_bytes, packet_record, stamp

from acai_jax.alerts import avro, json_documents, sources
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import encoded_alerts, read_alerts
from acai_jax.errors import Reject, SourceError
from acai_jax.surveys.ztf import CUTOUTS
from tests.alerts.test_avro import block, container, head, limited, record, varint
from tests.alerts.test_stamps import peak_memory

FIRST = packet_record(0)["candid"]


def alert(number=0):
    return avro_bytes(packet_record(number))


def numbers(results):
    """The alerts' numbers; "x" for a reject."""
    return [r.candid - FIRST if isinstance(r, AlertPacket) else "x" for r in results]


def read(*paths, **options):
    results = list(read_alerts(list(paths), **options))
    assert all(isinstance(r, AlertPacket) or r.reason for r in results)
    return results


def saved(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar_bytes(members, mode="w", **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def night(count):
    return [(f"{FIRST + i}.avro", alert(i)) for i in range(count)]


# --- files and directories ---------------------------------------------------------------------


def test_file(tmp_path):
    (packet,) = read(saved(tmp_path / "a.avro", alert(3)))
    assert numbers([packet]) == [3]
    assert packet.origin == str(tmp_path / "a.avro")
    assert packet.histories == {}
    (packet,) = read_alerts(str(tmp_path / "a.avro"), histories=True)
    assert len(packet.histories["prv_candidates"]) == 3


def test_directory_is_read_in_order_of_names(tmp_path):
    for name, number in [("b.avro", 1), ("a/z.AVRO", 0), ("c/a.avro", 2), ("d.json", 3)]:
        saved(tmp_path / name, alert(number))
    saved(tmp_path / "notes.txt", b"no alerts")
    saved(tmp_path / ".hidden.avro", b"no alerts")
    saved(tmp_path / "z.avro.gz", gzip.compress(alert(4)))
    assert numbers(read(tmp_path)) == [0, 1, 2, 3, 4]


def test_paths_are_read_in_the_order_given(tmp_path):
    paths = [saved(tmp_path / f"{i}.avro", alert(i)) for i in (2, 0, 1)]
    assert numbers(read_alerts(iter(paths))) == [2, 0, 1]


@pytest.mark.parametrize("suffix", [".avro.gz", ".anything"])
def test_gzipped_container(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", gzip.compress(avro_bytes(*map(packet_record, range(3)))))
    assert numbers(read(path)) == [0, 1, 2]


def test_file_names_that_are_no_text(tmp_path, real_data):
    for name in (b"\xff.avro", b"\xff.tar", b"\xff.json", b"\xff.parquet"):
        content = {
            b"\xff.avro": alert(),
            b"\xff.tar": tar_bytes([("\udcff.avro", alert())]),
            b"\xff.json": extended(packet_record()),
            b"\xff.parquet": (real_data / "fink_alerts.parquet").read_bytes(),
        }[name]
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(content)
    results = read(tmp_path)
    assert len(results) == 54
    for result in results:
        assert isinstance(result, AlertPacket), result.reason
        assert result.origin.encode()  # a lone surrogate would not encode


@pytest.mark.parametrize("count", [1, 2])
def test_unknown_kinds(tmp_path, count):
    for content in (b"some text\n", b"", b"PK\x03\x04", gzip.compress(b"text"), gzip.compress(b"")):
        paths = [saved(tmp_path / f"{i}.txt", content) for i in range(count)]
        if count == 1:
            with pytest.raises(SourceError, match="not a source of alerts"):
                read(*paths)
        else:  # among others, it must not stop the run
            results = read(*paths, saved(tmp_path / "a.avro", alert()))
            assert numbers(results) == ["x", "x", 0]
            assert results[0].origin == str(paths[0])


@pytest.mark.parametrize("path", ["missing", "missing.avro", "x" * 5000, "a\0b", ""])
def test_missing_path(tmp_path, path):
    with pytest.raises(SourceError):
        read(tmp_path / path)


def test_empty_directory(tmp_path):
    with pytest.raises(SourceError, match="no alerts in"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"Obj", b"Obj\x01", b"\0" * 50, b"\0\0\0\x02\xbfLSST", b"text"]
)
def test_damaged_avro_file_is_a_reject(tmp_path, content):
    assert numbers(read(saved(tmp_path / "a.avro", content))) == ["x"]


@pytest.mark.parametrize("suffix", sources.SUFFIXES)
def test_cut_files_of_every_kind_are_no_crash(tmp_path, suffix):
    good = saved(tmp_path / "z.avro", alert())
    sound = {
        ".avro": alert(1),
        ".tar": tar_bytes(night(1)),
        ".parquet": b"PAR1" + bytes(100) + b"PAR1",
        ".json": extended(packet_record()),
    }
    content = sound.get(suffix.removesuffix(".gz"), sound[".json"])
    content = gzip.compress(content) if suffix.endswith(("gz", "tgz")) else content
    for size in (0, 1, 3, 10, 600, len(content) - 1):
        results = read(saved(tmp_path / f"a{suffix}", content[:size]), good)
        assert numbers(results)[-1] == 0
        assert size > 600 or "x" in numbers(results)


def test_unreadable_file_is_a_reject(tmp_path):
    (tmp_path / "a.avro").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.avro").symlink_to(saved(tmp_path / "c.avro", alert()))
    results = read(tmp_path)
    assert numbers(results) == ["x", 0, 0]
    assert results[0].reason.startswith("unreadable file")


def test_permission_error_is_a_reject(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.avro", alert())
    good = saved(tmp_path / "b.avro", alert())
    really = type(path).open

    def open_or_not(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return really(self, *args, **kwargs)

    monkeypatch.setattr(type(path), "open", open_or_not)
    results = read(path, good)
    assert numbers(results) == ["x", 0]
    assert "Permission denied" in results[0].reason


# --- large containers --------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_large_container_comes_in_pieces(tmp_path, zipped):
    raw = avro_bytes(*[packet_record(i) for i in range(80)])
    path = saved(tmp_path / "night.avro", gzip.compress(raw, 1) if zipped else raw)
    pieces = list(encoded_alerts(path))
    assert len(pieces) > 2
    assert max(len(piece.container()) for piece in pieces) < 2 * 2**20
    assert sum(piece.count for piece in pieces) == 80
    assert sum(piece.source_bytes for piece in pieces) == path.stat().st_size
    assert numbers(read(path)) == list(range(80))


def test_damage_in_a_large_container_costs_one_alert(tmp_path):
    raw = bytearray(avro_bytes(*[packet_record(i) for i in range(60)], interval=1))
    middle = len(raw) // 2
    raw[middle : middle + 100] = bytes(100)
    found = numbers(read(saved(tmp_path / "night.avro", raw)))
    assert found.count("x") <= 1
    assert len([n for n in found if n != "x"]) >= 59
    sync = avro_bytes()[-16:]
    assert sync not in bytes(raw)
    marker = bytes(raw[-16:])
    at = raw.index(marker, middle)
    raw[at : at + 16] = bytes(16)
    found = numbers(read(saved(tmp_path / "night.avro", raw)))
    assert "x" in found
    assert len([n for n in found if n != "x"]) >= 58
    assert [n for n in found if n != "x"] == sorted(n for n in found if n != "x")


def test_compressed_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_MEMBER_BYTES", 4 * 2**20)
    bomb = alert() + bytes(64 * 2**20)
    for name, content in [("a.avro.gz", bomb), ("a.tgz", tar_bytes([("a.avro", bomb)]))]:
        path = saved(tmp_path / name, gzip.compress(content, 1))
        assert peak_memory(lambda path=path: read(path)) < 16 * 2**20
        assert read(path)[0].kind == "too large"


def test_floods_of_tiny_records_are_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(avro, "MAX_CONTAINER_ITEMS", 500)
    many = head(record("boolean")) + block(100_000, bytes(100_000))
    broken = head(record("boolean")) + (varint(-1) + varint(1) + many[-16:]) * 50_000
    for raw in (many, broken):
        results = read(saved(tmp_path / "a.avro", raw))
        assert len(results) == 501
        assert results[-1].kind == "too many records"


def test_another_schema_is_rejected_row_by_row(tmp_path):
    path = saved(tmp_path / "a.avro", container(record("long"), {"f0": 1}, {"f0": 2}))
    assert [r.reason for r in read(path)] == ["missing field: candidate"] * 2


# --- archives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive(tmp_path, mode, layout):
    members = [("notes.txt", b"x"), *night(3), ("deep/er/" + "n" * 120 + ".avro", alert(3))]
    if layout == tarfile.USTAR_FORMAT:
        members.pop()
    path = saved(tmp_path / "night", tar_bytes(members, mode, format=layout))
    results = read(path)
    assert numbers(results) == ["x", *range(len(members) - 1)]
    assert isinstance(results[0], Reject)
    assert results[0].reason == "archive member not read: no .avro file"
    assert [r.origin for r in results] == [f"{path}:{name}" for name, _ in members]


def test_archive_members_other_than_files(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("a.avro")
            member.type, member.linkname = kind, "../../etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("b.avro")
        member.size = len(alert())
        archive.addfile(member, io.BytesIO(alert()))
    results = read(saved(tmp_path / "a.tar", buffer.getvalue()))
    assert numbers(results) == ["x", "x", "x", 0]
    assert {r.kind for r in results if isinstance(r, Reject)} == {"archive member not read"}


@pytest.mark.parametrize("where", [0, 2, 4])
def test_damaged_member_header_costs_that_member(tmp_path, where):
    raw = bytearray(tar_bytes(night(5)))
    size = -(-len(alert()) // 512) * 512 + 512
    raw[where * size + 130 : where * size + 140] = b"damaged!!!"
    results = read(saved(tmp_path / "night.tar", raw))
    assert [n for n in numbers(results) if n != "x"] == [n for n in range(5) if n != where]
    assert [r.kind for r in results if isinstance(r, Reject)] == ["damaged archive"]


def test_damaged_member_is_a_reject(tmp_path):
    members = night(4)
    members[1] = (members[1][0], members[1][1][:5000])
    members[2] = (members[2][0], b"")
    results = read(saved(tmp_path / "night.tar", tar_bytes(members)))
    assert numbers(results) == [0, "x", "x", 3]
    assert results[1].origin.endswith(members[1][0])


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_archive(tmp_path, zipped):
    raw = tar_bytes(night(4))
    member = -(-len(alert()) // 512) * 512 + 512
    for cut in (3 * member + 5000, 3 * member + 100, 3 * member, 3 * member - 1):
        content = raw[:cut]
        if zipped:
            packed = gzip.compress(raw, 1)
            content = packed[: len(packed) * cut // len(raw)]
        results = read(saved(tmp_path / "night.tar", content))
        kept = [n for n in numbers(results) if n != "x"]
        assert kept == [0, 1, 2][: len(kept)]
        assert len(kept) >= 2
        assert isinstance(results[-1], Reject)


def test_damaged_gzip_in_the_middle(tmp_path):
    packed = bytearray(gzip.compress(tar_bytes(night(6)), 1))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = bytes(200)
    results = read(saved(tmp_path / "night.tar.gz", packed))
    assert numbers(results)[:2] == [0, 1]
    assert isinstance(results[-1], Reject)


def tar_header(name=b"a.avro", size=b"00000000000", kind=b"0"):
    raw = bytearray(512)
    raw[: len(name)], raw[124 : 124 + len(size)], raw[156:157] = name, size, kind
    raw[100:108], raw[108:116], raw[116:124] = (b"0000644\0",) * 3
    raw[136:148], raw[257:265] = b"00000000000\0", b"ustar\x0000"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def long_number(value):
    return b"\x80" + value.to_bytes(11, "big")


def pax(text):
    return tar_header(b"p", b"%011o" % len(text), b"x") + text.ljust(-(-len(text) // 512) * 512)


HOSTILE_HEADERS = {
    "endless member": tar_header(size=long_number(2**70)),
    "endless other member": tar_header(b"a.txt", long_number(2**62)),
    "negative size": tar_header(size=b"\xff" + (2**88 - 512).to_bytes(11, "big")),
    "endless extension": tar_header(size=long_number(2**50), kind=b"x"),
    "endless long name": tar_header(size=long_number(2**50), kind=b"L"),
    "sparse": tar_header(size=b"00000001000", kind=b"S"),
    "huge pax size": pax(b"30 size=99999999999999999999\n ") + tar_header(),
    "huge pax length": pax(b"9" * 5000 + b" size=1\n") + tar_header(),
    "bad sparse map": pax(b"22 GNU.sparse.map=1,x\n") + tar_header(),
    "bad sparse version": pax(b"22 GNU.sparse.major=1\n" + b"22 GNU.sparse.minor=0\n")
    + tar_header(),
    "nested pax": pax(b"10 path=a\n") * 2000,
}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_hostile_archive_headers(tmp_path, name):
    path = saved(tmp_path / "a.tar", HOSTILE_HEADERS[name] + tar_bytes(night(2)))
    assert peak_memory(lambda: numbers(read(path))) < 8 * 2**20
    limited(lambda: list(encoded_alerts(path)), most=100_000, of="archives.py")


def test_extensions_of_any_size_are_not_read_into_memory(tmp_path):
    huge = tar_header(size=b"%011o" % (16 * 2**20), kind=b"x") + bytes(16 * 2**20)
    path = saved(tmp_path / "a.tgz", gzip.compress(huge + tar_bytes(night(2)), 1))
    assert peak_memory(lambda: read(path)) < 8 * 2**20
    assert numbers(read(path)) == ["x", 0, 1]


def test_memory_stays_bounded_over_a_large_archive(tmp_path):
    path, members, content = tmp_path / "night.tar.gz", 3000, alert()
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        for i in range(members):
            member = tarfile.TarInfo(f"{FIRST + i}.avro")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert path.stat().st_size > 100 * 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def read_all():
        assert sum(1 for _ in encoded_alerts(path)) == members

    assert peak_memory(read_all) < 4 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 64 * 2**20


# --- Parquet -----------------------------------------------------------------------------------


def test_fink_parquet(real_data):
    pq = pytest.importorskip("pyarrow.parquet")
    path = real_data / "fink_alerts.parquet"
    results = read(path)
    table = pq.read_table(path)
    assert [r.candid for r in results] == table.column("candid").to_pylist()
    assert [r.objectId for r in results] == table.column("objectId").to_pylist()
    science = table.column("cutoutScience").to_pylist()
    assert [r.cutouts[0] for r in results] == [cutout["stampData"] for cutout in science]
    assert all(r.histories == {} for r in results)
    with_histories = read(path, histories=True)
    assert any(r.histories for r in with_histories)
    assert sum(e.source_bytes for e in encoded_alerts(path)) == path.stat().st_size


def test_damaged_parquet_is_no_crash(tmp_path, real_data):
    raw = (real_data / "fink_alerts.parquet").read_bytes()
    for content in (raw[:-1], raw[: len(raw) // 2], raw[:4], raw[:8] + raw[-8:]):
        (reject,) = read(saved(tmp_path / "a.parquet", content))
        assert reject.kind == "unreadable file"


# --- JSON --------------------------------------------------------------------------------------


def extended(record, style="new"):
    """MongoDB's extended JSON, as `mongoexport` writes it now, or wrote it once."""

    def encode(value):
        text = base64.b64encode(value).decode()
        if style == "new":
            return {"$binary": {"base64": text, "subType": "00"}}
        return {"$binary": text, "$type": "00"}

    candid = {"$numberLong": str(record["candid"])}
    content = record | {"_id": {"$oid": "5f0d"}, "candid": candid}
    for name in CUTOUTS:
        data = record[name]["stampData"]
        content[name] = {"fileName": "x", "stampData": encode(data)}
    content["candidate"] = record["candidate"] | {
        "candid": candid,
        "ndethist": {"$numberInt": "4"},
        "scorr": {"$numberDouble": "12.5"},
    }
    return json.dumps(content).encode()


DOCUMENTS = [extended(packet_record(i), "new" if i % 2 else "old") for i in range(3)]


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join(DOCUMENTS),
        b"\r\n".join(DOCUMENTS) + b"\r\n\r\n",
        b"[" + b", ".join(DOCUMENTS) + b"]",
        b"[\n" + b",\n".join(DOCUMENTS) + b"\n]\n",
        b"".join(DOCUMENTS),
        json.dumps([json.loads(d) for d in DOCUMENTS], indent=2).encode(),
    ],
    ids=["lines", "crlf", "array", "array of lines", "concatenated", "indented"],
)
@pytest.mark.parametrize("piece_bytes", [1000, 2**20])
@pytest.mark.parametrize("zipped", [False, True])
def test_json(tmp_path, monkeypatch, content, piece_bytes, zipped):
    monkeypatch.setattr(sources, "_PIECE_BYTES", piece_bytes)
    path = saved(tmp_path / "a.json", gzip.compress(content) if zipped else content)
    results = read(path)
    assert numbers(results) == [0, 1, 2]
    for number, packet in enumerate(results):
        record = packet_record(number)
        assert packet.cutouts == tuple(record[name]["stampData"] for name in CUTOUTS)
        assert packet.candidate["ndethist"] == 4
        assert packet.candidate["scorr"] == 12.5
        assert packet.candidate["ra"] == record["candidate"]["ra"]
        assert packet.histories == {}
    assert len(read(path, histories=True)[2].histories["prv_candidates"]) == 2


def test_one_json_document(tmp_path):
    assert numbers(read(saved(tmp_path / "a.json", DOCUMENTS[0]))) == [0]
    assert numbers(read(saved(tmp_path / "a.avro", DOCUMENTS[1]))) == [1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:1000],
        lambda d: d[:5],
        lambda d: d[:-1],
        lambda d: d.replace(b'"objectId":', b'"objectId"', 1),
        lambda d: d.replace(b'"objectId": "', b'"objectId": ', 1),
        lambda d: d.replace(b'"ZTF', b'"\x01', 1),
        lambda d: d.replace(b'{"$numberLong": "', b"[[[", 1),
        lambda d: b"\xff" + d,
        lambda d: b"null",
        lambda d: b"12",
    ],
)
def test_damaged_line_costs_that_line(tmp_path, damage):
    lines = [DOCUMENTS[0], damage(DOCUMENTS[1]), DOCUMENTS[2]]
    results = read(saved(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n"))
    assert numbers(results) == [0, "x", 2]
    assert results[1].kind == "damaged JSON"


def test_damage_in_an_array_of_one_line(tmp_path):
    damaged = DOCUMENTS[1].replace(b'"objectId":', b'"objectId"', 1)
    content = b"[" + b", ".join([DOCUMENTS[0], damaged, DOCUMENTS[2]]) + b"]"
    results = read(saved(tmp_path / "a.json", content))
    assert [n for n in numbers(results) if n != "x"] == [0, 2]
    assert any(r.reason.startswith("damaged JSON") for r in results if isinstance(r, Reject))


def test_truncated_json(tmp_path):
    content = b"\n".join(DOCUMENTS)
    for cut in (len(content) - 1, len(content) - 100, len(content) - 4000):
        assert numbers(read(saved(tmp_path / "a.json", content[:cut]))) == [0, 1, "x"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"$numberLong": "', b'"$numberLong": "x', "candid is"),
        (b'"$numberLong": "', b'"$numberLong": "' + b"9" * 5000, "candid is"),
        (b'"12.5"', b'"many"', "candidate.scorr"),
        (b'"base64": "', b'"base64": "A", "_": "', "is dict, not bytes"),
        (b'"base64": "', '"base64": "é'.encode(), "cutoutScience is dict"),
        (b'"ra": ', b'"ra": NaN, "_": ', "candidate.ra is nan"),
        (b'"jd": ', b'"jd": Infinity, "_": ', "candidate.jd is inf"),
        (b'"fid": ', b'"fid": 1e300, "_": ', "candidate.fid is 1e+300"),
        (b'"fid": ', b'"fid": ' + b"9" * 40, "candidate.fid"),
        (b'"fid": ', b'"fid": ' + b"9" * 5000, "unreadable JSON: ValueError"),
        (b'"objectId": "', b'"objectId": "\\ud800', "objectId"),
        (b'"candidate": {', b'"candidate": [], "_": {', "missing field: candidate"),
        (b'"objectId": ', b'"objectId": ' + b"[" * 500 + b"]" * 500 + b', "_": ', "nested"),
        (b'"objectId": ', b'"objectId": ' + b'{"a":' * 99 + b"0" + b"}" * 99 + b',"_":', "nested"),
        (
            b'"objectId": ',
            b'"objectId": ' + b"[" * 99_999 + b', "_": ',
            "unreadable JSON: RecursionError",
        ),
    ],
)
def test_strange_values(tmp_path, old, new, reason):
    assert old in DOCUMENTS[1]
    content = b"\n".join([DOCUMENTS[0], DOCUMENTS[1].replace(old, new), DOCUMENTS[2]])
    results = read(saved(tmp_path / "a.json", content))
    assert numbers(results) == [0, "x", 2]
    assert reason in results[1].reason


@pytest.mark.parametrize("rows", [b"5", b'{"a": 1}', b"[1, null]", b'"rows"'])
def test_odd_histories(tmp_path, rows):
    content = DOCUMENTS[2].replace(b'"prv_candidates": ', b'"prv_candidates": %b, "_": ' % rows)
    path = saved(tmp_path / "a.json", content)
    assert numbers(read(path)) == [2]  # nobody asked for them
    (reject,) = read(path, histories=True)
    assert "prv_candidates is not an array of records" in reject.reason


@pytest.fixture
def moved(monkeypatch):
    """Counts the characters that are read or put back, and the documents that are decoded."""
    counts: collections.Counter[str] = collections.Counter()

    class Text(json_documents._Text):
        def read(self, size):
            text = super().read(size)
            counts["characters"] += len(text)
            return text

        def put_back(self, text):
            counts["characters"] += len(text)
            super().put_back(text)

    class Decoder(json.JSONDecoder):
        def raw_decode(self, s, idx=0):
            counts["documents"] += 1
            return super().raw_decode(s, idx)

    monkeypatch.setattr(json_documents, "_Text", Text)
    monkeypatch.setattr(json_documents.json, "JSONDecoder", Decoder)
    return counts


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"1, " * 400_000 + b"1]",
        b'["a"' + b', "a"' * 200_000 + b"]",
        b'{"a":\n' * 100_000,
        b'{"a" 1}\n' * 100_000,
        b"{" + b"\n" * 1_000_000,
        b'{"a": "' + b"x" * 3_000_000,
        b"[" * 1_000_000,
        b"{x" + b"} " * 500_000,
    ],
)
def test_floods_end_quickly(tmp_path, content, moved):
    results = read(saved(tmp_path / "a.json", content))
    assert moved["characters"] < 8 * len(content) + 2**22
    assert moved["documents"] <= 1_100
    assert len(results) <= 1_001


def test_tiny_documents_do_not_take_quadratic_time(tmp_path, moved):
    path = saved(tmp_path / "a.json", b"{}" * 30_000)
    assert sum(encoded.count for encoded in encoded_alerts(path)) == 30_000
    assert moved["characters"] < 8 * 60_000
    assert moved["documents"] <= 30_100


def test_json_holds_large_stamps(tmp_path):
    noise = np.random.default_rng(0).normal(size=(63, 63)).astype(np.float32)
    record = packet_record(5, cutoutScience={"fileName": "", "stampData": stamp(noise)})
    content = extended(record).replace(
        b'"candidate": {', b'"x": "%b", "candidate": {' % (b"x" * 2**22)
    )
    assert numbers(read(saved(tmp_path / "a.json", content))) == [5]


def test_other_compressions_are_unknown(tmp_path):
    with pytest.raises(SourceError, match="BZh"):
        read(saved(tmp_path / "a.tar.bz2", bz2.compress(tar_bytes(night(1)))))
