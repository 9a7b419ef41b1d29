"""Gathering on Apache Beam, for sources that outgrow one machine.

Every worker must see the sources and the build's folder under the same paths. Records, counts and
rejects are those of `local`, whatever the runner does to the order.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput

from acai_jax.alerts.sources import Encoded, encoded_alerts
from acai_jax.datasets.gather.local import (
    Place,
    Tally,
    append_records,
    digest,
    fill_drb,
    record_key,
    rejects_file,
    select,
)
from acai_jax.datasets.gather.plan import BuildPlan, read_wanted
from acai_jax.datasets.gather.records import Record
from acai_jax.errors import Reject, SourceError
from acai_jax.surveys.base import Survey


def gather(
    plan: BuildPlan, files: Sequence[Path], rejects: Path, runner: Any, options: Any
) -> tuple[Tally, list[str]]:
    """Runs the pipeline, and waits for it.

    Args:
        plan: what to gather.
        files: the sources, in order.
        rejects: the table of rejects, which is written.
        runner: a Beam runner, or its name.
        options: Beam's `PipelineOptions`, or None.

    Returns:
        What `local.gather` returns, and the SHA-256 of each file.
    """
    results_file = plan.folder / "results.json"
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        sources = pipeline | "Files" >> beam.Create([(i, str(f)) for i, f in enumerate(files)])
        selected = (
            sources
            | "Read" >> beam.FlatMap(_pieces)
            | "Spread" >> beam.Reshuffle()
            | "Select"
            >> beam.FlatMap(_select, plan).with_outputs("records", "rejects", "tally", main="found")
        )
        shards = selected["records"] | "ByShard" >> beam.GroupByKey()
        _ = shards | "Store" >> beam.Map(_store, plan)
        counted = selected["found"] | "ByAlert" >> beam.CombinePerKey(sum)
        tallied = counted | "CountOnce" >> beam.Map(_count_once, plan)
        rejected = selected["rejects"] | "AllRejects" >> beam.combiners.ToList()
        _ = rejected | "WriteRejects" >> beam.Map(_write_rejects, rejects, plan.survey)
        digests = (
            sources
            | "SpreadFiles" >> beam.Reshuffle()
            | "Digest" >> beam.Map(lambda source: (source[0], digest(Path(source[1]))))
            | "AllDigests" >> beam.combiners.ToDict()
        )
        tallies = (selected["tally"], tallied) | "Tallies" >> beam.Flatten()
        total = tallies | "Sum" >> beam.CombineGlobally(_sum)
        _ = total | "WriteResults" >> beam.Map(_write_results, AsSingleton(digests), results_file)
    found = json.loads(results_file.read_text())
    tally = Tally({tuple(key): count for key, count in found["tally"]})
    labels = len(read_wanted(plan.folder).alert_id)
    tally["label_not_found",] = labels - tally.pop(("label_found",), 0)
    return tally, found["digests"]


def _pieces(source: tuple[int, str]) -> Iterator[tuple[int, int, Encoded]]:
    number, path = source
    try:
        for piece, encoded in enumerate(encoded_alerts(path)):
            yield number, piece, encoded
    except SourceError as error:  # a long run goes on
        yield number, 0, Encoded(path, Reject(str(error), origin=path))


def _select(piece: tuple[int, int, Encoded], plan: BuildPlan) -> Iterator[Any]:
    file, number, encoded = piece
    wanted = read_wanted(plan.folder)
    selection = select([encoded], plan)
    fill_drb(selection, plan)
    for place, found in enumerate(selection.found):
        yield found.row, int(found.kept)
        if found.record is not None:
            shard = int(wanted.shard[found.row])
            yield TaggedOutput("records", (shard, ((file, number, place), found.record)))
    for place, reject in enumerate(selection.rejects):
        yield TaggedOutput("rejects", ((file, number, place), reject))
        selection.tally["reject", reject.kind] += 1
    yield TaggedOutput("tally", selection.tally)


def _store(group: tuple[int, Iterable[tuple[Place, Record]]], plan: BuildPlan) -> None:
    shard, records = group
    folder = plan.shard_folder(shard)
    shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
    append_records(folder / "records.pickle", records)


def _count_once(counted: tuple[int, int], plan: BuildPlan) -> Tally:
    row, records = counted
    tally = Tally({("label_found",): 1})
    if records:
        tally[record_key(plan, read_wanted(plan.folder), row)] = 1
        tally["duplicate",] = records - 1
    return tally


def _write_rejects(rejects: list[tuple[Place, Reject]], path: Path, survey: Survey) -> None:
    with rejects_file(path, survey) as write:
        write(reject for _, reject in sorted(rejects, key=lambda found: found[0]))


def _sum(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, Tally())


def _write_results(tally: Tally, digests: dict[int, str], path: Path) -> None:
    in_order = [digest for _, digest in sorted(digests.items())]
    path.write_text(json.dumps({"tally": list(tally.items()), "digests": in_order}))
