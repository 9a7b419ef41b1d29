"""Heads, and states of training, to and from Orbax; the only file that imports it."""

import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as orbax

from acai_jax.errors import CheckpointError
from acai_jax.network.bank import HeadBank
from acai_jax.network.card import write_card
from acai_jax.network.description import describe, described_bank
from acai_jax.network.exchange import SUFFIX, import_heads, load_shipped, shipped_models
from acai_jax.network.head import check_weights, head_weights
from acai_jax.text import printable

Result = TypeVar("Result")
_SETTLE_SECONDS: Final = 0.3
_STATE_FORMAT: Final = "acai_jax training 1"
HEADS_FOLDER: Final = "heads"
"""Where a training run keeps its result, inside its own folder."""
_ORBAX_MARK: Final = "orbax.checkpoint"  # the file by which Orbax knows its checkpoints


def save_heads(bank: HeadBank, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes a bank of heads with all that is needed to use it again.

    The checkpoint appears under its name only once it is complete; its card, README.md, after it.

    Args:
        bank: heads, names and provenance.
        path: a new directory.
        overwrite: replace a checkpoint that is there.

    Raises:
        CheckpointError: there is something at `path` already, or it cannot be written.

    Source: Orbax v1 API.
    """
    path = Path(path).absolute()
    check_place(path, overwrite=overwrite)
    _save(path, head_weights(bank.heads), describe(bank), overwrite)
    write_card(bank, path, path / "README.md")


def check_place(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raises a `CheckpointError` if heads may not be saved at `path`, before any work is done."""
    path = Path(path).absolute()
    if path.exists() and not is_checkpoint(path):
        raise CheckpointError(f"{path} exists and is no checkpoint")  # never to be overwritten
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already: --overwrite replaces it")


def load_heads(path: str | os.PathLike[str]) -> HeadBank:
    """Restores a bank of heads, strictly.

    Args:
        path: a directory that `save_heads` wrote, or that of a training run with its heads in it;
            a safetensors file of `export_heads`; or the name of a model that comes with the
            package.

    Raises:
        CheckpointError: there is no complete checkpoint, it is of another kind, its heads read
            alerts of an unknown survey or other inputs, or a weight is missing, unknown or
            misshapen. The message names it.

    Example:
        >>> load_heads("no_such_checkpoint")
        Traceback (most recent call last):
        acai_jax.errors.CheckpointError: no checkpoint at no_such_checkpoint
    """
    if path in shipped_models():
        return load_shipped(str(path))
    if Path(path).suffix == SUFFIX:
        return import_heads(path)
    folder = Path(path).absolute()
    if not is_checkpoint(folder) and is_checkpoint(folder / HEADS_FOLDER):
        folder /= HEADS_FOLDER
    if not is_checkpoint(folder):
        raise CheckpointError(f"no checkpoint at {path}")
    return _read(path, lambda: _load_heads(folder))


def _load_heads(folder: Path) -> HeadBank:
    found = orbax.metadata(str(folder))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def load(expected: Mapping[str, Any]) -> Any:
        if found.metadata is None:  # Orbax only logs what is wrong with them
            raise ValueError("its weights cannot be read")
        check_weights(expected, found.metadata)
        placed = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            for name, leaf in expected.items()
        }
        return orbax.load(str(folder), placed)

    return described_bank(found.custom_metadata, load)


def _read(path: str | os.PathLike[str], read: Callable[[], Result]) -> Result:
    """What `read` returns; its errors in one line, without what Orbax and its tasks log of them.

    Raises:
        CheckpointError: for whatever goes wrong: Orbax raises many types for a damaged folder.
    """
    absl = logging.getLogger("absl")
    absl.addFilter(_log_nothing)
    # tasks that are left behind may log what they have met at any time after
    logging.getLogger("asyncio").addFilter(_is_not_of_tensorstore)
    problem, hook, sys.unraisablehook = None, sys.unraisablehook, _show_nothing
    try:
        return read()
    except CheckpointError as error:
        problem = f"checkpoint at {path}: {error}"
    except Exception as error:
        problem = f"damaged checkpoint at {path}: {printable(str(error))}"
    finally:
        if problem is not None:
            gc.collect()  # tasks that were left behind
            time.sleep(_SETTLE_SECONDS)  # and reads in TensorStore's threads tell of it now
        sys.unraisablehook = hook
        absl.removeFilter(_log_nothing)
    raise CheckpointError(problem)


def _log_nothing(_: logging.LogRecord) -> bool:
    return False


def _is_not_of_tensorstore(record: logging.LogRecord) -> bool:
    return "tensorstore" not in record.getMessage()


def _show_nothing(*_: object) -> None:
    """For exceptions in TensorStore's threads, which nobody can catch."""


# --- states of training ----------------------------------------------------------------------


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether there is a complete checkpoint of any kind: Orbax renames its folder at the end."""
    return (Path(path) / _ORBAX_MARK).exists()


def save_state(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Writes the state of a training run; it appears under its name only once it is complete.

    Args:
        path: a new directory.
        arrays: by name; none of them empty.
        facts: JSON-ready.

    Raises:
        CheckpointError: it cannot be written, for want of space for example.

    Example:
        >>> import tempfile; folder = tempfile.mkdtemp() + "/7"
        >>> save_state(folder, {"loss": np.array([0.5, 0.25])}, {"epoch": 7})
        >>> load_state(folder)
        ({'loss': array([0.5 , 0.25])}, {'epoch': 7})
    """
    description = {"format": _STATE_FORMAT, **facts}
    _save(Path(path).absolute(), arrays, description, overwrite=False)


def load_state(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts that `save_state` wrote.

    Raises:
        CheckpointError: there is no complete state, or it is damaged.
    """
    folder = Path(path).absolute()
    if not is_checkpoint(folder):
        raise CheckpointError(f"no checkpoint at {path}")
    return _read(path, lambda: _load_state(folder))


def _load_state(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    found = orbax.metadata(str(folder))
    description: Any = found.custom_metadata
    facts = dict(description or {})
    if facts.pop("format", None) != _STATE_FORMAT:
        raise CheckpointError("it holds no state of training")
    shapes: Any = found.metadata
    if shapes is None:  # Orbax only logs what is wrong with them
        raise CheckpointError("its arrays cannot be read")
    expected = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}
    return dict(orbax.load(str(folder), expected)), facts


def _save(
    path: Path, arrays: Mapping[str, Any], description: dict[str, Any], overwrite: bool
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        orbax.save(str(path), dict(arrays), overwrite=overwrite, custom_metadata=description)
    except Exception as error:  # OSError, and what TensorStore makes of a full disk
        raise CheckpointError(f"cannot write {path}: {error}") from error
