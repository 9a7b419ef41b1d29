"""Heads as one safetensors file: for exchange, and for those that come with the package."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acai_jax.errors import CheckpointError
from acai_jax.files import write_file
from acai_jax.network.bank import HeadBank
from acai_jax.network.description import describe, described_bank
from acai_jax.network.head import head_weights
from acai_jax.surveys.base import Survey
from acai_jax.text import printable

SUFFIX: Final = ".safetensors"
_KEY: Final = "acai_jax"  # of the description, among the file's metadata
_SHIPPED: Final = resources.files("acai_jax.network") / "shipped"


def export_heads(bank: HeadBank, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes a bank as one safetensors file, which any tool can read.

    Its tensors are the weights by name, such as "convs.0.depthwise", with the heads along the first
    axis. Its metadata hold, as JSON, all that is needed to use them again.

    Args:
        bank: heads, names and provenance.
        path: of the file; its name ends in ".safetensors".
        overwrite: replace a file that is there.

    Raises:
        CheckpointError: the name has another end, the file exists, or it cannot be written.

    Source: the safetensors format, https://github.com/huggingface/safetensors.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path}: the name of a file of heads ends in {SUFFIX}")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already: --overwrite replaces it")
    tensors = {name: np.asarray(array) for name, array in head_weights(bank.heads).items()}
    description = json.dumps(describe(bank), sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save(tensors, {_KEY: description}))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def import_heads(path: str | os.PathLike[str]) -> HeadBank:
    """Reads what `export_heads` wrote, as strictly as a checkpoint.

    Raises:
        CheckpointError: there is no such file, it is damaged, it holds something else, or a weight
            is missing, unknown or misshapen. The message names it.

    Example:
        >>> import_heads("no_such.safetensors")
        Traceback (most recent call last):
        acai_jax.errors.CheckpointError: no file no_such.safetensors
    """
    if not Path(path).is_file():
        raise CheckpointError(f"no file {path}")
    try:
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            description = json.loads((file.metadata() or {}).get(_KEY, "null"))
        return described_bank(description, lambda _: tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # whatever a wrong description causes, too
        raise CheckpointError(f"damaged file of heads {path}: {printable(str(error))}") from None


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the package.

    Example:
        >>> "ztf-simulated" in shipped_models()
        True
    """
    names = (Path(file.name) for file in _SHIPPED.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == SUFFIX))


def shipped_model(survey: Survey) -> str | None:
    """The name of the one of them that reads a survey's alerts; None if there is none.

    Example:
        >>> from acai_jax.surveys import DEFAULT
        >>> shipped_model(DEFAULT)
        'ztf-simulated'
    """
    name = f"{survey.name}-simulated"
    return name if name in shipped_models() else None


def load_shipped(name: str) -> HeadBank:
    """One of the models that come with the package; see `shipped_models`."""
    with resources.as_file(_SHIPPED / f"{name}{SUFFIX}") as path:
        return import_heads(path)
