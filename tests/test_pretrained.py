"""Published weights: read, verified, and downloaded from a real server on loopback."""

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chex
import h5py
import numpy as np
import pytest

from acai_jax import pretrained
from acai_jax.errors import WeightsError
from acai_jax.model import head_weights, take_head

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT with the faults that a test asks for, and remembers the requests."""

    faults: list[str]
    ranges: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        start = 0
        if (asked := self.headers.get("Range")) and fault != "no ranges":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
        body = CONTENT[start:] if fault != "other file" else b"x" * len(CONTENT)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.faults, server.ranges = [], []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, target: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/weights.h5"
    pretrained.download(url, target, SHA256, pause=0.0)


def test_download(server, tmp_path):
    fetch(server, tmp_path / "cache" / "weights.h5")
    assert (tmp_path / "cache" / "weights.h5").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["weights.h5"]


def test_a_cut_download_is_resumed(server, tmp_path):
    server.faults = ["cut", "503"]
    fetch(server, tmp_path / "weights.h5")
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT
    half = f"bytes={len(CONTENT) // 2}-"
    assert server.ranges == [None, half, half]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.faults = ["cut", "no ranges"]
    fetch(server, tmp_path / "weights.h5")
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT


def test_a_part_that_is_complete_or_too_long_is_fetched_anew(server, tmp_path):
    (tmp_path / "weights.h5.part").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path / "weights.h5")
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["404", "500", "other file"])
def test_a_download_that_fails_says_what_to_do(server, tmp_path, fault):
    server.faults = [fault] * 10
    with pytest.raises(WeightsError, match="--weights"):
        fetch(server, tmp_path / "weights.h5")
    assert not (tmp_path / "weights.h5").exists()
    assert len(server.ranges) == (1 if fault == "404" else 4)


def test_weights_are_cached_and_verified(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path))
    url = f"http://127.0.0.1:{server.server_port}/weights.h5"
    file = pretrained.PublishedFile("weights.h5", url, SHA256)
    for _ in range(2):
        assert pretrained.published_path(file, None) == tmp_path / "weights.h5"
    assert len(server.ranges) == 1
    (tmp_path / "weights.h5").write_bytes(b"damaged")
    assert pretrained.published_path(file, None).read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_simultaneous_downloads_do_not_disturb_each_other(server, tmp_path):
    server.faults = ["cut"]
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(fetch, server, tmp_path / "weights.h5") for _ in range(4)]:
            result.result()
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_cache_that_cannot_be_written_is_a_clear_error(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WeightsError, match="cannot download"):
        fetch(server, tmp_path / "file" / "weights.h5")


@pytest.mark.parametrize(
    ("generation", "folder"), [("20201130", "acai_h5"), ("20201110", "acai_h5_first")]
)
def test_both_generations_load(real_data, generation, folder):
    bank = pretrained.load_published(real_data / folder, generation)
    assert bank.classes == ("h", "o", "n", "v", "b")
    for index, name in enumerate(bank.classes):
        assert bank.provenance[name]["version"].startswith("d1_dnn_202011")
        path = real_data / folder / pretrained.GENERATIONS[generation][name].name
        chex.assert_trees_all_equal(
            head_weights(take_head(bank.heads, index)), head_weights(pretrained.read_head(path))
        )


def test_unknown_generation_and_missing_or_altered_files_are_named(real_data, tmp_path):
    with pytest.raises(WeightsError, match="no generation '2019'"):
        pretrained.load_published(tmp_path, "2019")
    with pytest.raises(WeightsError, match=r"no acai_h\.d1_dnn_20201130\.h5"):
        pretrained.load_published(tmp_path)
    for path in (real_data / "acai_h5").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    with (tmp_path / "acai_v.d1_dnn_20201130.h5").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(WeightsError, match=r"acai_v.*not the published file"):
        pretrained.load_published(tmp_path)


def test_files_that_are_no_such_network_are_refused(real_data, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(WeightsError, match="not a Keras 2 HDF5 file"):
        pretrained.read_head(path)
    source = real_data / "acai_h5" / "acai_h.d1_dnn_20201130.h5"
    shutil.copyfile(source, path)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        del file["model_weights/fc_1"]
    with pytest.raises(WeightsError, match=r"missing weights: join\.bias, join\.kernel"):
        pretrained.read_head(path)
    with pytest.raises(WeightsError, match="unknown layer 'conv1'"):
        pretrained.read_head(real_data / "braai" / "braai_d6_m9.h5")


def test_arrays_are_those_of_the_file(real_data):
    path = real_data / "acai_h5" / "acai_n.d1_dnn_20201130.h5"
    weights = head_weights(pretrained.read_head(path))
    with h5py.File(path) as file:
        stored = (
            file["model_weights/conv_conv_3/conv_conv_3/depthwise_kernel:0"]
            if ("conv_conv_3" in file["model_weights/conv_conv_3"])
            else file["model_weights/conv_conv_3/conv_conv_3_1/depthwise_kernel:0"]
        )
        np.testing.assert_array_equal(weights["convs.2.depthwise"], stored[..., 0])
