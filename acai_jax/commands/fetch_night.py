"""The command `acai-jax fetch-night`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from acai_jax.archive import nights
from acai_jax.commands.console import console, download_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchNight:
    """Fetch one night's alerts from the public archive; an interrupted download goes on.

    Exit status 3 says that the archive has no alerts of that night. Alerts before 2018-07-18 lack
    features, and cannot be scored.
    """

    date: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATE")]
    """the night's UTC date, as YYYYMMDD or YYYY-MM-DD."""
    out: Path = Path(".")
    """folder for the archive, ztf_public_YYYYMMDD.tar.gz."""
    base_url: str = nights.PUBLIC_ARCHIVE
    """where the archive's nights lie."""

    def __post_init__(self) -> None:
        nights.parse_night(self.date)

    def run(self) -> None:
        """Fetches the night, and prints where it lies."""
        night, first = nights.parse_night(self.date), nights.FIRST_SCORABLE
        if night < first:
            warning = f"warning: alerts before {first} lack clrcoeff and clrcounc: none of this "
            console.print(f"{warning}night can be scored", style="yellow", soft_wrap=True)
        complete = nights.night_path(night, self.out).exists()
        try:
            with download_progress() as report:
                path = nights.fetch_night(night, self.out, base_url=self.base_url, report=report)
        except KeyboardInterrupt:
            console.print("what has come is kept; the same command goes on")
            raise
        size = f"{path.stat().st_size / 1e6:,.1f} MB"
        console.print(
            f"{path}: {'there already, not fetched again' if complete else size}", soft_wrap=True
        )
