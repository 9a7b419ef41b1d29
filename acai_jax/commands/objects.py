"""The command `acai-jax objects`."""

import dataclasses
from pathlib import Path

import polars as pl
import tyro

from acai_jax.commands.console import console
from acai_jax.errors import OutputError, TableError, UsageError
from acai_jax.files import write_atomically
from acai_jax.score.columns import ALERTS
from acai_jax.stream.tables import scan_table
from acai_jax.surveys import survey_of_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
    """Make a table of objects from tables of scores; what all alerts of an object say together.

    A row is the object's newest scored alert, with first and last date, numbers of alerts, and
    mean, maximum and spread of each score beside it. An object that several models or presets have
    scored has a row for each.
    """

    tables: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Parquet files written by `acai-jax score`, or output folders of `acai-jax stream`."""
    out: Path = Path("objects.parquet")
    """the Parquet file to write."""
    overwrite: bool = False
    """replace OUT."""

    def run(self) -> None:
        """Makes the table, and prints what is in it."""
        from acai_jax.score.objects import SCORED, objects

        if not self.tables:
            raise UsageError("no tables given: name files or folders of scores")
        if self.out.suffix != ".parquet":
            raise UsageError(f"{self.out} should end in .parquet")
        if self.out.exists() and not self.overwrite:
            raise OutputError(f"{self.out} exists: --overwrite replaces it")
        tables = [scan_table(path) for path in self.tables]
        surveys = [survey_of_table(table.collect_schema()) for table in tables]
        if len(set(surveys)) > 1:
            raise TableError(f"alerts of {surveys[0].title} do not go with others in one table")
        with console.status("reading"):
            found = objects(pl.concat(tables, how="diagonal"))
        write_atomically(self.out, lambda path: found.write_parquet(path))
        name = surveys[0].object_id
        named = found.drop_nulls(name)
        unknown = int(found[ALERTS].sum()) - int(named[ALERTS].sum())
        alerts = f"{found[ALERTS].sum():,} alerts, {found[SCORED].sum():,} of them scored"
        console.print(
            f"{self.out}: {named[name].n_unique():,} objects in {len(found):,} rows, of {alerts}"
            + (f", {unknown:,} of no known object" if unknown else ""),
            soft_wrap=True,
        )
