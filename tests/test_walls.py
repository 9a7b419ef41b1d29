"""Whatever exception an alert causes, wherever: it is one reject, and its neighbours are read."""

import dataclasses
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.alerts import archives, columnar, packet, sources, stamps
from acai_jax.alerts import json_documents as documents
from acai_jax.alerts import prepare as preparing
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.prepare import chunks, prepare, prepare_alerts
from acai_jax.alerts.sources import Encoded, decode, encoded_alerts, read_alerts
from acai_jax.errors import PacketError, Reject
from acai_jax.stream import messages
from acai_jax.stream.messages import Message, alert_messages
from acai_jax.surveys.ztf import ZTF
from tests.alerts.test_sources import DOCUMENTS, saved, tar_bytes


class MuteError(Exception):
    def __str__(self):
        raise ValueError("no words")


ERRORS = [
    ZeroDivisionError("division by zero"),
    MemoryError(),
    RecursionError("too deep"),
    OSError(5, "Input/output error"),
    KeyError("\x1b[2J"),
    pa.ArrowInvalid("of a library"),
    MuteError(),
    PacketError("on purpose"),
]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request):
    return request.param


def failing(really, error, when):
    """As `really`, but raises where `when` says so of the call's number."""
    calls = iter(range(10**6))

    def call(*args, **kwargs):
        if when(next(calls)):
            raise error
        return really(*args, **kwargs)

    return call


def scored(alerts):
    """The alerts' numbers; "x" for a reject with a printable reason."""
    prepared = prepare_alerts(alerts, "acai")
    pickle.loads(pickle.dumps(prepared))
    reasons = prepared.columns["reason"]
    assert all(reason is None or (reason and reason.isprintable()) for reason in reasons)
    return [
        "x" if reason else candid - packet_record(0)["candid"]
        for candid, reason in zip(prepared.columns["candid"], reasons, strict=True)
    ]


def records(count=3):
    return [packet_record(number) for number in range(count)]


def files(folder):
    """A file for each record."""
    return [saved(folder / f"{i}.avro", avro_bytes(r)) for i, r in enumerate(records())]


@pytest.mark.parametrize(
    ("module", "function"), [(packet, "packet_from_record"), (packet, "_check_types")]
)
def test_a_record(tmp_path, monkeypatch, error, module, function):
    path = saved(tmp_path / "a.avro", avro_bytes(*records()))
    monkeypatch.setattr(
        module, function, failing(getattr(module, function), error, lambda n: n == 1)
    )
    alerts = list(read_alerts(path))
    assert scored(alerts) == [0, "x", 2]
    assert (alerts[1].candid, alerts[1].objectId) == (records()[1]["candid"], "ZTF26test001")


@pytest.mark.parametrize("function", ["alert_arrays", "_table_value"])
def test_arrays_and_values_of_the_table(tmp_path, monkeypatch, error, function):
    path = saved(tmp_path / "a.avro", avro_bytes(*records()))
    alerts = list(read_alerts(path))
    step = 1 if function == "alert_arrays" else len(ZTF.table_fields)
    really = getattr(preparing, function)
    monkeypatch.setattr(preparing, function, failing(really, error, lambda n: n == step))
    assert scored(alerts) == [0, "x", 2]


def test_a_stamp(monkeypatch, error):
    alerts = [packet.packet_from_record(record) for record in records()]
    really = stamps._plain_shape
    monkeypatch.setattr(stamps, "_plain_shape", failing(really, error, lambda n: n == 4))
    assert scored(alerts) == [0, "x", 2]
    monkeypatch.setattr(stamps, "_plain_shape", failing(really, error, lambda n: n == 1))
    assert [image is None for image in stamps.readable_stamps(alerts[0].cutouts)] == [
        False,
        True,
        False,
    ]


def test_packets_of_anything(error):
    class Odd(dict):
        def get(self, *_):
            raise error

    whole = packet.packet_from_record(packet_record(0))
    odd = dataclasses.replace(whole, fields=Odd(), alert_id=whole.candid + 1)
    assert scored([whole, odd, whole]) == [0, "x", 0]
    reject = packet.packet_or_reject(Odd(candid=1))
    assert isinstance(reject, Reject)


def test_a_container(tmp_path, monkeypatch, error):
    paths = [
        saved(tmp_path / f"{i}.avro", avro_bytes(record)) for i, record in enumerate(records())
    ]
    really = sources.container_records
    monkeypatch.setattr(sources, "container_records", failing(really, error, lambda n: n == 1))
    assert scored(list(read_alerts(paths))) == [0, "x", 2]


