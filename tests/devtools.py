"""A real browser, driven by DevTools through a pipe: keys are pressed, and pictures taken."""

import base64
import contextlib
import itertools
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chromium import CHROMIUM

_NAMED = {
    "Backspace": ("Backspace", 8, None),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, None),
    "ArrowRight": ("ArrowRight", 39, None),
    "ArrowDown": ("ArrowDown", 40, None),
    " ": ("Space", 32, " "),
}


class Browser:
    """One browser process with tabs; see `running_browser`."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, writer: int) -> None:
        self.process = process
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Sends a command, and waits for what it gives."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writer, data) :]
        while True:
            found = self._message(60)
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            self.events.append(found)

    def _message(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            part = os.read(self._reader, 2**20)
            assert part, "the browser is gone"
            self._buffer += part
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)

    def tab(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> "Tab":
        """A new tab in a profile of its own, with a page that is loaded."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        tab.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.command("Emulation.setEmulatedMedia", features=[scheme])
        tab.open(url)
        return tab


class Tab:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self._session = session

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command to this tab."""
        return self.browser.command(method, self._session, **params)

    def open(self, url: str) -> None:
        """Goes to an address."""
        self.command("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """What an expression gives; a promise is waited for."""
        options = {"returnByValue": True, "awaitPromise": True}
        found = self.command("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):  # while another page is loading
                if self.run(f"Boolean({condition})"):
                    return
            assert time.monotonic() < end, f"not so in time: {condition}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            letter = (f"Key{key.upper()}", ord(key.upper()[0]), key)
            code, number, text = _NAMED.get(key, letter)
            common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.command("Input.dispatchKeyEvent", **down, **common)
            self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path) -> None:
        """Takes a picture of what is in sight."""
        data = self.command("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def requests(self) -> list[str]:
        """The addresses that the tab has asked for."""
        found = self._events("Network.requestWillBeSent")
        return [each["request"]["url"] for each in found]

    def complaints(self) -> list[str]:
        """What went wrong in the page: exceptions, and errors in its log."""
        entries = [each["entry"] for each in self._events("Log.entryAdded")]
        thrown = [str(each["exceptionDetails"]) for each in self._events("Runtime.exceptionThrown")]
        return [f"{e['text']} {e.get('url')}" for e in entries if e["level"] == "error"] + thrown

    def _events(self, method: str) -> list[dict[str, Any]]:
        self.run("0")  # those that are on their way
        found = (e for e in self.browser.events if e.get("sessionId") == self._session)
        return [event["params"] for event in found if event["method"] == method]


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window."""
    assert CHROMIUM is not None
    commands, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # the browser reads commands from descriptor 3, and answers to 4
        shell = f'exec "$@" 3<&{commands[0]} 4>&{answers[1]}'
        arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        quiet = ("--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}")
        process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", CHROMIUM, *arguments, *quiet],
            pass_fds=(commands[0], answers[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        browser = Browser(process, answers[0], commands[1])
        try:
            yield browser
            browser.command("Browser.close")
        finally:
            os.close(commands[1])
            os.close(answers[0])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
