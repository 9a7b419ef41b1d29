"""A registry of schemas, on a real server: asked once, waited for, kept for ever."""

import base64
import json
import logging
import threading

import pytest
from server import Server, running_server

from acai_jax.errors import PacketError, StreamError
from acai_jax.stream import registry as module
from acai_jax.stream.registry import SchemaFolder, SchemaRegistry, StoppedError, open_schemas

SCHEMA = b'{"type": "record", "name": "alert", "fields": []}'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def server(cache):
    with running_server() as server:
        add(server, 17, SCHEMA)
        yield server


def add(server: Server, number: int, schema: bytes, **more: object) -> None:
    answer = {"schema": schema.decode(), **more}
    server.files[f"/schemas/ids/{number}"] = json.dumps(answer).encode()


def test_a_schema_is_asked_for_once_also_by_the_next_run(server):
    add(server, 18, SCHEMA + b" ")
    for _ in range(2):
        registry = SchemaRegistry(server.url + "/")
        assert [registry.schema(number) for number in (17, 18, 17)] == [
            SCHEMA,
            SCHEMA + b" ",
            SCHEMA,
        ]
    assert server.paths == ["/schemas/ids/17", "/schemas/ids/18"]
    with running_server() as other:  # whose numbers mean other schemas
        add(other, 17, b"{}")
        assert SchemaRegistry(other.url).schema(17) == b"{}"


def test_what_a_power_cut_left_is_asked_for_again(server, cache):
    SchemaRegistry(server.url).schema(17)
    (kept,) = cache.rglob("17.json")
    for damaged in (b"", SCHEMA[:20]):
        kept.write_bytes(damaged)
        assert SchemaRegistry(server.url).schema(17) == SCHEMA
    assert len(server.paths) == 3


def test_a_cache_that_cannot_be_written_costs_a_request_only(server, cache):
    cache.write_text("a file where a folder should be")
    registry = SchemaRegistry(server.url)
    assert [registry.schema(17), registry.schema(17)] == [SCHEMA, SCHEMA]
    assert len(server.paths) == 1


@pytest.mark.parametrize("fault", ["500", "502", "429", "drop", "cut"])
def test_a_registry_that_is_away_is_waited_for_and_said_so_once(server, caplog, fault):
    caplog.set_level(logging.INFO, "acai_jax.stream")
    server.faults = [fault] * 3
    assert SchemaRegistry(server.url).schema(17) == SCHEMA
    assert len(server.paths) == 4
    assert len([text for text in caplog.messages if "waiting for the schema registry" in text]) == 1
    assert caplog.messages[-1] == "the schema registry answers again"


def test_an_answer_without_sense_is_no_answer(server):
    answers = [b"<html>sign in</html>", b"[]", b'{"schema": 7}']

    def next_answer() -> None:
        if answers:
            server.files["/schemas/ids/17"] = answers.pop(0)
        else:
            add(server, 17, SCHEMA)

    server.before = next_answer
    assert SchemaRegistry(server.url).schema(17) == SCHEMA
    assert len(server.paths) == 4


def test_a_stop_ends_the_waiting(cache):
    stop = threading.Event()
    registry = SchemaRegistry("http://127.0.0.1:9", stop=stop)
    stop.set()
    with pytest.raises(StoppedError, match="the schema registry is away"):
        registry.schema(17)


def test_a_number_that_is_not_there_is_the_messages_fault(server):
    server.missing = json.dumps({"error_code": 40403, "message": "Schema 99 not found"}).encode()
    registry = SchemaRegistry(server.url)
    with pytest.raises(PacketError, match="99 is not in the registry"):
        registry.schema(99)
    add(server, 99, SCHEMA)  # it may come
    assert registry.schema(99) == SCHEMA
    add(server, 5, b"syntax", schemaType="PROTOBUF")
    with pytest.raises(PacketError, match="schema 5 of the registry is 'PROTOBUF'"):
        registry.schema(5)


def test_what_waiting_does_not_mend_stops_the_stream(server):
    registry = SchemaRegistry(server.url)
    for fault, said in (("401", "refuses us: 401"), ("403", "refuses us: 403")):
        server.faults = [fault]
        with pytest.raises(StreamError, match=said):
            registry.schema(17)
    with pytest.raises(StreamError, match=f"no schema registry at {server.url}/wrong: 404"):
        SchemaRegistry(f"{server.url}/wrong").schema(17)


def test_the_login_is_sent_and_never_shown(server, caplog):
    server.faults = ["500", "401"]
    with pytest.raises(StreamError) as caught:
        SchemaRegistry(server.url, "me:hunter2").schema(17)
    sent = base64.b64encode(b"me:hunter2").decode()
    assert [headers["authorization"] for headers in server.requests] == [f"Basic {sent}"] * 2
    assert "hunter2" not in f"{caught.value}{caplog.text}"
    assert sent not in f"{caught.value}{caplog.text}"


@pytest.mark.parametrize("url", ["localhost:8081", "ftp://h", "http://", "http://a,http://b", ""])
def test_what_is_no_address(url):
    with pytest.raises(StreamError, match="takes a folder, http://HOST:PORT"):
        SchemaRegistry(url)


def test_a_password_in_the_address_is_refused_unseen():
    with pytest.raises(StreamError, match=r"basic\.auth\.user\.info") as caught:
        SchemaRegistry("http://me:hunter2@registry:8081")
    assert "hunter2" not in str(caught.value)


def test_a_folder_of_schemas_is_a_registry_too(tmp_path):
    (tmp_path / "17.json").write_bytes(SCHEMA)
    (tmp_path / "19.json").mkdir()
    schemas = open_schemas(str(tmp_path), None, threading.Event())
    assert isinstance(schemas, SchemaFolder)
    assert schemas.schema(17) == SCHEMA
    (tmp_path / "17.json").unlink()  # what a number stands for never changes
    assert schemas.schema(17) == SCHEMA
    for number, why in ((18, r"18\.json is not in"), (19, r"19\.json: Is a directory")):
        with pytest.raises(PacketError, match=f"no schema: {why}"):
            schemas.schema(number)
