"""The published Keras weights: found or downloaded, verified, and read by h5py alone."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import platformdirs
from flax import nnx

from acai_jax.archive.download import download
from acai_jax.classes import CLASSES
from acai_jax.errors import DownloadError, WeightsError
from acai_jax.network.bank import HeadBank, stack_heads
from acai_jax.network.braai import Braai
from acai_jax.network.head import Head, identity_norm, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.surveys.ztf import ZTF

_ACAI: Final = "https://github.com/dmitryduev/acai/raw"
_BRAAI: Final = "https://github.com/dmitryduev/braai/raw"


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedFile:
    """One HDF5 file of weights: its name, where it is published, and its SHA-256."""

    name: str
    url: str
    sha256: str

    @property
    def version(self) -> str:
        """As Kowalski names it, such as "d1_dnn_20201130"."""
        return self.name.removesuffix(".h5").partition(".")[2]


def _acai(name: str, sha256: str, path: str = "master/models/{}") -> PublishedFile:
    return PublishedFile(name, f"{_ACAI}/{path.format(name)}", sha256)


GENERATIONS: Final[Mapping[str, Mapping[str, PublishedFile]]] = {
    "20201130": {
        "h": _acai(
            "acai_h.d1_dnn_20201130.h5",
            "929a5aa0703731a9705d85f9382f521ae8e7421f90c3773f583bfcce4b83cd55",
        ),
        "o": _acai(
            "acai_o.d1_dnn_20201130.h5",
            "31eeb8bbc3d50a5c53b1552492bfb56ac988f99f05962b60efff076d62ab1232",
        ),
        "n": _acai(
            "acai_n.d1_dnn_20201130.h5",
            "4eb3932f2672721dcb74b91dd5ec3d683ac87e8a99359edf5805d9ece73882d8",
        ),
        "v": _acai(
            "acai_v.d1_dnn_20201130.h5",
            "be704366d1ac8c82e0576c79a24fa038a0010d800561e62e16d1c3804f7b8fa8",
        ),
        "b": _acai(
            "acai_b.d1_dnn_20201130.h5",
            "dc57b969e4b1a97b7e3633aae6c3f6adf44615a47036c390da1d55f0e6dbf330",
        ),
    },
    "20201110": {  # the first generation; its files stand in the repository's history only
        "h": _acai(
            "acai_h.d1_dnn_20201107.h5",
            "154d03dee02119fabda3e5dee98b940094d9835d3afac5a7feda7553e5def726",
            "b3d0abec9171b96bdfd53e850abecc765f6cb9e8/models/h.d1.dnn.20201107.h5",
        ),
        "o": _acai(
            "acai_o.d1_dnn_20201110.h5",
            "aaffcd05df62a033f9cf85695646df278d2d536e78d6872bf9b793a23a942805",
            "22b9c601e83033818cc0a18b5c6360932b8d6303/models/acai_o.d1.dnn.20201110.h5",
        ),
        "n": _acai(
            "acai_n.d1_dnn_20201110.h5",
            "76374b4b1b207ca514e61c60c120f3ecf81f56067900259fe1ac4a879a698011",
            "196cb4c414626210463f366fc8c70dc1ebb95218/models/{}",
        ),
        "v": _acai(
            "acai_v.d1_dnn_20201109.h5",
            "7c59b167b768606b87f96508c2e718e45629a9bbbe27839dbdc26d1602f1ca7f",
            "5e67943886b19eeade43867f0c0abd5a65fd1d8d/pretrained_models/{}",
        ),
        "b": _acai(
            "acai_b.d1_dnn_20201110.h5",
            "cd911dda8bc1e20197497b64e379fed956d4a7b3d6a7b5e78a12eb9f2afabcf5",
            "196cb4c414626210463f366fc8c70dc1ebb95218/models/{}",
        ),
    },
}
DEFAULT_GENERATION: Final = "20201130"
BRAAI_FILE: Final = PublishedFile(
    "braai_d6_m9.h5",
    f"{_BRAAI}/master/models/braai_d6_m9.h5",
    "24f97a6a37cf90da2697a657644049caf8c7f2bf382b60c64aa88dba0828ceaa",
)


def load_published(
    weights_dir: str | os.PathLike[str] | None = None, generation: str = DEFAULT_GENERATION
) -> HeadBank:
    """Loads the five published classifiers.

    Args:
        weights_dir: folder with the five `.h5` files, for work without a network; otherwise they
            are downloaded once into the user's cache folder.
        generation: "20201130", or "20201110" for the first published ones.

    Raises:
        WeightsError: a file is missing, fails its SHA-256, or cannot be downloaded.

    Example:
        >>> load_published("no_such_folder")
        Traceback (most recent call last):
        acai_jax.errors.WeightsError: not in no_such_folder: acai_h.d1_dnn_20201130.h5, \
