"""The checkpoint that a run extends, and the heads that it ends with."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from acai_jax.checkpoints import load_heads
from acai_jax.errors import CheckpointError
from acai_jax.model import (
    HeadBank,
    abstract_heads,
    append_head,
    replace_head,
    take_head,
    with_weights,
)
from acai_jax.training.config import Config
from acai_jax.training.inputs import DatasetFacts
from acai_jax.training.members import Member
from acai_jax.training.state import RunState


def load_init(config: Config, facts: DatasetFacts) -> HeadBank | None:
    """The checkpoint to extend, if there is one.

    Raises:
        CheckpointError: its heads cannot share a bank with those to be trained.
    """
    if config.init is None:
        return None
    bank = load_heads(config.init)
    if bank.heads.config != config.model:
        raise CheckpointError(
            f"{config.init} holds heads of other hyperparameters: {bank.heads.config}"
        )
    if bank.preset != facts.preset:
        raise CheckpointError(
            f"{config.init} is for the preset {bank.preset}, the dataset for {facts.preset}"
        )
    return bank


def result_of(
    config: Config,
    facts: DatasetFacts,
    members: Sequence[Member],
    state: RunState,
    init: HeadBank | None,
) -> HeadBank:
    """The best heads, in the place of those of `init` or after them."""
    trained = abstract_heads(config.model, len(members))
    trained = with_weights(trained, {**state.best, **state.heads.norm})
    names = tuple(member.head for member in members)
    provenance = {
        name: _provenance(config, facts, member, state, index)
        for index, (name, member) in enumerate(zip(names, members, strict=True))
    }
    if init is None:
        return HeadBank(trained, names, provenance, facts.preset)
    heads = init.heads
    for index, name in enumerate(names):
        head = take_head(trained, index)
        if name in init.classes:
            heads = replace_head(heads, init.classes.index(name), head)
        else:
            heads = append_head(heads, head)
    added = tuple(name for name in names if name not in init.classes)
    provenance = {**init.provenance, **provenance}
    return HeadBank(heads, init.classes + added, provenance, facts.preset)


def _provenance(
    config: Config, facts: DatasetFacts, member: Member, state: RunState, index: int
) -> dict[str, Any]:
    version = metadata.version("acai_jax")
    what = json.dumps([config.as_json(), dataclasses.asdict(facts), version])
    return {
        "version": f"acai_jax_{version}_{hashlib.sha256(what.encode()).hexdigest()[:8]}",
        "positives": list(member.labels),
        "dataset": facts.name,
        "dataset_sha256": facts.digest,
        "seed": str(member.seed),
        "best_epoch": str(state.control.best_epoch[index]),
        "val_loss": f"{state.control.best_loss[index]:.6g}",
    }
