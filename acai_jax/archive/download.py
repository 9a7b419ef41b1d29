"""Large files over HTTP: resumed where they stopped, checked, and put in place when whole.

While a file is under way it is called `<name>.part`. Beside it, `<name>.part.json` says which
version of the file its bytes belong to, so that no two versions are ever joined.
"""

import base64
import contextlib
import dataclasses
import fcntl
import http
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from acai_jax.errors import AcaiError, DownloadError

_ATTEMPTS: Final = 5  # in a row, without a new byte
_TIMEOUT_SECONDS: Final = 30
_MAX_PAUSE_SECONDS: Final = 60.0
_READ_BYTES: Final = 2**20
_PASSING_ERRORS: Final = (408, 416, 425, 429)  # of 400 to 499, the ones worth another attempt


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is.

    Attributes:
        done: bytes that are there.
        total: bytes of the whole file, where the server says it.
        note: what the download waits for; empty while bytes come in.
    """

    done: int
    total: int | None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Version:
    """Which file the bytes of a part belong to, as the server told at its first byte."""

    validator: str | None  # a strong ETag, or the time of the last change
    total: int | None


class _CutError(Exception):
    """An attempt failed in a way that another may not; says how long to wait at least."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def download(
    url: str,
    target: Path,
    check: Callable[[Path], None],
    *,
    check_end: Callable[[Path], None] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
    pause: float = 1.0,
) -> None:
    """Downloads a file, going on with what an earlier attempt left, and puts it in place at once.

    Several processes may ask for the same file: one downloads it, the others wait.

    Args:
        url: where it is, by http or https; a user and a password in it are sent by Basic
            authentication, and never shown.
        target: where to put it. A file there that passes `check` is left as it is, any other is
            replaced.
        check: raises an `AcaiError` if the finished file is not the one expected; the file is
            then removed, and the error goes on to the caller.
        check_end: as `check`, where the server did not say how long the file is: nothing else may
            tell that the connection was cut.
        report: called as bytes come in, and when the download has to wait.
        pause: seconds before the second attempt; doubled before each later one.

    Raises:
        DownloadError: it cannot be had, or does not fit on the disk.

    Example:
        >>> download("ftp://example.org/night.tar.gz", Path("night.tar.gz"), lambda path: None)
        Traceback (most recent call last):
        acai_jax.errors.DownloadError: not an http or https address: ftp://example.org/night.tar.gz
    """
    request = _request(url)
    if target.is_file() and _passes(check, target):
        return  # also from a folder that cannot be written
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked_part(target, report) as part:
            if target.is_file() and _passes(check, target):
                part.truncate(0)  # another process was faster
                return
            sized = _fetch_all(request, part, report, pause)
            path = Path(part.name)
            try:
                check(path)
                if not sized:
                    check_end(path)
            except AcaiError:
                part.truncate(0)
                raise
            path.replace(target)
            _facts_path(part).unlink()
    except OSError as error:
        raise DownloadError(f"cannot write {target}: {error.strerror or error}") from None


def shown_url(url: str) -> str:
    """A URL as messages may show it: without user, password and query.

    Example:
        >>> shown_url("https://me:secret@example.org/alerts/night.tar.gz?token=secret")
        'https://example.org/alerts/night.tar.gz'
    """
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")
    )


def _request(url: str) -> urllib.request.Request:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise DownloadError(f"not an address: {error}") from None
    user, _, host = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https") or not host:
        raise DownloadError(f"not an http or https address: {shown_url(url)}")
    address = urllib.parse.urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(address, headers={"User-Agent": "acai_jax"})
    if user:
        secret = urllib.parse.unquote_to_bytes(user if ":" in user else f"{user}:")
        # a redirection to another host must not carry it along
        request.add_unredirected_header(
            "Authorization", f"Basic {base64.b64encode(secret).decode()}"
        )
    return request


@contextlib.contextmanager
def _locked_part(target: Path, report: Callable[[Progress], None]) -> Iterator[BinaryIO]:
    """The unfinished file, open for appending, once no other process or thread writes it."""
    path = target.with_name(target.name + ".part")
    while True:
        with path.open("ab") as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(Progress(0, None, "another process downloads this file: waiting for it"))
                fcntl.flock(part, fcntl.LOCK_EX)
            if not _is_at(part, path):
                continue  # its last writer has finished or removed it
            try:
                yield part
            finally:
                if _is_at(part, path) and os.fstat(part.fileno()).st_size == 0:
                    _facts_path(part).unlink(missing_ok=True)
                    path.unlink()
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _passes(check: Callable[[Path], None], path: Path) -> bool:
    try:
        check(path)
    except AcaiError:
        return False
    return True


