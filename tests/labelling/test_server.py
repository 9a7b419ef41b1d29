"""The labelling page's server: who is let in, what is stored, and what is refused."""

import http.client
import json
import socket

import polars as pl
import pytest
from command_line import acai_jax
from hypothesis import given
from hypothesis import strategies as st
from pages import labelling, make_queue, serving

from acai_jax.datasets.splits import split_of
from acai_jax.errors import LabelsError, OutputError
from acai_jax.labelling.queue import read_queue
from acai_jax.labelling.server import LabelServer, choices_of


@pytest.fixture(scope="module")
def queue_file(tmp_path_factory):
    return make_queue(tmp_path_factory.mktemp("queue"), 20)


class Client:
    """Talks to a server as a browser would, or as it would not."""

    def __init__(self, server: LabelServer) -> None:
        self.port = server.port
        self.token = server.url.partition("token=")[2]
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"
        self.cookie = f"acai_label_{self.port}={self.token}"

    def ask(self, method, path, content=None, **headers):
        """Status, headers and body; headers that are None are left out."""
        standard = {"Host": self.host, "Cookie": self.cookie}
        if content is not None:
            standard |= {"Origin": self.origin, "Content-Type": "application/json"}
        standard |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        if body is not None:
            standard.setdefault("Content-Length", str(len(body)))
        for name, value in standard.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def post(self, path, content, **headers):
        status, _, body = self.ask("POST", path, content, **headers)
        return status, json.loads(body) if body.startswith(b"{") else body.decode()

    def next(self, labeller="ann", count=5, have=()):
        asked = {"labeller": labeller, "count": count, "have": [*have]}
        status, found = self.post("/api/next", asked)
        assert status == 200, found
        return found

    def send(self, *events, labeller="ann"):
        return self.post("/api/events", {"labeller": labeller, "events": [*events]})


@pytest.fixture
def served(queue_file, tmp_path):
    with serving(queue_file, tmp_path, overlap=0.3) as (server, session):
        yield Client(server), session


@pytest.fixture
def client(served):
    return served[0]


@pytest.fixture
def session(served):
    return served[1]


@pytest.fixture(scope="module")
def strict(queue_file, tmp_path_factory):
    """A client and a session for what is refused: nothing is stored."""
    with serving(queue_file, tmp_path_factory.mktemp("strict")) as (server, session):
        yield Client(server), session
        assert list(session.store.history()) == []


def label(alert, request="r1", label="h", **more):
    return {"request": request, "alert": alert, "action": "label", "label": label, **more}


# who is let in -----------------------------------------------------------------------------------


def test_the_token_of_the_address_becomes_a_cookie(client):
    address = f"/?token={client.token}&as=bob"
    status, headers, _ = client.ask("GET", address, Cookie=None)
    assert (status, headers["location"]) == (303, "/?as=bob")
    cookie = headers["set-cookie"].lower()
    assert client.cookie.lower() in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    status, headers, body = client.ask("GET", "/")
    assert (status, b"<!doctype html>" in body) == (200, True)
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "server" not in headers
    assert client.token.encode() not in body


PATHS = ["/", "/static/label.js", "/picture/1.png", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"Cookie": None}, b"token"),
        ({"Cookie": "acai_label_{port}=wrong"}, b"token"),
        ({"Cookie": "acai_label_{port}=\xe9"}, b"token"),
        ({"Host": "evil.example"}, b"wrong Host"),
        ({"Host": "evil.example:{port}"}, b"wrong Host"),
        ({"Host": "127.0.0.1"}, b"wrong Host"),
        ({"Host": None}, b""),
        ({"Origin": "http://evil.example"}, b"wrong Origin"),
        ({"Origin": "null"}, b"wrong Origin"),
    ],
)
def test_what_is_not_ours_is_refused(strict, path, changed, why):
    client, _ = strict
    changed = {n: value and value.format(port=client.port) for n, value in changed.items()}
    status, _, body = client.ask("GET", path, **changed)
    assert status in (400, 403)
    assert why in body


def test_a_wrong_token_is_refused(strict):
    client, _ = strict
    for token in ("", "wrong", client.token[:-1], "%ff"):
        status, headers, _ = client.ask("GET", f"/?token={token}", Cookie=None)
        assert (status, "set-cookie" in headers) == (403, False)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Origin": None}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Cookie": None}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
    ],
)
def test_only_our_own_page_may_store_labels(strict, changed, status):
    client, _ = strict
    changed = {n: value and value.format(port=client.port) for n, value in changed.items()}
    (alert,) = (card["id"] for card in client.next(count=1)["alerts"])
    content = {"labeller": "ann", "events": [label(alert)]}
    assert client.post("/api/events", content, **changed)[0] == status


def test_our_own_page_has_two_names(client):
    (alert,) = (card["id"] for card in client.next(count=1)["alerts"])
    host = f"localhost:{client.port}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    headers["Content-Type"] = "application/json; charset=utf-8"
    content = {"labeller": "ann", "events": [label(alert)]}
    assert client.post("/api/events", content, **headers)[0] == 200


def test_it_listens_on_this_machine_only(strict):
    client, session = strict
    with socket.socket() as other:
        other.settimeout(2)
        # a server that listened everywhere would be there, too
        assert other.connect_ex(("127.0.0.2", client.port)) != 0
    with pytest.raises(OutputError, match="cannot listen on port"):
        LabelServer(session, client.port)


# what is stored ----------------------------------------------------------------------------------


