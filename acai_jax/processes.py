"""Ctrl-C and SIGTERM, heard wherever a command stands.

Python runs a handler in the main thread only, between two bytecodes: not while that thread is in a
compiler, and what the handler raises may be swallowed on its way. So a thread listens too. It tells
a command that finishes what is in hand, and ends a process that has not gone by itself in time.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, NoReturn

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS: Final = 1.5  # to leave by itself, parts and partial files put in order
_SAY_SECONDS: Final = 0.2  # a full pipe must not keep a process alive
_END: Final = 0  # no signal's number: there will be no more


@contextlib.contextmanager
def hearing_signals() -> Iterator[None]:
    """The first signal ends the block by KeyboardInterrupt, and soon the process.

    The exit status is 130 after Ctrl-C and 143 after SIGTERM. What the block has on disk must be
    fit for that at any time. May be entered again inside: libraries that are imported meanwhile
    bring handlers of their own, which are then replaced.
    """
    try:
        with _EAR.listening():
            yield
    except KeyboardInterrupt:
        _EAR.leave(_EAR.number)


@contextlib.contextmanager
def finishing(say: Callable[[str], object]) -> Iterator[threading.Event]:
    """The first signal asks the block to finish what is in hand; a second one ends the process.

    Args:
        say: is told, in another thread, that a signal was heard.

    Yields:
        The event that is set by the first signal.
    """
    stop = threading.Event()
    with _EAR.listening(), _EAR.asking(stop, say):
        yield stop


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait for the end of the block; processes that start in it never hear them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        # blocked here, a signal is taken by another thread, and its handler still runs in this one
        with _EAR.shielded():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def say_if_interrupted(line: str) -> None:
    """Sets what a signal's end of this process says last, however it ends; "" for nothing."""
    _EAR.last_line = line


class _Ear:
    """What this process has heard, and what is done about it."""

    def __init__(self) -> None:
        self.number: int = signal.SIGINT
        """Of the signal that was heard first."""
        self.last_line = ""
        """What a user is told at the end."""
        self._writer: int | None = None
        self._answered = False
        self._said = False
        self._shielded = False
        self._waiting = False
        self._stop: threading.Event | None = None
        self._say: Callable[[str], object] = print
        self._hook: Callable[[Any], object] = sys.__unraisablehook__

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # what is ignored, as Ctrl-C is in the background of a shell, stays so
        ours = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        with contextlib.ExitStack() as stack:
            if self._writer is None:
                stack.enter_context(self._watching())
            for number in ours:
                before: Any = signal.signal(number, self._handle) or signal.SIG_DFL
                stack.callback(signal.signal, number, before)
            yield

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        self._answered = self._said = self._waiting = False
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        watcher = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        watcher.start()
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore
        try:
            yield
        finally:
            sys.unraisablehook = self._hook
            signal.set_wakeup_fd(before)
            os.write(self._writer, bytes([_END]))
            watcher.join()
            os.close(reader)
            os.close(self._writer)
            self._writer = None

    @contextlib.contextmanager
    def asking(self, stop: threading.Event, say: Callable[[str], object]) -> Iterator[None]:
        if self._writer is None:  # not in the main thread
            yield
            return
        self._stop, self._say = stop, say
        try:
            yield
        finally:
            self._stop = None

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
            if self._waiting:
                self._waiting = False
                self._interrupt()

    def _ignore(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Keeps quiet of an interrupt in a callback, where it is lost: `_watch` is there for it."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._hook(unraisable)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, as soon as it can."""
        if self._answered or self._ask():
            return
        self.number = number
        if self._shielded:
            self._waiting = True
        elif _is_importing(frame):
            self.leave(number)  # libraries in C crash where an import of theirs is interrupted
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        self._answered = True
        raise KeyboardInterrupt

    def _ask(self) -> bool:
        """Asks a command to finish, if it is one of those."""
        if self._stop is None:
            return False
        self._answered = True
        self._stop.set()
        return True

    def _watch(self, reader: int) -> None:
        """In a thread of its own, whatever the main thread is at."""
        number = _heard(reader, None)
        if not number:
            return
        asked, say = self._ask(), self._say
        if asked:
            name = signal.Signals(number).name
            _aside(say, f"{name}: finishing what is in hand; a second one exits at once")
        second = _heard(reader, None if asked else _GRACE_SECONDS)
        if second != _END:
            self.leave(second or number)

    def leave(self, number: int) -> NoReturn:
        """Ends the process and its workers, now."""
        if not self._said:
            self._said = True
            lines = filter(None, ("interrupted", self.last_line))
            _aside(_write, "".join(f"{line}\n" for line in lines)).join(_SAY_SECONDS)
        with contextlib.suppress(Exception):
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)
        os._exit(128 + number)


_EAR: Final = _Ear()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _heard(reader: int, seconds: float | None) -> int | None:
    """The next signal, or `_END`; None if neither comes in time."""
    while select.select([reader], [], [], seconds)[0]:
        found = os.read(reader, 1)[0]
        if found == _END or found in _SIGNALS:
            return found
    return None


def _aside(function: Callable[[str], object], text: str) -> threading.Thread:
    thread = threading.Thread(target=function, args=(text,), daemon=True)
    thread.start()
    return thread


def _write(text: str) -> None:
    # a progress bar hides the cursor
    shown = f"\x1b[?25h\n{text}" if os.isatty(2) else text
    with contextlib.suppress(OSError, ValueError):
        os.write(2, shown.encode())
        sys.stdout.flush()
