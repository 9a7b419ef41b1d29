"""The training loop: data, members, programs, two rounds of epochs, result.

It can be interrupted anywhere, and goes on to the same bits.
"""

from pathlib import Path

import jax
from rich.console import Console

from acai_jax.network.bank import HeadBank
from acai_jax.network.checkpoints import HEADS_FOLDER, is_checkpoint, load_heads, save_heads
from acai_jax.processes import finishing
from acai_jax.training.config import Config
from acai_jax.training.folder import claim_folder, own_folder
from acai_jax.training.inputs import dataset_facts
from acai_jax.training.members import check_features, members_of
from acai_jax.training.out_of_fold import OUT_OF_FOLD, write_out_of_fold
from acai_jax.training.population import (
    InterruptedRunError,
    population_of,
    programs_of,
    read_splits,
)
from acai_jax.training.progress import Display, Journal
from acai_jax.training.result import load_init, result_of


def train(
    config: Config,
    workdir: Path,
    *,
    console: Console | None = None,
    together: bool | None = None,
) -> HeadBank | None:
    """Trains heads; goes on where an earlier call in the same folder was interrupted.

    Args:
        config: what to do.
        workdir: folder of the run. The result is a checkpoint in its folder "heads"; labels of
            the negatives that a head was not trained on are in "dropped".
        console: where progress is shown; by default standard error.
        together: see `Programs`.

    Returns:
        The heads, with those of `config.init`; None where SIGTERM or Ctrl-C stopped the run, whose
        state is saved.

    Raises:
        DatasetError: the dataset cannot be trained on.
        CheckpointError: `config.init` does not fit, or a state cannot be written or read.
        OutputError: the folder belongs to another run, or to a process that is alive.
        TrainingError: a head's losses are no numbers, or there is no feature to do without.
    """
    facts = dataset_facts(config.dataset)
    check_features(config.without, facts.survey)
    init = load_init(config, facts)
    console = console or Console(stderr=True)
    with own_folder(workdir), Display(console) as display, finishing(display.say) as stop:
        claim_folder(workdir, {"config": config.as_json()}, facts)
        if is_checkpoint(workdir / HEADS_FOLDER):
            display.say(f"{workdir / HEADS_FOLDER} is complete already")
            return load_heads(workdir)

        # --- data ----------------------------------------------------------------------------

        training, validation = read_splits(config, facts, display, together=together)

        # --- members -------------------------------------------------------------------------

        inputs = facts.survey.inputs
        programs = programs_of(config, inputs, together=together)
        run = population_of(
            *(config, members_of(config), training, validation, programs, inputs),
            *(workdir / "state", display, stop, init),
        )
        for member, task in zip(run.members, run.tasks, strict=True):
            training.write_labels(workdir / "dropped" / f"{member.name}.csv", task.dropped)
        state = run.state
        if state.restore(run.folder):
            display.say(f"going on in round {state.round}, epoch {state.epoch}")

        # --- loop ----------------------------------------------------------------------------

        try:
            with (
                Journal(workdir, config, state.epoch, state.round) as journal,
                # what goes to the device, or comes from it, is sent for
                jax.transfer_guard("disallow"),
            ):
                while state.round <= 2:
                    if not state.control.stopped.all():
                        record = run.epoch()
                        journal.write(record)
                        display.epoch(record)
                    else:
                        run.restore_best()
                        if state.round == 1 and config.round_two:
                            journal.write(run.add_misclassified())
                        run.begin_next_round()
                    if run.save_is_due():
                        run.save()
                if config.folds > 1:
                    write_out_of_fold(run, facts, workdir / OUT_OF_FOLD)
        except InterruptedRunError:
            run.save()
            display.say(f"interrupted: the same command goes on from {workdir}")
            return None
        run.save()

        # --- result --------------------------------------------------------------------------

        bank = result_of(config, facts, run.members, state, init)
        save_heads(bank, workdir / HEADS_FOLDER)
        display.say(f"{workdir / HEADS_FOLDER}: {', '.join(bank.classes)}")
        return bank