acai_o.d1_dnn_20201130.h5, acai_n.d1_dnn_20201130.h5, acai_v.d1_dnn_20201130.h5, \
acai_b.d1_dnn_20201130.h5, and for alerts without drb braai_d6_m9.h5

    Source: https://github.com/dmitryduev/acai (MIT).
    """
    if generation not in GENERATIONS:
        raise WeightsError(f"no generation {generation!r}; known: {', '.join(GENERATIONS)}")
    files = GENERATIONS[generation]
    paths = published_paths([files[c] for c in CLASSES], weights_dir)
    heads = stack_heads([read_head(path) for path in paths])
    provenance = {
        c: {"version": files[c].version, "source": files[c].url, "sha256": files[c].sha256}
        for c in CLASSES
    }
    return HeadBank(heads, CLASSES, provenance, survey=ZTF)


def load_braai(weights_dir: str | os.PathLike[str] | None = None) -> Braai:
    """Loads the published real/bogus network.

    Args:
        weights_dir: folder with `braai_d6_m9.h5`, or beside a folder `braai` that has it.

    Raises:
        WeightsError: as for `load_published`.
    """
    if weights_dir is not None:
        beside = Path(weights_dir).resolve().parent / "braai"
        if not (Path(weights_dir) / BRAAI_FILE.name).exists() and beside.is_dir():
            weights_dir = beside
    (path,) = published_paths([BRAAI_FILE], weights_dir)
    layers = read_keras_weights(path)
    braai = nnx.eval_shape(lambda: Braai(rngs=nnx.Rngs(0)))
    names = {f"{layer}.{name}": array for layer, w in layers.items() for name, array in w.items()}
    try:
        return with_weights(braai, names)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None


def read_head(path: str | os.PathLike[str]) -> Head:
    """Reads one published classifier.

    Args:
        path: Keras 2.3 HDF5 file of the published architecture.

    Raises:
        WeightsError: it is not such a file, or a layer is missing or misshapen.
    """
    layers = read_keras_weights(path)
    dense = {"dense_fc_1": "dense_1", "dense_fc_2": "dense_2", "fc_1": "join", "score": "score"}
    weights: dict[str, np.ndarray] = {}
    try:
        for layer, arrays in layers.items():
            if layer in dense:
                weights |= {f"{dense[layer]}.{name}": array for name, array in arrays.items()}
            elif layer.startswith("conv_conv_") and layer[10:].isdigit():
                prefix = f"convs.{int(layer[10:]) - 1}"
                weights |= {
                    f"{prefix}.depthwise": arrays["depthwise_kernel"][..., 0],
                    f"{prefix}.pointwise": arrays["pointwise_kernel"][0, 0],
                    f"{prefix}.bias": arrays["bias"],
                }
            else:
                raise WeightsError(f"{path}: unknown layer {layer!r}")
        head = nnx.eval_shape(lambda: Head(HeadConfig(), rngs=nnx.Rngs(0)))
        return with_weights(head, weights | identity_norm())
    except (ValueError, KeyError, IndexError) as error:
        raise WeightsError(f"{path}: {error}") from None


def read_keras_weights(path: str | os.PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> weight name -> array, of a Keras 2 HDF5 file; layers without weights are left out.

    Raises:
        WeightsError: it is no such file.
    """
    try:
        with h5py.File(path, "r") as file:
            group: Any = file["model_weights"]
            return {
                layer: {
                    name.decode().rpartition("/")[2].removesuffix(":0"): np.asarray(
                        group[layer][name], np.float32
                    )
                    for name in group[layer].attrs["weight_names"]
                }
                for layer in group
                if len(group[layer].attrs["weight_names"])
            }
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"not a Keras 2 HDF5 file of weights: {path} ({error})") from None


# --- finding -------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where downloaded weights are kept: `ACAI_JAX_CACHE`, or the user's cache folder."""
    folder = os.environ.get("ACAI_JAX_CACHE")
    return Path(folder) if folder else platformdirs.user_cache_path("acai_jax")


def published_paths(
    files: Sequence[PublishedFile], weights_dir: str | os.PathLike[str] | None
) -> list[Path]:
    """The paths of verified copies of published files, downloaded if need be.

    Raises:
        WeightsError: some are not in `weights_dir`, cannot be downloaded, or fail their SHA-256;
            all that are missing are named at once.
    """
    folder = cache_folder() if weights_dir is None else Path(weights_dir)
    paths = [folder / file.name for file in files]
    if weights_dir is None:
        try:
            for file, path in zip(files, paths, strict=True):
                download(file.url, path, functools.partial(_check, file=file))
        except (DownloadError, WeightsError) as error:
            raise WeightsError(
                f"{error}. Fetch {_missing(files, folder)} by other means into {folder}, or all of "
                "them into a folder that --weights names"
            ) from None
        return paths
    if not all(path.is_file() for path in paths):
        raise WeightsError(f"not in {folder}: {_missing(files, folder)}")
    for file, path in zip(files, paths, strict=True):
        _check(path, file)
    return paths


def _missing(files: Sequence[PublishedFile], folder: Path) -> str:
    """The names of files that a folder lacks, and of what early schemas need beside them."""

    def lacks(file: PublishedFile) -> bool:
        try:
            _check(folder / file.name, file)
        except (WeightsError, OSError):
            return True
        return False

    names = [file.name for file in files if lacks(file)]
    if BRAAI_FILE not in files and lacks(BRAAI_FILE):
        names.append(f"and for alerts without drb {BRAAI_FILE.name}")
    return ", ".join(names)


def _check(path: Path, file: PublishedFile) -> None:
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        raise WeightsError(f"{path} is not the published file: SHA-256 {found}")
