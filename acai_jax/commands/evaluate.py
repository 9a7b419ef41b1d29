"""The command `acai-jax evaluate`."""

from pathlib import Path

from acai_jax.commands.console import console, print_evaluation, stretches_progress


def evaluate(
    *,
    out: Path,
    model: str = "published",
    dataset: Path | None = None,
    split: str | None = None,
    alerts: tuple[Path, ...] = (),
    labels: Path | None = None,
    heads: tuple[str, ...] = (),
    against: str | None = None,
    weights: Path | None = None,
    draws: int = 1000,
    seed: int = 0,
    note: str | None = None,
) -> None:
    """Evaluate heads on labelled alerts: OUT/report.html, OUT/metrics.json and pictures.

    Args:
        out: folder to write to; an earlier report in it is replaced.
        model: "published", "published-20201110" (the first generation), or a checkpoint's folder.
        dataset: folder of a packaged dataset; or --alerts and --labels instead.
        split: of the dataset; by default test.
        alerts: Avro files, archives or directories, as for `score`.
        labels: labels.csv of the alerts; with --dataset, labels in place of its own, and only
            the alerts that they name.
        heads: only these heads of the model.
        against: another model to compare with, on the same alerts.
        weights: folder with the published .h5 files, for work without a network.
        draws: of the bootstrap by object.
        seed: of the bootstrap.
        note: what the report should say first, such as where the labels come from.
    """
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.evaluate.labelled import open_source
    from acai_jax.evaluate.run import Model
    from acai_jax.evaluate.run import evaluate as evaluate_model
    from acai_jax.report.evaluation_page import write_report
    from acai_jax.score.scorer import enable_compilation_cache

    out.mkdir(parents=True, exist_ok=True)
    source = open_source(dataset=dataset, split=split, alerts=alerts, labels=labels)
    enable_compilation_cache()
    with console.status("loading the model"):
        chosen = Model.load(model, weights_dir=weights, heads=heads)
        other = Model.load(against, weights_dir=weights) if against else None
    with stretches_progress() as report:
        found = evaluate_model(chosen, source, other, draws=draws, seed=seed, report=report)
    with console.status("drawing"):
        page = write_report(found, out, note=note)
    print_evaluation(found)
    console.print(f"{page}: everything; metrics.json and pictures are beside it", soft_wrap=True)
