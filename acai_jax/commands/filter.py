"""The command `acai-jax filter`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import tyro

from acai_jax.commands.console import console, print_alerts, print_pass_rates, stretches_progress
from acai_jax.errors import OutputError, UsageError
from acai_jax.extras import need
from acai_jax.stream.tables import scan_tables
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.base import Survey
from acai_jax.text import FORMULA, spreadsheet_safe

if TYPE_CHECKING:
    from acai_jax.filters.trial import Trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Filter a score table: print how many alerts are left after each part, write what passes."""

    table: tyro.conf.Positional[Path]
    """Parquet file written by `acai-jax score`, or the output folder of `acai-jax stream`."""
    where: str | None = None
    """SQL expression over its columns, such as "acai_h > 0.8 AND n_detections < 5"."""
    name: str | None = None
    """a named filter instead: early_hosted, anomaly, likely_tde, moving, or your own."""
    filters: Path | None = None
    """TOML file of your own filters, [NAME] where = "EXPRESSION", for --name."""
    mongo: Path | None = None
    """JSON file of a MongoDB aggregation pipeline instead, as Kowalski and BOOM hold filters; its
    translation is printed."""
    out: Path | None = None
    """.parquet or .csv file for the alerts that pass; by default some are printed."""
    report: Path | None = None
    """folder for report.html: pass rates by stage, night and class, and what passes."""
    alerts: tuple[Path, ...] = ()
    """where the alerts' packets lie, for the report's stamps; by default where they were scored."""
    include_unscored: bool = False
    """let alerts without scores pass too, if the expression is true for them."""
    overwrite: bool = False
    """replace OUT."""

    def run(self) -> None:
        """Filters the table, and prints or writes what passes."""
        from acai_jax.filters.trial import try_filter

        out = self.out
        if [self.where, self.name, self.mongo].count(None) != 2:
            raise UsageError("give one of --where EXPRESSION, --name NAME and --mongo FILE")
        if self.alerts and self.report is None:
            raise UsageError("--alerts is for --report")
        if self.report is not None:
            need("report")
        if out is not None and out.suffix not in (".parquet", ".csv"):
            raise UsageError(f"{out} should end in .parquet or .csv")
        if out is not None and out.exists() and not self.overwrite:
            raise OutputError(f"{out} exists: --overwrite replaces it")
        table = self.table
        scores = scan_tables(table) if table.is_dir() else pl.scan_parquet(table)
        chosen = self._chosen(survey_of_table(scores.collect_schema()))
        trial = try_filter(scores, chosen.where, include_unscored=self.include_unscored)
        passed = trial.passed
        print_pass_rates(trial.stages)
        if out is None:
            print_alerts(passed)
        elif out.suffix == ".csv":
            safe = pl.col(pl.String).str.replace(FORMULA, "'$0")
            passed.with_columns(safe).rename(spreadsheet_safe).write_csv(out)
        else:
            passed.write_parquet(out)
        if out is not None:
            console.print(f"{out}: {len(passed):,} alerts", soft_wrap=True)
        if self.report is not None:
            self._report(trial, chosen, self.report)

    def _chosen(self, survey: Survey) -> "_Chosen":
        """The filter that the arguments name."""
        from acai_jax.filters.expressions import as_toml, named_filter

        if self.name is not None:
            found = named_filter(self.name, self.filters, survey)
            console.print(f"{self.name}: {found.why}", soft_wrap=True)
            return _Chosen(found.where, self.name, found.why)
        if self.mongo is not None:
            from acai_jax.filters.mongo import read_pipeline

            unscored = self.include_unscored
            where = read_pipeline(self.mongo, include_unscored=unscored, survey=survey)
            console.print(as_toml(self.mongo.stem, where), soft_wrap=True)
            return _Chosen(where, self.mongo.stem)
        assert self.where is not None
        return _Chosen(self.where)

    def _report(self, trial: "Trial", chosen: "_Chosen", folder: Path) -> None:
        from acai_jax.alerts.lookup import stamps_of_table
        from acai_jax.report.filter_page import shown_alerts, write_filter_report

        with stretches_progress() as begin:
            alerts, progress = self.alerts or None, begin("reading stamps")
            images = stamps_of_table(shown_alerts(trial), alerts, progress)
        with console.status("drawing"):
            facts = {"table": str(self.table)}
            page = write_filter_report(
                trial, folder, images, name=chosen.name, why=chosen.why, facts=facts
            )
        console.print(f"{page}: everything", soft_wrap=True)


class _Chosen(NamedTuple):
    where: str
    name: str | None = None
    why: str | None = None
