import io
import json

import pytest
from synthetic import packet_record

from acai_jax.alerts import json_documents as documents
from acai_jax.alerts.json_documents import json_documents
from acai_jax.errors import Reject
from tests.alerts.test_sources import DOCUMENTS, extended
from tests.alerts.test_stamps import peak_memory

ALERTS = [json.loads(document) for document in DOCUMENTS]


def read(text):
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return [document for document, _ in json_documents(io.BytesIO(raw))]


def numbers(found):
    first = packet_record(0)["candid"]
    return ["x" if isinstance(d, Reject) else d["candid"] - first for d in found]


ANSWERS = {
    "a key": {"alerts": ALERTS},
    "a status before": {"status": "success", "message": 'a "b" {c', "data": ALERTS},
    "objects before": {"left": {"items": 0}, "none": None, "some": [1, 2], "data": ALERTS},
    "more behind": {"data": ALERTS, "message": "done", "next": {"page": 2}, "count": 3},
    "two keys deep": {"status": "success", "data": {"alerts": ALERTS}, "took": 0.1},
    "two lists": {"a": ALERTS[:1], "b": ALERTS[1:]},
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("indent", [None, 1])
def test_answers_that_hold_alerts_under_a_key(name, indent):
    raw = json.dumps(ANSWERS[name], indent=indent).encode()
    assert numbers(read(raw)) == [0, 1, 2]
    assert numbers(read(raw + b"\n" + raw)) == [0, 1, 2] * 2


def test_answers_of_any_length_are_read_a_piece_at_a_time():
    records = [extended(packet_record(i)) for i in range(400)]
    raw = b'{"status": "success", "data": [' + b", ".join(records) + b'], "took": 1}'
    assert len(raw) > documents._MAX_DOCUMENT_BYTES
    stream, found = io.BytesIO(raw), []

    def read_all():
        found.extend(d["candid"] for d, _ in json_documents(stream))

    assert peak_memory(read_all) < 16 * 2**20
    assert found == [packet_record(i)["candid"] for i in range(400)]


def test_a_packet_is_no_answer_whatever_the_order_of_its_fields():
    record = json.loads(extended(packet_record(3)))
    for keys in (sorted(record), sorted(record, reverse=True)):
        (found,) = read({key: record[key] for key in keys})
        assert found["candid"] == record["candid"] if isinstance(record["candid"], int) else True
        assert len(found["prv_candidates"]) == 3


def test_a_damaged_alert_of_an_answer_costs_itself():
    texts = [document.decode() for document in DOCUMENTS]
    texts[1] = texts[1].replace('"objectId":', '"objectId"', 1)
    raw = '{"data": [\n' + ",\n".join(texts) + "\n]}\n"
    assert numbers(read(raw.encode())) == [0, "x", 2]


BOMBS = {
    "lists": b'{"a":[' + b"[]," * 400_000 + b"[]]}",
    "objects": b'{"a":[' + b"{}," * 400_000 + b"{}]}",
    "nested": b'{"a":[' + (b"[" * 20 + b"]" * 20 + b",") * 20_000 + b"0]}",
    "keys": b"{" + b",".join(b'"%d":1' % i for i in range(100_000)) + b"}",
    "text": b'{"a":"' + b"x" * 4_000_000 + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_unfold(monkeypatch, name):
    monkeypatch.setattr(documents, "_PIECE_BYTES", 2**16)
    monkeypatch.setattr(documents, "_LOOKAHEAD", 2**12)
    monkeypatch.setattr(documents, "_MAX_VALUES", 2**14)
    monkeypatch.setattr(documents, "_MAX_DOCUMENT_BYTES", 2**20)
    raw = b'{"candid": 1}\n' + BOMBS[name] + b'\n{"candid": 2}'
    found = []
    assert peak_memory(lambda: found.extend(read(raw))) < 16 * 2**20
    assert [d if isinstance(d, dict) else d.kind for d in found] == [
        {"candid": 1},
        "too large",
        {"candid": 2},
    ]


def test_what_follows_a_large_document_is_read_in_small_pieces():
    raw = b'{"a": "' + b"x" * 9_000_000 + b'"}' + (b'{"b": "' + b"y" * 990 + b'"}') * 6_000
    stream = io.BytesIO(raw)
    sizes = []
    really = json.JSONDecoder.raw_decode

    class Decoder(json.JSONDecoder):
        def raw_decode(self, s, idx=0):
            sizes.append(len(s) - idx)
            return really(self, s, idx)

    documents.json.JSONDecoder, before = Decoder, json.JSONDecoder
    try:
        assert sum(1 for _ in json_documents(stream)) == 6_001
    finally:
        documents.json.JSONDecoder = before
    assert len(sizes) < 6_020
    assert sum(size > 3 * 2**20 for size in sizes) < 10


def test_the_weight_counts_values_and_text():
    ((_, small),) = json_documents(io.BytesIO(b'{"a": [1, 2, 3]}'))
    ((_, large),) = json_documents(io.BytesIO(b'{"a": [' + b"1, " * 999 + b"1]}"))
    assert small == 16 + 4 * documents._BYTES_OF_VALUE
    assert large > 1000 * documents._BYTES_OF_VALUE
