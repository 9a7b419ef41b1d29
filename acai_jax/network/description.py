"""What is stored beside the weights of heads: all that is needed to use them again, JSON-ready."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from acai_jax.errors import CheckpointError
from acai_jax.network.bank import HeadBank, abstract_heads
from acai_jax.network.head import head_weights, identity_norm, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.surveys import DEFAULT, SURVEYS
from acai_jax.surveys.base import Survey

_FORMAT: Final = "acai_jax heads 3"
_LACKING: Final[dict[str, tuple[str, ...]]] = {
    _FORMAT: (),
    "acai_jax heads 2": ("norm.floor",),
    "acai_jax heads 1": tuple(
        f"norm.{name}" for name in ("floor", "centre", "scale", "limit", "sentinel")
    ),
}
"""What files of each format do not hold: heads of their time did without."""


def describe(bank: HeadBank) -> dict[str, Any]:
    """The description of a bank, from which `described_bank` makes it again."""
    inputs = bank.survey.inputs
    return {
        "format": _FORMAT,
        "classes": list(bank.classes),
        "members": bank.members,
        "config": dataclasses.asdict(bank.heads.config),
        "survey": bank.survey.name,
        "feature_names": list(inputs.features),
        "stamp": inputs.stamp,
        "channels": list(inputs.channels),
        "sentinel": inputs.sentinel,
        "preset": bank.preset,
        "provenance": {name: dict(facts) for name, facts in bank.provenance.items()},
        "acai_jax_version": metadata.version("acai_jax"),
        "weights_sha256": _digest(bank),
    }


def as_texts(description: Mapping[str, Any]) -> dict[str, str]:
    """A description for formats whose metadata are texts: what is none is JSON."""
    return {
        name: fact if isinstance(fact, str) else json.dumps(fact, sort_keys=True)
        for name, fact in description.items()
    }


def _digest(bank: HeadBank, lacking: tuple[str, ...] = ()) -> str:
    """SHA-256 of the weights but those `lacking`: names, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for name, array in head_weights(bank.heads).items():
        if name in lacking:
            continue
        numbers = np.asarray(array, "<f4")
        digest.update(f"{name} {numbers.shape}\n".encode())
        digest.update(numbers.tobytes())
    return digest.hexdigest()


def described_bank(
    description: Any, load: Callable[[dict[str, jax.ShapeDtypeStruct]], Mapping[str, Any]]
) -> HeadBank:
    """The bank of a description.

    Args:
        description: as `describe` gives it.
        load: gives the weights; it is called with the names, shapes and dtypes that are expected.

    Raises:
        CheckpointError: it describes no heads, or heads of an unknown survey or other inputs; or
            the weights have changed since they were written.
        ValueError: the weights are not those that are expected; the message names them.
    """
    description = _checked(description)
    survey = SURVEYS[description.get("survey", DEFAULT.name)]
    lacking = _LACKING[description["format"]]
    config = HeadConfig(**{k: _tuple(v) for k, v in description["config"].items()})
    members = description.get("members", 1)
    count = len(description["classes"]) * members
    heads = abstract_heads(config, count, inputs=survey.inputs)
    expected = {name: leaf for name, leaf in head_weights(heads).items() if name not in lacking}
    identity = identity_norm(survey.inputs)
    norm = {name: jnp.tile(identity[name], (count, 1)) for name in lacking}
    bank = HeadBank(
        with_weights(heads, {**load(expected), **norm}),
        tuple(description["classes"]),
        description["provenance"],
        description["preset"],
        survey,
        members,
    )
    if description.get("weights_sha256", digest := _digest(bank, lacking)) != digest:
        raise CheckpointError("its weights are damaged: their SHA-256 is not the one written down")
    return bank


def _checked(description: Any) -> Mapping[str, Any]:
    found = description.get("format") if isinstance(description, Mapping) else None
    if found not in _LACKING:
        of = f" but {found!r}" if found else ""
        raise CheckpointError(f"it holds no heads that this version of acai_jax reads{of}")
    name = description.get("survey", DEFAULT.name)
    if name not in SURVEYS:
        raise CheckpointError(
            f"its heads read alerts of {name!r:.80}; this version of acai_jax knows "
            f"{', '.join(SURVEYS)}"
        )
    _check_inputs(description, SURVEYS[name])
    if description["preset"] not in SURVEYS[name].recipes:
        raise CheckpointError(f"unknown preset {description['preset']!r}")
    return description


def _check_inputs(description: Mapping[str, Any], survey: Survey) -> None:
    inputs = survey.inputs
    if tuple(description["feature_names"]) != inputs.features:
        raise CheckpointError("its heads read other features, or in another order")
    for name, known in (
        ("stamp", inputs.stamp),
        ("channels", list(inputs.channels)),
        ("sentinel", inputs.sentinel),
    ):
        if (found := description.get(name, known)) != known:
            raise CheckpointError(
                f"its heads read another {name} than alerts of {survey.title} have: "
                f"{found!r:.80}, not {known!r}"
            )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