def test_alerts_come_with_pictures_and_without_scores(client, queue_file):
    found = client.next(count=3)
    assert len(found["alerts"]) == 3
    assert found["progress"] == {
        "total": len(read_queue(queue_file)),
        "done": 0,
        "mine": 0,
        "per_minute": None,
    }
    assert "acai" not in json.dumps(found)
    first = found["alerts"][0]
    status, headers, body = client.ask("GET", f"/picture/{first['id']}.png")
    assert (status, headers["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
    assert "private" in headers["cache-control"]
    assert client.ask("GET", "/picture/1.png")[0] == 404
    assert client.ask("GET", "/static/..%2fserver.py")[0] == 404
    again = client.next(count=4, have=[card["id"] for card in found["alerts"]])
    assert len(again["alerts"]) == 1


def test_a_label_is_stored_once_with_what_is_known_of_the_alert(client, session, queue_file):
    card = client.next(count=1)["alerts"][0]
    event = label(card["id"], comment=" two\nlines ", seconds=2.0)
    for _ in range(2):  # the browser tries again where an answer got lost
        status, found = client.send(event)
        assert (status, found["saved"]) == (200, ["r1"])
    assert found["progress"]["mine"] == 1
    assert found["progress"]["per_minute"] == 30.0
    (stored,) = session.store.history()
    queue = read_queue(queue_file)
    (row,) = queue.filter(pl.col("candid") == stored.alert_id).to_dicts()
    assert (stored.label, stored.comment, stored.object_id) == ("h", "two lines", row["objectId"])
    assert (stored.asked.why, stored.asked.round) == (row["why"], 1)
    assert client.next()["last"]["request"] == "r1"
    undo = {"request": "r2", "alert": card["id"], "action": "undo", "undoes": "r1"}
    status, _ = client.send(undo)
    assert (status, client.next()["last"]) == (200, None)


def test_scores_are_told_after_the_label_and_not_of_tests_and_second_opinions(client, session):
    told = set()
    for card in client.next(count=20)["alerts"]:
        _, found = client.send(label(card["id"], request=card["id"]))
        kept = split_of(card["object"]) != "train" or session.opinions(int(card["id"])) > 1
        assert bool(found["revealed"]) != kept
        told.add(kept)
    assert told == {True, False}


def test_a_second_labeller_is_asked_blindly(client, session):
    first = client.next(count=20)["alerts"]
    for card in first:
        client.send(label(card["id"], request=card["id"]))
    assert client.next(count=20)["alerts"] == []
    second = client.next("bob", count=20)
    doubled = [card["id"] for card in first if session.opinions(int(card["id"])) > 1]
    assert [card["id"] for card in second["alerts"]] == doubled
    assert 0 < len(doubled) < len(first)
    assert second["last"] is None
    assert '"h"' not in json.dumps([card | {"light_curve": []} for card in second["alerts"]])


BAD = [
    {"alert": "1"},
    {"alert": 7},
    {"alert": "٣"},
    {"alert": None},
    {"request": ""},
    {"request": "r" * 65},
    {"request": 7},
    {"action": "drop"},
    {"action": "skip"},
    {"label": "x"},
    {"label": None},
    {"label": ["h"]},
    {"seconds": -1},
    {"seconds": "1"},
    {"seconds": True},
    {"comment": "x" * 501},
    {"comment": "\u0000"},
    {"comment": {}},
    {"undoes": "r0"},
    {"action": "undo", "label": None, "undoes": "r0"},
    {"action": "undo", "label": None},
]


@pytest.mark.parametrize("changed", BAD)
def test_bad_events_are_refused_and_nothing_is_stored(strict, changed):
    client, session = strict
    good, other = (card["id"] for card in client.next(count=2)["alerts"])
    status, found = client.send(label(good), {**label(other, "r2"), **changed})
    assert (status, set(found)) == (400, {"error"})
    assert list(session.store.history()) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"labeller": "ann", "events": []}', 400),
        (b'{"labeller": "=1+1", "events": [{}]}', 400),
        (b'{"labeller": "ann", "events": [7]}', 400),
        (b'{"labeller": "ann", "events": [{"seconds": NaN}]}', 400),
        (b" " * (2**18 + 1), 413),
    ],
)
def test_what_is_no_request_is_refused(strict, body, status):
    client, _ = strict
    assert client.ask("POST", "/api/events", body)[0] == status
    assert client.ask("GET", "/api/events")[0] == 405


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENT = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["request", "alert", "action", "label", "seconds", "undoes"], JSON)
)


def test_whatever_is_sent_is_an_answer_or_a_clear_error(strict):
    _, session = strict

    @given(st.fixed_dictionaries({"labeller": JSON, "events": st.lists(EVENT | JSON)}))
    def try_it(asked):
        with pytest.raises(LabelsError):
            session.add_events(asked)

    try_it()


def test_labels_have_keys_of_their_own():
    assert [each.key for each in choices_of("honvb")] == [*"honvb"]
    assert [each.key for each in choices_of(["u", "g", "SN Ia", "x"])] == ["1", "2", "3", "x"]
    many = [f"class {number}" for number in range(11)]
    for bad in ([], ["h", "h"], [""], ["=1"], ["x" * 65], ["\n"], many):
        with pytest.raises(LabelsError, match="label"):
            choices_of(bad)


# the command -------------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong(queue_file, tmp_path):
    store = ("--store", tmp_path / "labels.db")
    wrong = acai_jax("label", queue_file.with_name("scores.parquet"), *store)
    assert (wrong.returncode, "is no queue" in wrong.stderr) == (1, True)
    assert acai_jax("label", queue_file, *store, "--overlap", 2).returncode == 2
    gone = acai_jax("label", queue_file, *store, "--alerts", tmp_path / "none")
    assert (gone.returncode, "no such file" in gone.stderr) == (1, True)


def test_ctrl_c_ends_the_command(queue_file, tmp_path):
    with labelling(queue_file, "--store", tmp_path / "labels.db", "--port", 0) as running:
        running.process.terminate()
        assert running.process.wait(60) == 0