def test_a_file(tmp_path, monkeypatch, error):
    paths = [
        saved(tmp_path / f"{i}.avro", avro_bytes(record)) for i, record in enumerate(records())
    ]
    really = sources._encoded_file
    monkeypatch.setattr(sources, "_encoded_file", failing(really, error, lambda n: n == 1))
    assert scored(list(read_alerts(paths))) == [0, "x", 2]
    (chunk,) = chunks(encoded_alerts(paths))
    assert len(prepare(chunk, "acai").accepted) == 3


def test_a_member_of_an_archive(tmp_path, monkeypatch, error):
    night = [(f"{i}.avro", avro_bytes(record)) for i, record in enumerate(records())]
    path = saved(tmp_path / "a.tar", tar_bytes(night))
    really = archives.tarfile.TarInfo.frombuf
    monkeypatch.setattr(
        archives.tarfile.TarInfo, "frombuf", failing(really, error, lambda n: n == 1)
    )
    found = scored(list(read_alerts(path)))
    assert [n for n in found if n != "x"] == [0, 2]
    assert "x" in found


def test_a_json_document(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "a.jsonl", b"\n".join(DOCUMENTS))
    really = documents._count_values
    monkeypatch.setattr(documents, "_count_values", failing(really, error, lambda n: n == 1))
    alerts = list(read_alerts(path))
    assert scored(alerts) == [0, "x", 2]
    assert alerts[1].candid == records()[1]["candid"]


def test_the_text_of_a_json_document(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "a.jsonl", b"\n".join(DOCUMENTS))

    class Decoder(documents.json.JSONDecoder):
        def raw_decode(self, s, idx=0):
            if idx > 0 and s.startswith('"objectId": "ZTF26test001', s.find('"objectId"', idx)):
                raise error
            return super().raw_decode(s, idx)

    monkeypatch.setattr(documents.json, "JSONDecoder", Decoder)
    assert scored(list(read_alerts(path))) == [0, "x", 2]


def test_a_row_of_parquet(tmp_path, monkeypatch, error):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(records()), path)
    really = columnar._weight

    def weight(column):
        if "ZTF26test001" in column.to_pylist():
            raise error
        return really(column)

    monkeypatch.setattr(columnar, "_weight", weight)
    alerts = list(read_alerts(path))
    assert scored(alerts) == [0, "x", 2]
    assert alerts[1].candid == records()[1]["candid"]


def test_a_row_group_of_parquet(tmp_path, monkeypatch, error):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(records()), path, row_group_size=1)
    really = columnar._rows_at_once
    monkeypatch.setattr(columnar, "_rows_at_once", failing(really, error, lambda n: n == 1))
    assert scored(list(read_alerts(path))) == [0, "x", 2]


def test_messages(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "a.jsonl", b"\n".join(DOCUMENTS))
    really = messages.avro_message
    monkeypatch.setattr(messages, "avro_message", failing(really, error, lambda n: n == 1))
    found = [message for message, _ in alert_messages(path)]
    assert [isinstance(message, Message) for message in found] == [True, False, True]
    assert found[1].candid == records()[1]["candid"]


def test_messages_of_containers(tmp_path, monkeypatch, error):
    paths = [
        saved(tmp_path / f"{i}.avro", avro_bytes(record)) for i, record in enumerate(records())
    ]
    really = messages.avro.one_record_containers
    monkeypatch.setattr(
        messages.avro, "one_record_containers", failing(really, error, lambda n: n == 1)
    )
    found = [message for message, _ in alert_messages(paths)]
    assert [isinstance(message, Message) for message in found] == [True, False, True]


def test_datasets(tmp_path, monkeypatch, error):
    import numpy as np

    from acai_jax.datasets.gather import local
    from acai_jax.datasets.gather.plan import BuildPlan
    from acai_jax.datasets.splits import stable_hash

    candids = np.array([record["candid"] for record in records()], np.uint64)
    names = np.array([stable_hash(record["objectId"]) for record in records()], np.uint64)
    zeros = np.zeros(3, np.uint64)
    np.save(tmp_path / "wanted.npy", np.stack([candids, names, zeros, zeros]))
    plan = BuildPlan(ZTF, tmp_path, "acai", False, False, None, ("h",), (("train", 0),))
    monkeypatch.setattr(local, "example", failing(local.example, error, lambda n: n == 1))
    selection = local.select([Encoded("a", avro_bytes(*records()))], plan)
    assert [found.kept for found in selection.found] == [True, False, True]
    (reject,) = selection.rejects
    assert (reject.candid, reject.objectId) == (records()[1]["candid"], "ZTF26test001")


def test_decode_never_raises(error):
    class Odd(list):
        def __iter__(self):
            raise error

    (reject,) = decode(Encoded("a", Odd()))
    assert isinstance(reject, Reject)
    assert not isinstance(reject, AlertPacket)