def _fetch_all(
    request: urllib.request.Request,
    part: BinaryIO,
    report: Callable[[Progress], None],
    pause: float,
) -> bool:
    """Asks again and again until the file is whole, or nothing new comes.

    Returns:
        Whether the server has said how long it is.
    """
    failures, most = 0, _size(part)
    while True:
        try:
            sized = _fetch(request, part, report)
            break
        except _CutError as error:
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures == _ATTEMPTS:
                raise DownloadError(f"cannot download {_address(request)}: {error}") from None
            wait = min(max(pause * 2 ** (failures - 1), error.wait), _MAX_PAUSE_SECONDS)
            report(Progress(_size(part), None, f"{error}: trying again in {wait:.0f} s"))
            time.sleep(wait)
    os.fsync(part.fileno())
    return sized


def _fetch(
    request: urllib.request.Request, part: BinaryIO, report: Callable[[Progress], None]
) -> bool:
    """One request for the bytes that are missing, appended to `part` as they come.

    Returns:
        Whether the server has said how many they are.

    Raises:
        _CutError: not all of them came.
        DownloadError: another attempt would not help.
    """
    earlier, start = _read_facts(part), _size(part)
    request.remove_header("Range")
    request.remove_header("If-range")
    if earlier is None:
        start = 0
    elif start == earlier.total:
        return True
    else:
        request.add_header("Range", f"bytes={start}-")
        if earlier.validator:
            request.add_header("If-Range", earlier.validator)
    with _open(request, part) as response:
        version = _Version(_validator(response.headers), _total(response))
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not (earlier and _continues(response, version, earlier, start)):
            part.truncate(0)
            raise _CutError("the file has changed meanwhile, so it is fetched anew")
        _check_space(part, version.total)
        if not resumed:
            start = 0
            part.truncate(0)
            _write_facts(part, version)
        report(Progress(start, version.total))
        try:
            for chunk in _chunks(response):
                part.write(chunk)
                start += len(chunk)
                report(Progress(start, version.total))
        except BaseException:
            if version.total is None:  # nothing can go on from here, and the disk may be full
                with contextlib.suppress(OSError):
                    part.flush()
                os.ftruncate(part.fileno(), 0)
            raise
        finally:
            part.flush()  # or the next attempt would count too few bytes
    if version.total is not None and start != version.total:
        raise _CutError(f"the connection was cut at byte {start:,} of {version.total:,}")
    return version.total is not None


def _open(request: urllib.request.Request, part: BinaryIO) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        # the error's own text may name the address that it was sent on to, with its query
        problem = f"HTTP {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if 400 <= error.code < 500 and error.code not in _PASSING_ERRORS:
            raise DownloadError(
                f"cannot download {_address(request)}: {problem}", error.code
            ) from None
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.truncate(0)  # it is longer than the file
        asked = error.headers.get("Retry-After", "")
        raise _CutError(problem, float(asked) if asked.isdecimal() else 0.0) from None
    except (http.client.InvalidURL, ValueError):
        raise DownloadError(f"not an address that can be asked for: {_address(request)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_cause(error)) from None


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read1(_READ_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_cause(error)) from None


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    text = getattr(reason, "strerror", None) or str(reason)
    return text or type(error).__name__


def _address(request: urllib.request.Request) -> str:
    return shown_url(request.full_url)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    etag = headers.get("ETag", "")
    # a weak ETag does not promise the same bytes
    return headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag


def _total(response: http.client.HTTPResponse) -> int | None:
    """Bytes of the whole file, where the server says it."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _continues(
    response: http.client.HTTPResponse, version: _Version, earlier: _Version, start: int
) -> bool:
    """Whether a response holds the bytes from `start` on of the file begun earlier."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return (
        first == str(start)
        and version.total == earlier.total
        # an answer to If-Range may leave the time of the last change out
        and version.validator in (None, earlier.validator)
    )


def _check_space(part: BinaryIO, total: int | None) -> None:
    folder = Path(part.name).parent
    missing, free = (total or 0) - _size(part), shutil.disk_usage(folder).free
    if missing > free:
        raise DownloadError(
            f"not enough space in {folder}: {missing / 1e9:.3g} GB are still to come, "
            f"{free / 1e9:.3g} GB are free"
        )


def _size(part: BinaryIO) -> int:
    return os.fstat(part.fileno()).st_size


def _facts_path(part: BinaryIO) -> Path:
    return Path(f"{part.name}.json")


def _read_facts(part: BinaryIO) -> _Version | None:
    """What is known of the bytes in `part`; None where there are none that can be used."""
    path = _facts_path(part)
    if _size(part) == 0 or not path.is_file():
        return None
    try:
        version = _Version(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        return None
    return version if version.total is not None and _size(part) <= version.total else None


def _write_facts(part: BinaryIO, version: _Version) -> None:
    # `part` is empty here: a kill in the middle of this leaves no bytes of unknown origin
    _facts_path(part).write_text(json.dumps(dataclasses.asdict(version)))
