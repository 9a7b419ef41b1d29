"""The command `acai-jax calibrate`."""

from pathlib import Path

from acai_jax.commands.console import console, print_calibrations, stretches_progress


def calibrate(
    *,
    out: Path,
    model: str = "published",
    dataset: Path | None = None,
    split: str | None = None,
    alerts: tuple[Path, ...] = (),
    labels: Path | None = None,
    heads: tuple[str, ...] = (),
    weights: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Calibrate heads by temperature scaling: a checkpoint of the same weights, with temperatures.

    Whatever reads the checkpoint gives calibrated scores; the order of alerts stays.

    Args:
        out: folder of the new checkpoint.
        model: "published", "published-20201110" (the first generation), or a checkpoint's folder.
        dataset: folder of a packaged dataset; or --alerts and --labels instead.
        split: of the dataset; by default validation.
        alerts: Avro files, archives or directories, as for `score`.
        labels: labels.csv of the alerts; with --dataset, labels in place of its own, and only
            the alerts that they name.
        heads: only these heads; the others stay as they are.
        weights: folder with the published .h5 files, for work without a network.
        overwrite: replace a checkpoint that is there.
    """
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.evaluate.calibration import calibrate as calibrate_heads
    from acai_jax.evaluate.labelled import open_source
    from acai_jax.network.checkpoints import check_place, save_heads
    from acai_jax.score.scorer import Scorer, enable_compilation_cache

    check_place(out, overwrite=overwrite)
    split = split or (None if dataset is None else "validation")
    source = open_source(dataset=dataset, split=split, alerts=alerts, labels=labels)
    enable_compilation_cache()
    with console.status("loading the model"):
        bank = Scorer.load(model, weights_dir=weights).bank
    with stretches_progress() as report:
        bank, found = calibrate_heads(
            bank, source, heads, weights_dir=weights, report=report("scoring")
        )
    save_heads(bank, out, overwrite=overwrite)
    print_calibrations(found)
    versions = ", ".join(f"{name} {bank.provenance[name]['version']}" for name in found)
    console.print(f"{out}: {versions}", soft_wrap=True)
