"""The command `acai-jax filter`."""

from pathlib import Path

import polars as pl
import tyro

from acai_jax.commands.console import console, print_alerts, print_pass_rates, stretches_progress
from acai_jax.errors import AcaiError, OutputError
from acai_jax.stream.tables import scan_tables
from acai_jax.surveys import survey_of_table
from acai_jax.text import FORMULA, spreadsheet_safe


def filter_table(
    table: tyro.conf.Positional[Path],
    /,
    *,
    where: str | None = None,
    name: str | None = None,
    filters: Path | None = None,
    mongo: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
    alerts: tuple[Path, ...] = (),
    include_unscored: bool = False,
    overwrite: bool = False,
) -> None:
    """Filter a score table: print how many alerts are left after each part, write those that pass.

    Args:
        table: Parquet file written by `acai-jax score`, or the output folder of `acai-jax stream`.
        where: SQL expression over its columns, such as "acai_h > 0.8 AND n_detections < 5".
        name: a named filter instead: early_hosted, anomaly, likely_tde, moving, or your own.
        filters: TOML file of your own filters, [NAME] where = "EXPRESSION", for --name.
        mongo: JSON file of a MongoDB aggregation pipeline instead, as Kowalski and BOOM hold
            filters; its translation is printed.
        out: .parquet or .csv file for the alerts that pass; by default some are printed.
        report: folder for report.html: pass rates by stage, night and class, and what passes.
        alerts: where the alerts' packets lie, for the report's stamps; by default where they were
            scored.
        include_unscored: let alerts without scores pass too, if the expression is true for them.
        overwrite: replace OUT.
    """
    from acai_jax.filters.expressions import apply_filter, as_toml, named_filter, pass_rates

    if [where, name, mongo].count(None) != 2:
        raise AcaiError("give one of --where EXPRESSION, --name NAME and --mongo FILE")
    if alerts and report is None:
        raise AcaiError("--alerts is for --report")
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise OutputError(f"{out} should end in .parquet or .csv")
    if out is not None and out.exists() and not overwrite:
        raise OutputError(f"{out} exists: --overwrite replaces it")
    scores = scan_tables(table) if table.is_dir() else pl.scan_parquet(table)
    survey = survey_of_table(scores.collect_schema())
    why = None
    if name is not None:
        chosen = named_filter(name, filters, survey)
        where, why = chosen.where, chosen.why
        console.print(f"{name}: {why}", soft_wrap=True)
    if mongo is not None:
        from acai_jax.filters.mongo import read_pipeline

        where = read_pipeline(mongo, include_unscored=include_unscored, survey=survey)
        name = mongo.stem
        console.print(as_toml(name, where), soft_wrap=True)
    assert where is not None
    print_pass_rates(pass_rates(scores, where, include_unscored=include_unscored))
    passed = apply_filter(scores, where, include_unscored=include_unscored)
    if out is None:
        print_alerts(passed)
    elif out.suffix == ".csv":
        safe = pl.col(pl.String).str.replace(FORMULA, "'$0")
        passed.with_columns(safe).rename(spreadsheet_safe).write_csv(out)
    else:
        passed.write_parquet(out)
    if out is not None:
        console.print(f"{out}: {len(passed):,} alerts")
    if report is not None:
        from acai_jax.alerts.lookup import stamps_of_table
        from acai_jax.filters.trial import try_filter
        from acai_jax.report.filter_page import shown_alerts, write_filter_report

        with console.status("counting"):
            trial = try_filter(scores, where, include_unscored=include_unscored)
        with stretches_progress() as begin:
            images = stamps_of_table(shown_alerts(trial), alerts or None, begin("reading stamps"))
        with console.status("drawing"):
            facts = {"table": str(table)}
            page = write_filter_report(trial, report, images, name=name, why=why, facts=facts)
        console.print(f"{page}: everything", soft_wrap=True)
