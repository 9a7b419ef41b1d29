"""The checkpoint that a run extends, and the heads that it ends with."""

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata

from acai_jax.errors import CheckpointError
from acai_jax.network.bank import HeadBank, abstract_heads, append_head, replace_head
from acai_jax.network.checkpoints import load_heads
from acai_jax.network.head import with_weights
from acai_jax.training.config import Config
from acai_jax.training.inputs import DatasetFacts
from acai_jax.training.members import Member
from acai_jax.training.state import RunState
from acai_jax.training.step import take


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
    if bank.survey is not facts.survey:
        raise CheckpointError(
            f"{config.init} reads alerts of {bank.survey.title}, the dataset holds those of "
            f"{facts.survey.title}"
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
    version = metadata.version("acai_jax")
    what = json.dumps([config.as_json(), facts.as_json(), version])
    digest = hashlib.sha256(what.encode()).hexdigest()
    provenance = {
        member.head: {
            "version": f"acai_jax_{version}_{digest[:8]}",
            "positives": list(member.labels),
            "dataset": facts.name,
            "dataset_sha256": facts.digest,
            "seed": str(member.seed),
            "best_epoch": str(state.control.best_epoch[index]),
            "val_loss": f"{state.control.best_loss[index]:.6g}",
        }
        for index, member in enumerate(members)
    }
    names = tuple(provenance)
    trained = abstract_heads(config.model, len(names), inputs=facts.survey.inputs)
    trained = with_weights(trained, {**state.best, **state.heads.norm})
    if init is None:
        return HeadBank(trained, names, provenance, facts.preset, facts.survey)
    heads = init.heads
    for index, name in enumerate(names):
        head = take(trained, index)
        if name in init.classes:
            heads = replace_head(heads, init.classes.index(name), head)
        else:
            heads = append_head(heads, head)
    names = init.classes + tuple(name for name in names if name not in init.classes)
    return HeadBank(heads, names, {**init.provenance, **provenance}, facts.preset)
