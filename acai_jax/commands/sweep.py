"""The command `acai-jax sweep`; `python -m train.sweep` is the same."""

import dataclasses
from pathlib import Path

from acai_jax.commands.console import console
from acai_jax.extras import need
from acai_jax.sweep.search import Search
from acai_jax.training.config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Search for hyperparameters; the same command goes on with a sweep that was interrupted."""

    workdir: Path
    """folder of the sweep: WORKDIR/report.html, trials.parquet, and the heads WORKDIR/winner."""
    search: Search = dataclasses.field(default_factory=Search)
    """what is searched, and how."""
    config: Config = dataclasses.field(default_factory=Config)
    """what all trials have in common, and what the search leaves alone."""

    def run(self) -> None:
        """Searches, and writes the report."""
        need("sweep")
        from acai_jax.report.sweep_page import write_sweep_report
        from acai_jax.score.scorer import enable_compilation_cache
        from acai_jax.sweep.run import sweep

        enable_compilation_cache()
        found = sweep(self.config, self.search, self.workdir, console=console)
        if found is not None:
            with console.status("drawing"):
                page = write_sweep_report(found, self.workdir)
            console.print(f"{page}: trials, winner and test", soft_wrap=True)
