"""Who may talk to the labelling page: the browser that was given its address, and nobody else.

The server listens on this machine only, but other users and any page that the browser has open can
reach it. So the address holds a random token, which becomes a cookie that no script reads and no
other site sends; `Host` must be one of ours, or a foreign name that points here (DNS rebinding)
would do; `Origin` must be ours, or another page's forms would do; and what is sent must be JSON.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS: Final[Mapping[str, str]] = {
    # nothing is loaded from anywhere else, and nothing is sent there
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Middleware: lets through what is ours.

    Args:
        app: behind it.
        port: of the server.
        token: that the address holds.
    """

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self._app = app
        self._token = token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._cookie = f"acai_label_{port}"  # a browser has one jar for all ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] != "http":
            return  # nothing else is spoken here

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer(Request(scope)) or self._app
        await answer(scope, receive, send_safely)

    def _answer(self, request: Request) -> Response | None:
        """What is said in place of the application."""
        if request.headers.get("host") not in self._hosts:
            return _refused("wrong Host")
        origin = request.headers.get("origin")
        is_read = request.method in ("GET", "HEAD")
        if origin not in self._origins and not (is_read and origin is None):
            return _refused("wrong Origin")
        given = request.query_params.get("token")
        if given is not None and request.url.path == "/" and is_read:
            return self._enter(request, given)
        if not _same(request.cookies.get(self._cookie, ""), self._token):
            return _refused("no or a wrong token: open the address that acai-jax label printed")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not is_read and kind != "application/json":
            return PlainTextResponse("only JSON is taken", 415)
        return None

    def _enter(self, request: Request, given: str) -> Response:
        if not _same(given, self._token):
            return _refused("wrong token: open the address that acai-jax label printed")
        # away with the token: addresses are remembered, and shown
        kept = [(name, value) for name, value in request.query_params.items() if name != "token"]
        answer = RedirectResponse(f"/?{urlencode(kept)}" if kept else "/", 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return answer


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _refused(why: str) -> Response:
    return PlainTextResponse(why, 403)
