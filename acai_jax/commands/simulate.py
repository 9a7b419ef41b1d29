"""The command `acai-jax simulate`."""

import dataclasses
import time
from pathlib import Path
from typing import Literal

from acai_jax.commands.console import console, counting_progress
from acai_jax.extras import need


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulate:
    """Simulate labelled alerts in their survey's schema: OUT/alerts/*.avro and OUT/labels.csv."""

    out: Path
    """folder to make."""
    survey: Literal["ztf", "lsst"] = "ztf"
    """whose alerts."""
    count: int = 10_000
    """number of alerts."""
    seed: int = 0
    """the same seed makes the same alerts."""
    proportions: dict[str, float] | None = None
    """share of each class, as in `--proportions h 1 b 2`; by default the paper's."""
    label_noise: float = 0.0
    """share of labels that are replaced by a wrong one."""
    workers: int | None = None
    """processes; by default one for each core."""
    overwrite: bool = False
    """replace an earlier simulation in OUT."""

    def run(self) -> None:
        """Simulates, and prints where the alerts lie."""
        need("simulate")
        from acai_jax.simulate import DEFAULT_PROPORTIONS, write_alerts

        started = time.monotonic()
        with counting_progress("simulating", self.count) as progress:
            write_alerts(
                self.out,
                self.count,
                self.seed,
                proportions=self.proportions or DEFAULT_PROPORTIONS,
                label_noise=self.label_noise,
                survey=self.survey,
                num_workers=self.workers,
                overwrite=self.overwrite,
                progress=progress,
            )
        rate = f"{self.count / (time.monotonic() - started):,.0f} a second"
        where = f"{self.out}/alerts, {self.out}/labels.csv"
        console.print(f"{where}: {self.count:,} alerts, {rate}", soft_wrap=True)
