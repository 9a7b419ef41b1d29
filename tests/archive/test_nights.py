"""Nights of an archive on loopback, fetched and read as they are."""

import datetime
import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator

import numpy as np
import pytest
from command_line import acai_jax
from server import Server, running_server
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import read_alerts
from acai_jax.archive import nights
from acai_jax.errors import DownloadError, NightError, NoAlertsError

NIGHT = datetime.date(2018, 6, 26)
NAME = "ztf_public_20180626.tar.gz"
RECORDS = [packet_record(number) for number in range(12)]


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        alerts = {f"{record['candid']}.avro": avro_bytes(record) for record in RECORDS}
        server.files[f"/public/{NAME}"] = archive(alerts)
        server.headers = {"Last-Modified": "Wed, 27 Jun 2018 10:00:00 GMT"}
        yield server


def fetch(server: Server, folder) -> os.PathLike[str]:
    return nights.fetch_night(NIGHT, folder, base_url=f"{server.url}/public/")


def command(server: Server, *arguments: object) -> subprocess.CompletedProcess[str]:
    return acai_jax("fetch-night", "--base-url", f"{server.url}/public", *arguments)


@pytest.mark.parametrize("text", ["20180626", "2018-06-26"])
def test_dates_are_understood(text):
    assert nights.parse_night(text) == NIGHT


@pytest.mark.parametrize(
    "text", ["", "26.6.2018", "2018-0626", "20180631", "2018-06-26T00:00", "0"]
)
def test_what_is_no_date_is_a_clear_error(text):
    with pytest.raises(NightError, match="not a date"):
        nights.parse_night(text)


def test_nights_end_with_this_one():
    today = datetime.datetime.now(datetime.UTC).date()
    assert nights.parse_night(str(today)) == today
    with pytest.raises(NightError, match="lies ahead"):
        nights.parse_night(str(today + datetime.timedelta(days=2)))


def test_a_fetched_night_is_read_as_it_is(server, tmp_path):
    server.faults = ["cut"]
    path = fetch(server, tmp_path)
    assert path == tmp_path / NAME
    alerts = list(read_alerts(path))
    assert all(isinstance(alert, AlertPacket) for alert in alerts)
    assert [alert.candid for alert in alerts] == [record["candid"] for record in RECORDS]
    assert alerts[3].cutouts[0] == RECORDS[3]["cutoutScience"]["stampData"]


def test_a_night_that_is_there_needs_no_server(server, tmp_path):
    fetch(server, tmp_path)
    server.shutdown()
    assert fetch(server, tmp_path).exists()
    assert len(server.requests) == 1


def test_the_address_may_have_a_query_and_need_no_slash(server, tmp_path):
    nights.fetch_night(NIGHT, tmp_path, base_url=f"{server.url}/public?token=a/b")
    assert server.paths == [f"/public/{NAME}?token=a/b"]


@pytest.mark.parametrize(
    "content",
    [gzip.compress(bytes(10240)), gzip.compress(b""), archive({}), None],
    ids=["zeros", "nothing", "no member", "no file"],
)
def test_a_night_without_alerts_is_no_archive_on_disk(server, tmp_path, content):
    server.files = {f"/public/{NAME}": content} if content else {}
    reason = "is an empty archive" if content else "does not exist"
    with pytest.raises(NoAlertsError, match=f"on 2018-06-26: {server.url}/public/{NAME} {reason}"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        *(b"<html>Please log in</html>", gzip.compress(b"<html>" * 1000), b"\x1f\x8bno gzip"),
        archive({"1.avro": np.random.default_rng(0).bytes(9000)})[:100],
    ],
    ids=["page", "gzipped page", "broken gzip", "cut archive"],
)
def test_what_is_no_archive_is_a_clear_error(server, tmp_path, content):
    server.files[f"/public/{NAME}"] = content
    with pytest.raises(NightError, match=rf"{NAME}.* is not a gzipped tar archive") as error:
        fetch(server, tmp_path)
    assert not isinstance(error.value, NoAlertsError)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_and_is_no_archive_is_kept_and_named(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(NightError, match=str(tmp_path)):
        fetch(server, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"mine"
    (tmp_path / NAME).write_bytes(archive({}))
    with pytest.raises(NoAlertsError, match=str(tmp_path)):
        fetch(server, tmp_path)
    assert server.requests == []


def test_an_archive_without_a_length_is_read_to_its_end(server, tmp_path):
    server.faults = ["no length cut", "no length"]
    with pytest.raises(NightError, match="came without a length, and is cut or damaged"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(list(read_alerts(fetch(server, tmp_path)))) == len(RECORDS)


def test_other_refusals_are_no_missing_night(server, tmp_path):
    server.faults = ["403"]
    with pytest.raises(DownloadError, match="HTTP 403 Forbidden"):
        fetch(server, tmp_path)


def test_the_command_fetches_waits_and_says_so(server, tmp_path):
    server.faults = ["503"]
    result = command(server, "2018-06-26", "--out", tmp_path / "new")
    assert result.returncode == 0, result.stderr
    assert "HTTP 503 Service Unavailable: trying again in 1 s" in result.stderr
    assert "warning: alerts before 2018-07-18 lack clrcoeff and clrcounc" in result.stderr
    assert f"{tmp_path}/new/{NAME}: 0." in result.stderr
    again = command(server, "20180626", "--out", tmp_path / "new")
    assert (again.returncode, "not fetched again" in again.stderr) == (0, True)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("date", "code", "message"),
    [
        ("20180627", 3, "no data on 2018-06-27"),
        ("20180718", 3, "no data on 2018-07-18"),
        ("20180631", 2, "error: not a date: '20180631'"),
        ("20990101", 2, "2099-01-01 lies ahead"),
    ],
)
def test_the_command_tells_no_data_from_mistakes(server, tmp_path, date, code, message):
    result = command(server, date, "--out", tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert ("warning: alerts before" in result.stderr) == (date == "20180627")
    assert "Traceback" not in result.stderr


def test_an_interrupted_command_goes_on(server, tmp_path):
    content, server.faults = server.files[f"/public/{NAME}"], ["stall"]
    arguments = ("20180626", "--out", str(tmp_path), "--base-url", f"{server.url}/public")
    process = subprocess.Popen(
        [sys.executable, "-m", "acai_jax", "fetch-night", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    part = tmp_path / f"{NAME}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "the same command goes on" in messages
    assert command(server, *arguments[:3]).returncode == 0
    assert (tmp_path / NAME).read_bytes() == content
    assert server.ranges[1] is not None
