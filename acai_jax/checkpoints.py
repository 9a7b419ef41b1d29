"""Heads to and from Orbax checkpoints, with provenance; the only file that imports Orbax."""

import dataclasses
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import jax
from orbax.checkpoint import v1 as orbax

from acai_jax.errors import CheckpointError
from acai_jax.model import (
    HeadBank,
    HeadConfig,
    abstract_heads,
    check_weights,
    head_weights,
    with_weights,
)
from acai_jax.schema import FEATURE_NAMES, PRESETS

_FORMAT: Final = "acai_jax heads 1"
_ORBAX_MARK: Final = "orbax.checkpoint"  # the file by which Orbax knows its checkpoints


def save_heads(bank: HeadBank, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes a bank of heads with all that is needed to use it again.

    The checkpoint appears under its name only once it is complete.

    Args:
        bank: heads, names and provenance.
        path: a new directory.
        overwrite: replace a checkpoint that is there.

    Raises:
        CheckpointError: there is something at `path` already, or it cannot be written.

    Source: Orbax v1 API.
    """
    path = Path(path).absolute()
    if path.exists() and not (path / _ORBAX_MARK).exists():
        raise CheckpointError(f"{path} exists and is no checkpoint")  # never to be overwritten
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already: --overwrite replaces it")
    description = {
        "format": _FORMAT,
        "classes": list(bank.classes),
        "config": dataclasses.asdict(bank.heads.config),
        "feature_names": list(FEATURE_NAMES),
        "preset": bank.preset,
        "provenance": {name: dict(facts) for name, facts in bank.provenance.items()},
        "acai_jax_version": metadata.version("acai_jax"),
    }
    weights = head_weights(bank.heads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        orbax.save(str(path), weights, overwrite=overwrite, custom_metadata=description)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from None


def load_heads(path: str | os.PathLike[str]) -> HeadBank:
    """Restores a bank of heads, strictly.

    Args:
        path: a directory that `save_heads` wrote.

    Raises:
        CheckpointError: there is no complete checkpoint, it is of another kind, or a weight is
            missing, unknown or misshapen. The message names it.

    Example:
        >>> load_heads("no_such_checkpoint")
        Traceback (most recent call last):
        acai_jax.errors.CheckpointError: no checkpoint at no_such_checkpoint
    """
    folder = Path(path).absolute()
    if not (folder / _ORBAX_MARK).exists():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        found = orbax.metadata(str(folder))
    except Exception as error:  # Orbax raises many types for a damaged directory
        raise CheckpointError(f"damaged checkpoint at {path}: {error}") from None
    try:
        description = _check_description(found.custom_metadata)
        config = HeadConfig(**{k: _tuple(v) for k, v in description["config"].items()})
        heads = abstract_heads(config, len(description["classes"]))
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        expected = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            for name, leaf in head_weights(heads).items()
        }
        check_weights(expected, found.metadata)
        heads = with_weights(heads, orbax.load(str(folder), expected))
        return HeadBank(
            heads,
            tuple(description["classes"]),
            description["provenance"],
            description["preset"],
        )
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint at {path}: {error}") from None
    except Exception as error:  # Orbax's own, and what a tampered description leads to
        raise CheckpointError(f"damaged checkpoint at {path}: {error}") from None


def _check_description(description: Any) -> Mapping[str, Any]:
    if not isinstance(description, Mapping) or description.get("format") != _FORMAT:
        raise CheckpointError("it holds no heads of acai_jax")
    if tuple(description["feature_names"]) != FEATURE_NAMES:
        raise CheckpointError("its heads read other features, or in another order")
    if description["preset"] not in PRESETS:
        raise CheckpointError(f"unknown preset {description['preset']!r}")
    return description


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
