"""A real HTTP server on loopback, with the faults of real ones."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

CUT = ("cut", "stall", "no length cut")


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory, does a fault per request as asked, remembers the requests.

    Faults: a status code; "cut" (half of the body); "no ranges"; "no length"; "drop" (no answer);
    "stall" (half of the body, and the rest never); "silent 206" (takes no notice of If-Range);
    "chunked cut"; "no length cut"; or "" for none.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.missing = b""  # what is said of a file that is not there
        self.faults: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.before: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.before()
        self.server.requests.append({k.lower(): v for k, v in self.headers.items()})
        self.server.paths.append(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(self.path.partition("?")[0])
        if fault == "drop":
            return
        if fault.isdigit() or content is None:
            self.send_response(int(fault or 404))
            if fault == "302":
                self.send_header("Location", self.path.replace("/old/", "/new/"))
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            said = b"" if fault else self.server.missing
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            return
        start = self._start(fault)
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        if fault == "chunked cut":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body) // 2, body[: len(body) // 2]))
            return
        if not fault.startswith("no length"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in CUT else body)
        if fault == "stall":
            self.rfile.read(1)  # until the client hangs up

    def _start(self, fault: str) -> int:
        asked = self.headers.get("Range")
        if asked is None or fault == "no ranges":
            return 0
        condition = self.headers.get("If-Range")
        known = self.server.headers.values()
        if condition is not None and condition not in known and fault != "silent 206":
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
