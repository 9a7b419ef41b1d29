"""The server of figures: clients that say nothing, or leave, cost it nothing and print nothing."""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from streams import wait_for

from acai_jax.stream import metrics as module
from acai_jax.stream.metrics import Metrics, MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer(Metrics(), lambda: True, "127.0.0.1", 0)
    yield server
    server.close()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def connect(server: MetricsServer, said: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), 20)
    client.sendall(said)
    return client


def get(server: MetricsServer, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=20) as answer:
        return answer.read().decode()


def hung_up(client: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_idle_clients_keep_nobody_out(server, stack, monkeypatch, capfd):
    monkeypatch.setattr(module, "_MOST_CONNECTIONS", 4)
    clients = [stack.enter_context(connect(server)) for _ in range(20)]
    assert get(server, "/healthz") == "ok\n"
    assert "acai_jax_stream_consumed_total 0.0" in get(server, "/metrics")
    wait_for(lambda: sum(map(hung_up, clients)) >= 17)
    cut = [hung_up(client) for client in clients]
    assert sum(cut) in (17, 18)  # the first request may not have quite ended when the second comes
    assert cut == sorted(cut, reverse=True)  # the oldest
    stack.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nX: "])
def test_a_connection_has_a_deadline(server, monkeypatch, capfd, said):
    monkeypatch.setattr(module, "_CONNECTION_SECONDS", 0.0)
    with connect(server, said) as client:
        wait_for(lambda: hung_up(client))
    assert capfd.readouterr().err == ""


def test_clients_that_leave_or_talk_nonsense_print_nothing(server, capfd):
    for said in (
        b"",
        b"GET",
        b"\x16\x03\x01\x00",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"\n" * 70_000,
    ):
        for _ in range(3):
            connect(server, said).close()
    assert get(server, "/healthz") == "ok\n"
    assert capfd.readouterr().err == ""
