"""The checkpoint that a run extends, and the heads that it ends with."""

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata

from acai_jax.errors import CheckpointError
from acai_jax.network.bank import HeadBank, abstract_heads, merge_banks
from acai_jax.network.checkpoints import load_heads
from acai_jax.network.head import with_weights
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
    if bank.members != config.members:
        raise CheckpointError(
            f"{config.init} holds {bank.members} heads of each class, not {config.members}"
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
    provenance = {}
    for head in config.heads:
        of_head = [place for place, member in enumerate(members) if member.head == head]
        epochs, losses = state.control.best_epoch[of_head], state.control.best_loss[of_head]
        provenance[head] = {
            "version": f"acai_jax_{version}_{digest[:8]}",
            "positives": list(config.labels(head)),
            **({"without": list(config.without)} if config.without else {}),
            **({"folds": config.folds} if config.folds > 1 else {}),
            "dataset": facts.name,
            "dataset_sha256": facts.digest,
            "seed": " ".join(str(members[place].seed) for place in of_head),
            "best_epoch": " ".join(map(str, epochs)),
            "val_loss": " ".join(f"{loss:.6g}" for loss in losses),
        }
    trained = abstract_heads(config.model, len(members), inputs=facts.survey.inputs)
    trained = with_weights(trained, {**state.best, **state.heads.norm})
    bank = HeadBank(trained, config.heads, provenance, facts.preset, facts.survey, config.members)
    return bank if init is None else merge_banks(init, bank)
