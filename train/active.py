"""Choose, label, retrain: the loop by which ACAI's training data were gathered.

    python -m train.active --pool night/alerts --workdir runs/active

asks you for labels, on the page that it names, and goes on when the same command is given again;

    python -m train.active --pool simulated/alerts --truth simulated/labels.csv \
        --judges other/ --workdir runs/active

lets the simulator answer. Each round is a folder, with the queue, the labels so far, the dataset,
the heads and their evaluation; what is there is not done again. WORKDIR/rounds.html shows how the
heads get better. The loop itself is `run`, which reads top to bottom.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import polars as pl

from acai_jax.commands.console import console
from acai_jax.commands.package import Package
from acai_jax.datasets.labels import read_labels
from acai_jax.datasets.records import open_dataset
from acai_jax.errors import DatasetError, EvaluationError, LabelsError
from acai_jax.evaluate.labelled import AlertsSource, DatasetSource, Source
from acai_jax.evaluate.run import Model, evaluate
from acai_jax.files import write_atomically, write_file
from acai_jax.labelling.embed import last_layer_of
from acai_jax.labelling.export import export_labels
from acai_jax.labelling.pick import pick
from acai_jax.labelling.queue import asked_of, read_queue, read_scores, read_unscored
from acai_jax.labelling.store import Event, LabelStore
from acai_jax.network.checkpoints import HEADS_FOLDER, is_checkpoint, load_heads
from acai_jax.report.active_page import Round, write_active_page
from acai_jax.report.evaluation_json import metrics_of
from acai_jax.score.night import score_night
from acai_jax.score.scorer import Scorer, enable_compilation_cache
from acai_jax.surveys import survey_of_table
from acai_jax.training import Config, train
from acai_jax.training.folder import own_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """Choose, label, retrain.

    Attributes:
        pool: alerts to choose from: a file, an archive, or a folder.
        workdir: folder of the loop.
        truth: labels.csv that answers in place of a person.
        judges: folder with alerts/ and labels.csv, which every round is evaluated on; by default
            the test split of the round's own dataset, which holds random draws only.
        rounds: after the first.
        first: alerts of the first round, all random.
        count: alerts of each other round.
        quotas: reason -> share of a round's alerts, as for `acai-jax pick`; half of them are random
            while a head has no positives to learn from or to stop by.
        warm_start: each round's heads start from those of the one before.
        draws: of the bootstrap in each evaluation.
        workers: decoding processes; by default one for each core.
        seed: of chance.
        train: how heads are trained; its dataset, heads to start from and seed are the loop's.
    """

    pool: Path
    workdir: Path
    truth: Path | None = None
    judges: Path | None = None
    rounds: int = 5
    first: int = 200
    count: int = 50
    quotas: dict[str, float] = dataclasses.field(default_factory=dict)
    warm_start: bool = False
    draws: int = 200
    workers: int | None = None
    seed: int = 0
    train: Config = dataclasses.field(default_factory=Config)


def run(loop: Loop) -> list[Round] | None:
    """Goes round, from where it stopped.

    Returns:
        What each round has brought; None where it waits for a person, or was interrupted.

    Raises:
        LabelsError: `truth` is no labels file, or lacks an alert.
        DatasetError: there are too few labels to train on.
        OutputError: another run is in `workdir`.
    """
    rounds: list[Round] = []
    with own_folder(loop.workdir):
        for number in range(loop.rounds + 1):
            folder = loop.workdir / f"round-{number:02d}"
            before = loop.workdir / f"round-{number - 1:02d}" if number else None
            folder.mkdir(parents=True, exist_ok=True)

            # --- score, pick ---------------------------------------------------------------------

            queue_file = folder / "queue.parquet"
            if not queue_file.exists():
                queue = choose(loop, number, folder, before)
                write_atomically(queue_file, queue.write_parquet)
            queue = read_queue(queue_file)

            # --- label ---------------------------------------------------------------------------

            labels = folder / "labels"
            if not (labels / "labels.csv").exists():
                store = LabelStore(loop.workdir / "labels.db")
                if loop.truth is not None:
                    answer(queue, store, loop.truth)
                if missing := unanswered(queue, store):
                    command = (
                        f"acai-jax label {queue_file} --store {store.path} --alerts {loop.pool}"
                    )
                    todo = f"{missing} alerts to label: {command}; then give this command again"
                    console.print(f"round {number}: {todo}", soft_wrap=True)
                    return None
                export_labels(store, labels, before / "labels" / "labels.csv" if before else None)
                store.close()

            # --- package -------------------------------------------------------------------------

            datasets = folder / "datasets"
            if not datasets.exists():
                unfinished = folder / "datasets.unfinished"
                Package(
                    sources=(loop.pool,),
                    labels=labels / "labels.csv",
                    data_dir=unfinished,
                    overwrite=True,
                    workers=loop.workers,
                ).run()
                unfinished.replace(datasets)

            # --- train ---------------------------------------------------------------------------

            heads = trainable(loop.train, datasets)
            warm = before if loop.warm_start else None
            init = warm / "training" / HEADS_FOLDER if warm else loop.train.init
            config = dataclasses.replace(
                loop.train,
                dataset=datasets,
                heads=heads,
                init=init,
                warm_start=warm is not None,
                seed=loop.seed,
            )
            trained = is_checkpoint(folder / "training" / HEADS_FOLDER)
            if not trained and train(config, folder / "training", console=console) is None:
                return None

            # --- evaluate ------------------------------------------------------------------------

            metrics = folder / "metrics.json"
            if not metrics.exists():
                write_file(metrics, json.dumps(judge(loop, folder), allow_nan=False).encode())
            rounds.append(round_of(number, folder, queue))
            facts = {"alerts": str(loop.pool), "labels by": str(loop.truth or "people")}
            facts["evaluated on"] = str(loop.judges or "the test split of each round's dataset")
            page = write_active_page(rounds, loop.workdir / "rounds.html", facts=facts)
            console.print(f"round {number}: {rounds[-1].labels} labels; {page}", soft_wrap=True)
    return rounds


def choose(loop: Loop, number: int, folder: Path, before: Path | None) -> pl.DataFrame:
    """The alerts to label in a round: at random in the first, then by what the heads say."""
    if before is None:
        table = read_unscored(loop.pool)
        return pick(table, loop.first, {"random": 1.0}, labelling_round=number, seed=loop.seed)
    bank = load_heads(before / "training" / HEADS_FOLDER)
    scores = folder / "scores.parquet"
    score_night(Scorer(bank), loop.pool, scores, num_workers=loop.workers, resume=True)
    out_of_fold = before / "training" / "out_of_fold.parquet"
    found = json.loads((before / "metrics.json").read_bytes())["thresholds"]
    return pick(
        read_scores([scores]),
        loop.count,
        quotas_of(loop, bank.classes),
        labels=read_labels(before / "labels" / "labels.csv"),
        losses=pl.read_parquet(out_of_fold) if out_of_fold.exists() else None,
        thresholds=found,
        embed=last_layer_of(bank, loop.pool),
        labelling_round=number,
        seed=loop.seed,
    )


def quotas_of(loop: Loop, heads: Collection[str]) -> dict[str, float]:
    """The quotas of a round; half of its alerts at least are random while a head is missing.

    It lacks positives in training or in validation, which takes random draws only. Where `loop` has
    no quotas, the other half is near the boundary.
    """
    given = loop.quotas or {"boundary": 1.0}
    others = {why: share for why, share in given.items() if why != "random"}
    if set(loop.train.heads) <= set(heads) or sum(others.values()) <= given.get("random", 0.0):
        return loop.quotas
    return {**others, "random": sum(others.values())}


def answer(queue: pl.DataFrame, store: LabelStore, truth: Path) -> None:
    """Labels a queue by a file: what the simulator knows, in place of a person."""
    survey = survey_of_table(queue.columns)
    table = read_labels(truth).table
    known = dict(table.select("alert_id", "label").iter_rows())
    asked, standing = asked_of(queue), store.standing()
    events = []
    for alert_id, object_id in queue.select(survey.alert_id, survey.object_id).iter_rows():
        if alert_id not in known:
            raise LabelsError(f"{truth} has no label of {survey.alert_id} {alert_id}")
        events.append(
            Event(
                request=f"{asked[alert_id].round}:{alert_id}",
                labeller=truth.name,
                action="label",
                alert_id=alert_id,
                object_id=object_id,
                label=known[alert_id],
                asked=asked[alert_id],
            )
        )
    new = [event for event in events if event.labeller not in standing.answers(event.alert_id)]
    store.append(new)


def unanswered(queue: pl.DataFrame, store: LabelStore) -> int:
    """How many alerts of a queue nobody has answered; one of which all are unsure is answered."""
    standing = store.standing()
    alert_ids = queue[survey_of_table(queue.columns).alert_id]
    return sum(not standing.answers(alert_id) for alert_id in alert_ids)


def trainable(config: Config, datasets: Path) -> tuple[str, ...]:
    """The heads that have positives, and negatives, to learn from and to stop by."""
    classes = (open_dataset(datasets).info.metadata or {})["classes"]
    heads = []
    for head in config.heads:
        counts = [classes.get(split, {}) for split in ("train", "validation")]
        positives = [sum(each.get(label, 0) for label in config.labels(head)) for each in counts]
        if all(0 < n < sum(each.values()) for n, each in zip(positives, counts, strict=True)):
            heads.append(head)
    if not heads:
        raise DatasetError("too few labels: no head has positives in training and validation")
    if left_out := [head for head in config.heads if head not in heads]:
        missing = f"no heads yet for {', '.join(left_out)}: too few labels"
        console.print(f"note: {missing}; half of the next picks are random", soft_wrap=True)
    return tuple(heads)


def judge(loop: Loop, folder: Path) -> dict[str, object]:
    """The figures of a round's heads, and the thresholds that the next picks go by."""
    model = Model.load(str(folder / "training" / HEADS_FOLDER))
    found = functools.partial(evaluate, model, draws=loop.draws, seed=loop.seed)
    validation = found(DatasetSource(folder / "datasets", "validation"))
    thresholds = {name: head.threshold for name, head in validation.heads.items()}
    # a threshold of 0 or 1 is none
    thresholds = {name: value for name, value in thresholds.items() if 0 < value < 1}
    source: Source | None = None
    try:
        if loop.judges is not None:
            source = AlertsSource(loop.judges / "alerts", loop.judges / "labels.csv")
        else:
            source = DatasetSource(folder / "datasets", "test")
        metrics = metrics_of(found(source))
    except (DatasetError, EvaluationError) as error:
        if loop.judges is not None:
            raise
        console.print(f"note: nothing to evaluate on yet: {error}", soft_wrap=True)
        metrics = {"heads": {}}
    return {**metrics, "thresholds": thresholds}


def round_of(number: int, folder: Path, queue: pl.DataFrame) -> Round:
    """What a round has brought, from its files."""
    heads = json.loads((folder / "metrics.json").read_bytes())["heads"]
    told = {name: head for name, head in heads.items() if head["auc"] is not None}
    return Round(
        number=number,
        labels=len(read_labels(folder / "labels" / "labels.csv").table),
        picked=dict(Counter(queue["why"])),
        auc={name: head["auc"] for name, head in told.items()},
        error={
            name: (head["balanced_fnr"] + head["balanced_fpr"]) / 2 for name, head in told.items()
        },
    )


def main() -> None:
    """Entry point."""
    from acai_jax.commands.console import clear_errors
    from acai_jax.commands.parser import parse

    with clear_errors():
        loop = parse(Loop, "python -m train.active")
        enable_compilation_cache()
        run(loop)


if __name__ == "__main__":
    main()
