"""Figures of a running stream: for Prometheus, for a health check, and for the log."""

import contextlib
import io
import socket
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final

from acai_jax.errors import Reject, StreamError
from acai_jax.extras import require

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_MOST_KINDS: Final = 40  # of reasons: a label's values stay few, whatever messages hold
_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 1800, 7200, 86400)
_MOST_CONNECTIONS: Final = 16  # at once
_CONNECTION_SECONDS: Final = 10.0
_ALERTS: Final = (1, 4, 16, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """Counts what a stream does.

    Raises:
        MissingPackageError: prometheus-client is not installed.

    Example:
        >>> metrics = Metrics()
        >>> metrics.count_rejected("null feature: drb")
        >>> metrics.value("rejected_total", {"reason": "null feature"})
        1.0
    """

    def __init__(self) -> None:
        prometheus = require("prometheus_client", "kafka")
        self.registry = prometheus.CollectorRegistry()
        self._kinds: set[str] = set()

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Any:
            return prometheus.Counter(_name(name), text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float | int, ...]) -> Any:
            return prometheus.Histogram(_name(name), text, buckets=buckets, registry=self.registry)

        self.consumed = counter("consumed", "Messages taken from Kafka")
        # each message is one of these three
        self.scored = counter("scored", "Alerts added to the table with scores")
        self.rejected = counter("rejected", "Messages added to the rejects, by kind", ["reason"])
        self.duplicates = counter("duplicates", "Messages of which all was there already")
        self.upgraded = counter("upgraded", "Alerts scored that were there without scores")
        self.passed = counter("passed", "Alerts that passed a filter", ["filter"])
        self.skewed = counter("clock_skew", "Alerts from the future, by their clock", ["clock"])
        self.lag = prometheus.Gauge(
            _name("lag"), "Messages still to take, of this worker", registry=self.registry
        )
        self.batch = histogram("batch_alerts", "Messages in a batch", _ALERTS)
        self._latency = {
            "jd": histogram(
                "latency_from_jd_seconds", "From exposure to flushed score [s]", _SECONDS
            ),
            "message": histogram(
                "latency_from_message_seconds", "From message to flushed score [s]", _SECONDS
            ),
        }
        prometheus.ProcessCollector(registry=self.registry)

    def count_rejected(self, reason: str) -> None:
        """Counts an alert without scores; of many kinds of reasons, the later ones are "other"."""
        kind = Reject(reason).kind
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = "other"
        self._kinds.add(kind)
        self.rejected.labels(kind).inc()

    def observe_latency(self, clock: str, seconds: Iterable[float]) -> None:
        """Takes latencies; negative ones count as 0, and as skew of that clock."""
        for value in seconds:
            if value < 0:
                self.skewed.labels(clock).inc()
            self._latency[clock].observe(max(0.0, value))

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """A figure by its name without the prefix; 0 where it has not been counted yet."""
        return self.registry.get_sample_value(_name(name), dict(labels or {})) or 0.0

    def total(self, name: str) -> float:
        """A counter, over all its labels."""
        found = (s for m in self.registry.collect() for s in m.samples if s.name == _name(name))
        return float(sum(sample.value for sample in found))


class Health:
    """Whether the work goes on: it is sound while `beat` is called often enough.

    Args:
        stall_seconds: without a beat for so long, it has stalled [s].

    Example:
        >>> Health(60).sound(), Health(0).sound()
        (True, False)
    """

    def __init__(self, stall_seconds: float | int) -> None:
        self._stall_seconds = stall_seconds
        self._last = time.monotonic()

    def beat(self) -> None:
        """The work has moved on."""
        self._last = time.monotonic()

    def sound(self) -> bool:
        """Whether it has moved on lately."""
        return time.monotonic() - self._last < self._stall_seconds


class MetricsServer:
    """Serves /metrics and /healthz until it is closed.

    Args:
        metrics: what to serve.
        sound: says whether the stream makes progress.
        address: to listen on.
        port: 0 for any that is free.

    Raises:
        StreamError: the port is taken, or the address is none of this machine.
    """

    def __init__(
        self, metrics: Metrics, sound: Callable[[], bool], address: str, port: int
    ) -> None:
        exposition = require("prometheus_client", "kafka").make_wsgi_app(metrics.registry)

        def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/metrics":
                return exposition(environ, start_response)
            status, text = "404 Not Found", "there are /metrics and /healthz\n"
            if path == "/healthz":
                status, text = ("200 OK", "ok\n")
                if not sound():
                    status, text = "503 Service Unavailable", "stalled\n"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [text.encode()]

        try:
            self._server = wsgiref.simple_server.make_server(
                address, port, app, server_class=_Server, handler_class=_Handler
            )
        except (OSError, OverflowError) as error:
            raise StreamError(f"cannot serve metrics on {address}:{port}: {error}") from None
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A thread for each connection; a new one gets through however many idle ones there are."""

    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        self._since: dict[socket.socket, float] = {}
        super().__init__(*given)

    def server_bind(self) -> None:
        # WSGIServer would look its own name up, which can take seconds
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore
        self.server_port = int(self.server_port)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes a connection, in the place of the oldest if there are too many."""
        too_many = max(0, len(self._since) + 1 - _MOST_CONNECTIONS)
        for oldest in list(self._since)[:too_many]:
            self._cut(oldest)
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Ends connections that have lasted too long, whatever they do; called twice a second."""
        oldest = time.monotonic() - _CONNECTION_SECONDS
        for request, since in list(self._since.items()):
            if since <= oldest:
                self._cut(request)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection, in its thread."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: what clients do is no trouble of the stream's."""

    def _cut(self, request: socket.socket) -> None:
        self._since.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # its thread then comes to its end


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing: a line per scrape would bury the others."""

    def get_stderr(self) -> Any:
        """Where wsgiref writes a traceback for each client that has gone."""
        return io.StringIO()


def _name(name: str) -> str:
    return f"acai_jax_stream_{name}"
