"""The labelling page's server: a queue, its cards and the store behind a few addresses."""

import dataclasses
import functools
import json
import math
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Final, cast

import jinja2
import polars as pl
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acai_jax.classes import CLASS_NAMES, CLASSES
from acai_jax.datasets.splits import stable_hash
from acai_jax.errors import AcaiError, LabelsError, OutputError, UsageError
from acai_jax.labelling.cards import Cards
from acai_jax.labelling.guard import Guard, new_token
from acai_jax.labelling.queue import asked_of
from acai_jax.labelling.store import Event, LabelStore
from acai_jax.report import html
from acai_jax.score.columns import score_columns
from acai_jax.surveys import survey_of_table
from acai_jax.text import FORMULA

_STATIC: Final = {
    "page.css": ("acai_jax.report", "text/css"),
    "label.css": ("acai_jax.labelling", "text/css"),
    "label.js": ("acai_jax.labelling", "text/javascript"),
    "light_curve.js": ("acai_jax.labelling", "text/javascript"),
}
_RESERVED: Final = frozenset("ucgs")  # keys of the page itself
_MOST_AT_ONCE: Final = 100
_MOST_BYTES: Final = 2**18
_MOST_TEXT: Final = {"request": 64, "labeller": 40, "comment": 500}
_LONGEST: Final = 86400.0  # [s] that an alert can have been looked at


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A label that can be given: what it is called, and the key for it."""

    label: str
    name: str
    key: str


def choices_of(labels: Sequence[str]) -> list[Choice]:
    """Labels with their keys: their own letter, or else a digit.

    Raises:
        LabelsError: there are none or too many, or one is given twice or no short text.

    Example:
        >>> [(each.name, each.key) for each in choices_of(["h", "kilonova", "u"])]
        [('hosted', 'h'), ('kilonova', '1'), ('u', '2')]
    """
    digits = iter("1234567890")
    found = []
    for label in labels:
        if not label or not _is_harmless(label, 64):
            raise LabelsError(f"label {label!r:.80} is no short text")
        own = len(label) == 1 and label.isascii() and label.isalpha() and label.islower()
        key = label if own and label not in _RESERVED else next(digits, "")
        found.append(Choice(label, CLASS_NAMES.get(label, label), key))
    if not found or len({*labels}) != len(found) or not all(each.key for each in found):
        raise LabelsError("labels: name at least one, each once, and ten at most without a letter")
    return found


def _is_harmless(text: str, most: int) -> bool:
    return len(text) <= most and text.isprintable() and not re.match(FORMULA, text)


class Session:
    """What the page can be asked.

    Args:
        queue: of `read_queue`.
        cards: of its alerts.
        store: of the labels.
        labels: that can be given.
        overlap: share of the alerts that get two opinions.
        labeller: who labels, unless the page is told otherwise.
        title: of the page.
    """

    def __init__(
        self,
        queue: pl.DataFrame,
        cards: Cards,
        store: LabelStore,
        *,
        labels: Sequence[str] = CLASSES,
        overlap: float = 0.0,
        labeller: str = "labeller",
        title: str = "Label alerts",
    ) -> None:
        if not 0 <= overlap <= 1:
            raise UsageError("--overlap takes a share, 0 to 1")
        self.survey = survey_of_table(queue.columns)
        self.choices = choices_of(labels)
        self.labeller, self.title = _name(labeller), title
        self.cards, self.store = cards, store
        self._overlap = overlap
        self._asked = asked_of(queue)
        ids = (self.survey.alert_id, self.survey.object_id)
        self._objects: dict[int, str] = dict(queue.select(ids).iter_rows())
        heads = score_columns(queue.columns)
        # what an alert of a test split got, nobody is told
        shown = queue.filter(pl.col("split") == "train").select(self.survey.alert_id, *heads)
        names = [head.removeprefix("acai_") for head in heads]
        self._scores = {
            alert_id: dict(zip(names, scores, strict=True))
            for alert_id, *scores in shown.iter_rows()
            if None not in scores
        }

    def opinions(self, alert_id: int) -> int:
        """How many labellers should see an alert; a hash decides, which no split goes by."""
        return 1 + (stable_hash(f"second opinion {alert_id}") < self._overlap * 2**64)

    def next_alerts(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Cards of the next alerts, but those that the browser has."""
        labeller = _name(asked.get("labeller"))
        count, have = asked.get("count"), asked.get("have")
        if type(count) is not int or not 0 < count <= _MOST_AT_ONCE:
            raise LabelsError(f"count: not from 1 to {_MOST_AT_ONCE}")
        if not isinstance(have, list) or not all(isinstance(each, str) for each in have):
            raise LabelsError("have: not a list of identifiers")
        taken = self.store.take(labeller, self._objects, count, self.opinions)
        cards = [self.cards.card(alert_id).facts for alert_id in taken if str(alert_id) not in have]
        last = self.store.standing().last(labeller)
        undoable = None
        if last is not None and last.alert_id in self._objects:
            card = self.cards.card(last.alert_id).facts
            undoable = {"request": last.request, "alert": card}
        progress = self.progress(labeller)
        return {"alerts": cards, "last": undoable, "progress": progress}

    def add_events(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Stores what a labeller did; says what the heads say of alerts that got labels."""
        labeller = _name(asked.get("labeller"))
        given = asked.get("events")
        if not isinstance(given, list) or not 0 < len(given) <= _MOST_AT_ONCE:
            raise LabelsError(f"events: not a list of 1 to {_MOST_AT_ONCE}")
        events = [self._event(each, labeller) for each in given]
        stored = self.store.append(events)
        return {
            "saved": [event.request for event in stored],
            "revealed": [found for event in stored if (found := self._revealed(event))],
            "progress": self.progress(labeller),
        }

    def _event(self, given: object, labeller: str) -> Event:
        if not isinstance(given, dict):
            raise LabelsError("event: not an object")
        request = _text(given, "request")
        text = given.get("alert")
        digits = isinstance(text, str) and text.removeprefix("-").isdecimal() and len(text) < 21
        alert_id = int(cast(str, text)) if digits else None
        if not request or alert_id is None or alert_id not in self._objects:
            raise LabelsError("event: no request, or an alert that is not in the queue")
        action, label, seconds = given.get("action"), given.get("label"), given.get("seconds")
        if action not in ("label", "unsure", "skip", "undo"):
            raise LabelsError(f"event {request}: no such action")
        if (action == "label") != (label is not None) or (
            label is not None and label not in [each.label for each in self.choices]
        ):
            raise LabelsError(f"event {request}: no such label")
        if seconds is not None and not (
            type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0
        ):
            raise LabelsError(f"event {request}: seconds is no time")
        undoes = _text(given, "undoes")
        if (action == "undo") != (undoes is not None):
            raise LabelsError(f"event {request}: undoes is for an undo")
        return Event(
            request=request,
            labeller=labeller,
            action=action,
            alert_id=alert_id,
            object_id=self._objects[alert_id],
            label=label,
            comment=_text(given, "comment"),
            seconds=None if seconds is None else min(float(seconds), _LONGEST),
            undoes=undoes,
            asked=self._asked[alert_id],
        )

    def _revealed(self, event: Event) -> dict[str, Any] | None:
        """The scores of an alert that has got a label; never where someone else will label it."""
        hidden = event.action != "label" or self.opinions(event.alert_id) > 1
        if hidden or event.alert_id not in self._scores:
            return None
        scores = self._scores[event.alert_id].items()
        told = [(name, f"{score:.3f}") for name, score in scores]
        return {"id": str(event.alert_id), "object": event.object_id, "scores": told}

    def progress(self, labeller: str) -> dict[str, Any]:
        """How far the labeller is, and all together."""
        standing = self.store.standing()
        done = sum(not standing.missing(each, self.opinions(each)) for each in self._objects)
        mine = sum(labeller in standing.answers(each) for each in self._objects)
        rate = standing.labels_per_minute(labeller)
        return {"total": len(self._objects), "done": done, "mine": mine, "per_minute": rate}


def _name(given: object) -> str:
    name = given.strip() if isinstance(given, str) else ""
    if not name or not _is_harmless(name, _MOST_TEXT["labeller"]):
        raise LabelsError("labeller: not a short name")
    return name


def _text(given: Mapping[str, Any], name: str) -> str | None:
    """A text of an event, one line; None where there is none."""
    text = given.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > _MOST_TEXT.get(name, _MOST_TEXT["request"]):
        raise LabelsError(f"event: {name} is no short text")
    text = " ".join(text.split())
    if not text.isprintable():
        raise LabelsError(f"event: {name} is no short text")
    return text or None


# HTTP --------------------------------------------------------------------------------------------


def make_app(session: Session, port: int, token: str) -> Starlette:
    """The application, behind its guard."""
    routes = [
        Route("/", functools.partial(_page, session)),
        Route("/static/{name}", _static_file),
        Route("/picture/{alert_id:int}.png", functools.partial(_picture, session)),
        Route("/api/next", functools.partial(_answer, session.next_alerts), methods=["POST"]),
        Route("/api/events", functools.partial(_answer, session.add_events), methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, port=port, token=token)])


async def _page(session: Session, request: Request) -> Response:
    del request
    templates = html.environment().overlay(loader=jinja2.PackageLoader("acai_jax.labelling"))
    page = templates.get_template("label_page.html.j2").render(
        title=session.title,
        survey=session.survey,
        choices=session.choices,
        labeller=session.labeller,
        store=str(session.store.path.absolute()),
    )
    return Response(page, media_type="text/html")


async def _static_file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("no such file", 404)
    package, kind = _STATIC[name]
    content = resources.files(package).joinpath("static", name).read_bytes()
    return Response(content, media_type=kind)


async def _picture(session: Session, request: Request) -> Response:
    try:
        card = await run_in_threadpool(session.cards.card, request.path_params["alert_id"])
    except KeyError:
        return Response("no such alert", 404)
    if card.png is None:
        return Response("no stamps", 404)
    # asked for ahead, and shown without asking again
    cached = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(card.png, media_type="image/png", headers=cached)


async def _answer(
    respond: Callable[[Mapping[str, Any]], dict[str, Any]], request: Request
) -> Response:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            return JSONResponse({"error": "too large"}, 413)
    try:
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise LabelsError("not a JSON object")
        found = await run_in_threadpool(respond, asked)
    except OutputError as error:
        return JSONResponse({"error": str(error)}, 503)  # the browser tries again
    except (AcaiError, ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, AcaiError) else "no JSON"
        return JSONResponse({"error": said}, 400)
    return JSONResponse(found)


class LabelServer:
    """Serves a session on this machine, in a thread of its own, until it is closed.

    Args:
        session: to serve.
        port: to listen on; 0 for any.

    Raises:
        OutputError: the port is taken.

    Attributes:
        url: for the browser, with the token.
        port: that it listens on.
    """

    def __init__(self, session: Session, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen(128)  # who comes before the thread has begun waits for it
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise OutputError(f"cannot listen on port {port}: {error}") from None
        self.port = port = self._socket.getsockname()[1]
        token = new_token()
        self.url = f"http://127.0.0.1:{port}/?token={token}"
        config = uvicorn.Config(
            make_app(session, port, token),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            http="h11",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        # signals are heard elsewhere
        self.thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        """Ends the server; what was answered is stored."""
        self._server.should_exit = True
        self.thread.join()
        self._socket.close()
