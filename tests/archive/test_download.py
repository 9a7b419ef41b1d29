"""Downloads from a real server on loopback, which cuts, refuses, changes its mind, or is gone."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server import Server, running_server

from acai_jax.archive import download
from acai_jax.archive.download import Progress
from acai_jax.errors import AcaiError, DownloadError

CONTENT = bytes(range(256)) * 1000
HALF = f"bytes={len(CONTENT) // 2}-"
OTHER = CONTENT[::-1]


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        server.files["/file"] = CONTENT
        yield server


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "new" / "file"


def expect_content(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise AcaiError("another file")


def fetch(server: Server, target: Path) -> list[Progress]:
    reports: list[Progress] = []
    download.download(
        f"{server.url}/file", target, expect_content, report=reports.append, pause=0.0
    )
    return reports


def is_complete(target: Path) -> bool:
    """The file is there, and nothing else is."""
    return target.read_bytes() == CONTENT and os.listdir(target.parent) == [target.name]


def test_a_file_is_fetched_with_progress(server, target):
    reports = fetch(server, target)
    assert is_complete(target)
    assert reports[0] == Progress(0, len(CONTENT))
    assert reports[-1] == Progress(len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_fetched_again(server, target):
    for _ in range(2):
        fetch(server, target)
    assert len(server.requests) == 1
    target.write_bytes(b"damaged")
    fetch(server, target)
    assert is_complete(target)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "headers",
    [{}, {"ETag": '"1"'}, {"Last-Modified": "Tue, 26 Jun 2018 10:00:00 GMT", "ETag": 'W/"1"'}],
)
def test_a_cut_download_goes_on_where_it_stopped(server, target, headers):
    server.headers = headers
    server.faults = ["cut", "503", "drop"]
    reports = fetch(server, target)
    assert is_complete(target)
    assert server.ranges == [None, HALF, HALF, HALF]
    asked = server.requests[1].get("if-range")
    assert asked == {0: None, 1: '"1"', 2: "Tue, 26 Jun 2018 10:00:00 GMT"}[len(headers)]
    notes = [report.note for report in reports if report.note]
    assert "the connection was cut at byte 128,000 of 256,000" in notes[0]
    assert "HTTP 503 Service Unavailable" in notes[1]
    assert len(notes) == 3


def test_a_later_call_goes_on_with_what_is_there(server, target):
    server.faults = ["cut", "404"]
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(server, target)
    assert not target.exists()
    fetch(server, target)
    assert is_complete(target)
    assert server.ranges == [None, HALF, HALF]


def test_a_server_without_ranges_sends_all_again(server, target):
    server.faults = ["cut", "no ranges"]
    fetch(server, target)
    assert is_complete(target)


@pytest.mark.parametrize("fault", ["", "silent 206"])
def test_versions_are_never_joined(server, target, fault):
    server.files["/file"], server.headers = OTHER, {"ETag": '"1"'}
    server.faults = ["cut", "404"]
    with pytest.raises(DownloadError):
        fetch(server, target)
    server.files["/file"], server.headers = CONTENT, {"ETag": '"2"'}
    server.faults = [fault]
    fetch(server, target)
    assert is_complete(target)


def test_a_file_of_another_size_is_another_version(server, target):
    server.files["/file"] = OTHER + b"more"
    server.faults = ["cut", "404"]
    with pytest.raises(DownloadError):
        fetch(server, target)
    server.files["/file"] = CONTENT  # and no header says so
    fetch(server, target)
    assert is_complete(target)


@pytest.mark.parametrize("facts", [None, "no JSON", '{"validator": null, "total": 10}', '{"a": 1}'])
def test_bytes_of_unknown_origin_are_not_used(server, target, facts):
    target.parent.mkdir()
    target.with_name("file.part").write_bytes(OTHER[:1000])
    if facts:
        target.with_name("file.part.json").write_text(facts)
    fetch(server, target)
    assert is_complete(target)
    assert server.ranges == [None]


def test_a_whole_part_needs_no_request(server, target):
    target.parent.mkdir()
    target.with_name("file.part").write_bytes(CONTENT)
    target.with_name("file.part.json").write_text('{"validator": null, "total": 256000}')
    fetch(server, target)
    assert is_complete(target)
    assert server.requests == []


def test_a_file_that_shrank_is_fetched_anew(server, target):
    server.faults = ["cut", "404"]
    server.files["/file"] = OTHER * 4
    with pytest.raises(DownloadError):
        fetch(server, target)
    server.files["/file"] = CONTENT  # 416: all of it lies before the byte asked for
    fetch(server, target)
    assert is_complete(target)


def test_a_file_without_a_length_is_fetched(server, target):
    server.faults = ["no length"]
    reports = fetch(server, target)
    assert is_complete(target)
    assert {report.total for report in reports} == {None}


def test_only_a_file_without_a_length_is_read_to_its_end(server, target):
    server.faults, looks = ["no length", ""], []
    for _ in range(2):
        download.download(f"{server.url}/file", target, expect_content, check_end=looks.append)
        target.unlink()
    assert [path.name for path in looks] == ["file.part"]

    def refuse(path: Path) -> None:
        raise AcaiError("cut")

    server.faults = ["no length"]
    with pytest.raises(AcaiError, match="cut"):
        download.download(f"{server.url}/file", target, expect_content, check_end=refuse)
    assert list(target.parent.iterdir()) == []


def test_a_cut_chunked_body_is_noticed(server, target):
    server.faults = ["chunked cut"]
    fetch(server, target)
    assert is_complete(target)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "requests"), [("404", 1), ("403", 1), ("500", 5), ("429", 5), ("drop", 5)]
)
def test_a_download_that_fails_gives_up_and_leaves_nothing(server, target, fault, requests):
    server.faults = [fault] * 10
    with pytest.raises(
        DownloadError, match=r"cannot download http://127.0.0.1:\d+/file: "
    ) as error:
        fetch(server, target)
    assert error.value.status == (int(fault) if requests == 1 else None)
    assert len(server.requests) == requests
    assert list(target.parent.iterdir()) == []


def test_attempts_are_counted_from_the_last_new_byte(server, target):
    server.faults = ["cut", "503", "503", "503"] * 3
    fetch(server, target)
    assert is_complete(target)
    assert len(server.requests) == 13


def test_a_server_may_ask_for_a_longer_pause(server, target, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.faults, server.headers = ["503"], {"Retry-After": "7"}
    reports = fetch(server, target)
    assert pauses == [7.0]
    assert "trying again in 7 s" in reports[0].note


def test_a_server_that_is_gone_is_a_clear_error(server, target):
    url = f"{server.url}/file"
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="Connection refused"):
        download.download(url, target, expect_content, pause=0.0)


def test_a_file_that_fails_the_check_is_removed(server, target):
    server.files["/file"] = OTHER
    with pytest.raises(AcaiError, match="another file"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []
    assert len(server.requests) == 1


def free_space(monkeypatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free))


def test_a_file_that_does_not_fit_is_not_begun(server, target, monkeypatch):
    free_space(monkeypatch, len(CONTENT) - 1)
    with pytest.raises(DownloadError, match=r"not enough space in .*new: 0\.000256 GB are still"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []


def test_what_is_there_needs_no_space(server, target, monkeypatch):
    server.faults = ["cut", "404"]
    with pytest.raises(DownloadError, match="404"):
        fetch(server, target)
    free_space(monkeypatch, len(CONTENT) // 2 - 1)
    with pytest.raises(DownloadError, match="not enough space"):
        fetch(server, target)
    free_space(monkeypatch, len(CONTENT) // 2)
    fetch(server, target)
    assert is_complete(target)


def test_a_disk_that_takes_no_more_is_a_clear_error_at_once(server, target):
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from acai_jax.archive.download import download\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "download(sys.argv[1], Path(sys.argv[2]), print)"
    )
    command = [sys.executable, "-c", program, f"{server.url}/file", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].endswith(f"cannot write {target}: File too large")
    assert len(server.requests) == 1
    fetch(server, target)
    assert is_complete(target)
    assert server.ranges[1] is not None


def test_a_folder_that_cannot_be_made_is_a_clear_error(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match=r"cannot write .*Not a directory|File exists"):
        fetch(server, tmp_path / "file" / "file")


def test_simultaneous_calls_do_not_disturb_each_other(server, target):
    server.faults = ["cut"]
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(fetch, server, target) for _ in range(4)]
        notes = {report.note for result in results for report in result.result()}
    assert is_complete(target)
    assert len(server.requests) == 2
    assert "another process downloads this file: waiting for it" in notes


def test_who_waits_takes_over_when_the_other_fails(server, target):
    asked, waiting = threading.Event(), threading.Event()
    server.faults = ["404"]
    server.before = lambda: (asked.set(), waiting.wait(60))

    def second() -> None:
        download.download(
            f"{server.url}/file", target, expect_content, report=lambda _: waiting.set()
        )

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, server, target)
        assert asked.wait(60)  # so the first one has the lock
        other = pool.submit(second)
        with pytest.raises(DownloadError, match="404"):
            first.result()
        other.result()
    assert is_complete(target)


def test_a_killed_process_leaves_a_part_that_goes_on(server, target):
    server.faults = ["stall"]
    program = (
        "import sys; from pathlib import Path; from acai_jax.archive.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, f"{server.url}/file", str(target)])
    part, deadline = target.with_name("file.part"), time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    fetch(server, target)
    assert is_complete(target)
    assert int((server.ranges[1] or "").removeprefix("bytes=").removesuffix("-")) > 0


def test_a_redirection_is_followed_and_ranges_with_it(server, target):
    server.files["/new/file"] = CONTENT
    server.faults = ["302", "cut", "302", ""]
    download.download(f"{server.url}/old/file", target, expect_content, pause=0.0)
    assert is_complete(target)
    assert server.ranges == [None, None, HALF, HALF]


def test_credentials_are_sent_and_never_shown(server, target):
    address = server.url.replace("//", "//me:se%40cret@")
    server.faults = ["503", "404"]
    reports: list[Progress] = []
    with pytest.raises(DownloadError) as error:
        download.download(
            f"{address}/file?token=hush", target, expect_content, report=reports.append, pause=0.0
        )
    sent = server.requests[0]["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == b"me:se@cret"
    assert server.paths[0] == "/file?token=hush"
    assert "authorization" in server.requests[1]
    for text in (str(error.value), *map(str, reports)):
        assert not any(secret in text for secret in ("se%40cret", "se@cret", "me:", "hush", sent))


def test_credentials_do_not_follow_a_redirection(server, target):
    server.files["/new/file"] = CONTENT
    server.faults = ["302", ""]
    address = server.url.replace("//", "//me:secret@")
    download.download(f"{address}/old/file", target, expect_content)
    assert ["authorization" in headers for headers in server.requests] == [True, False]


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "night.tar.gz", "http://", "ftp://example.org/file"),
        *("http://127.0.0.1:port/file?secret", "http://127.0.0.1/a b?secret", "http://[::1/secret"),
    ],
)
def test_what_is_no_address_is_a_clear_error(target, url):
    with pytest.raises(DownloadError, match="not an") as error:
        download.download(url, target, expect_content)
    assert "secret" not in str(error.value)
    assert not target.exists()
