"""Published weights: read, verified, and downloaded from a real server on loopback."""

import hashlib
import shutil
from collections.abc import Iterator

import chex
import h5py
import numpy as np
import pytest
from server import Server, running_server

from acai_jax.errors import WeightsError
from acai_jax.network import pretrained
from acai_jax.network.bank import take_head
from acai_jax.network.head import head_weights

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("ACAI_JAX_CACHE", str(tmp_path / "cache"))
    with running_server() as server:
        server.files["/weights.h5"] = CONTENT
        yield server


def published_file(server: Server) -> pretrained.PublishedFile:
    return pretrained.PublishedFile("weights.h5", f"{server.url}/weights.h5", SHA256)


def test_weights_are_cached_and_verified(server, tmp_path):
    for _ in range(2):
        (path,) = pretrained.published_paths([published_file(server)], None)
        assert path == tmp_path / "cache" / "weights.h5"
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert pretrained.published_paths([published_file(server)], None) == [path]
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "HTTP 404"), (CONTENT[::-1], "is not the published file")]
)
def test_weights_that_cannot_be_had_say_what_to_do(server, tmp_path, content, reason):
    server.files = {"/weights.h5": content} if content else {}
    with pytest.raises(WeightsError, match=rf"{reason}.*--weights"):
        pretrained.published_paths([published_file(server)], None)
    assert list((tmp_path / "cache").iterdir()) == []


def test_offline_all_files_that_are_missing_are_named_after_one_attempt(server, tmp_path):
    files = [published_file(server), *pretrained.GENERATIONS["20201130"].values()]
    server.files = {}
    with pytest.raises(WeightsError) as caught:
        pretrained.published_paths(files, None)
    for file in (*files, pretrained.BRAAI_FILE):
        assert file.name in str(caught.value)
    assert len(server.requests) == 1


def test_a_cache_that_cannot_be_written_is_a_clear_error(server, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(WeightsError, match="cannot write"):
        pretrained.published_paths([published_file(server)], None)


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
    shutil.copy(real_data / "acai_h5" / "acai_h.d1_dnn_20201130.h5", tmp_path)
    with pytest.raises(WeightsError) as caught:
        pretrained.load_published(tmp_path)
    missing = ", ".join(f"acai_{name}.d1_dnn_20201130.h5" for name in "onvb")
    assert str(caught.value) == (
        f"not in {tmp_path}: {missing}, and for alerts without drb braai_d6_m9.h5"
    )
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
