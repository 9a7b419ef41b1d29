"""Schemas by their numbers, from a registry that speaks as Confluent's does, or from a folder."""

import base64
import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from typing import Any, Final

from acai_jax.alerts.framing import SchemaFolder
from acai_jax.errors import PacketError, StreamError
from acai_jax.files import write_atomically
from acai_jax.network.pretrained import cache_folder

log: Final = logging.getLogger("acai_jax.stream")

_ADDRESS: Final = re.compile(r"https?://[^\s,/?#]+(/[^\s,?#]*)?")
_ANSWER_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0
_MOST_BYTES: Final = 4 * 2**20
_NO_SUCH_SCHEMA: Final = 40403


class StoppedError(StreamError):
    """The stream was told to stop while a schema was waited for."""


class SchemaRegistry:
    """A registry's Avro schemas. Each is asked for once: what a number stands for never changes.

    They are kept in memory and in the cache folder. Safe to call from several threads.

    Args:
        url: of the registry, http or https.
        login: USER:PASSWORD.
        stop: ends the waiting for a registry that is away.

    Raises:
        StreamError: that is no address.

    Example:
        >>> SchemaRegistry("localhost:8081")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        acai_jax.errors.StreamError: --schema-registry takes a folder, http://HOST:PORT or ...
    """

    def __init__(
        self, url: str, login: str | None = None, stop: threading.Event | None = None
    ) -> None:
        if not _ADDRESS.fullmatch(url):
            raise StreamError("--schema-registry takes a folder, http://HOST:PORT or https://HOST")
        if "@" in url:
            raise StreamError("--schema-registry takes no password: set basic.auth.user.info")
        self._url = url.rstrip("/")
        self._login = login
        self._stop = stop or threading.Event()
        self._folder = cache_folder() / "schemas" / hashlib.sha256(self._url.encode()).hexdigest()
        self._known: dict[int, bytes] = {}
        self._away = False
        self._lock = threading.Lock()

    def schema(self, number: int) -> bytes:
        """The schema of that number, as JSON; while the registry is away, it is waited for.

        Raises:
            PacketError: there is none, or it is not Avro's.
            StreamError: the registry refuses us, or is none.
            StoppedError: it was still away when the stream was told to stop.
        """
        with self._lock:
            if number not in self._known:
                self._known[number] = self._kept(number) or self._fetch(number)
            return self._known[number]

    def _kept(self, number: int) -> bytes | None:
        try:
            schema = (self._folder / f"{number}.json").read_bytes()
            json.loads(schema)  # a power cut may have left half of it
        except (OSError, ValueError):
            return None
        return schema

    def _fetch(self, number: int) -> bytes:
        if self._away and self._stop.is_set():
            raise StoppedError("the schema registry is away")
        while True:
            try:
                answer = self._ask(number)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                why = getattr(error, "reason", None) or error
            if not self._away:
                log.warning("waiting for the schema registry: %s", why)
            self._away = True
            if self._stop.wait(_RETRY_SECONDS):
                raise StoppedError(f"the schema registry is away: {why}")
        if self._away:
            self._away = False
            log.info("the schema registry answers again")
        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise PacketError(f"not Avro: schema {number} of the registry is {kind!r:.40}")
        schema = answer["schema"].encode()
        with contextlib.suppress(OSError):  # it is in memory; a full cache costs a request a run
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{number}.json", lambda path: path.write_bytes(schema))
        return schema

    def _ask(self, number: int) -> dict[str, Any]:
        """The registry's answer.

        Raises:
            OSError, HTTPException, ValueError: there is none now, or none that makes sense.
        """
        request = urllib.request.Request(
            f"{self._url}/schemas/ids/{number}",
            headers={"Accept": "application/vnd.schemaregistry.v1+json", "User-Agent": "acai_jax"},
        )
        if self._login is not None:
            login = base64.b64encode(self._login.encode()).decode()
            # a redirection to another host must not carry it along
            request.add_unredirected_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
                answer = json.loads(response.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                self._explain(number, error)
            raise
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise ValueError("its answer is no schema")
        return answer

    def _explain(self, number: int, error: urllib.error.HTTPError) -> None:
        """Raises what waiting does not mend."""
        said = f"{error.code} {error.reason}"
        if error.code in (401, 403):
            raise StreamError(f"the schema registry refuses us: {said}")
        if error.code == 404:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                if json.loads(error.read(_MOST_BYTES))["error_code"] == _NO_SUCH_SCHEMA:
                    raise PacketError(f"no schema: {number} is not in the registry")
            raise StreamError(f"no schema registry at {self._url}: {said}")


Schemas = SchemaFolder | SchemaRegistry
"""Where schemas are."""


def open_schemas(where: str, login: str | None, stop: threading.Event) -> Schemas:
    """The schemas of a registry or a folder.

    Args:
        where: URL of the registry, or the folder.
        login: as for `SchemaRegistry`.
        stop: as for `SchemaRegistry`.

    Raises:
        StreamError: it is neither.
    """
    return SchemaFolder(where) if os.path.isdir(where) else SchemaRegistry(where, login, stop)
