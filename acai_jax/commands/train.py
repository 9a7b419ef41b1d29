"""The command `acai-jax train`; `python -m train.main` is the same."""

import dataclasses
from pathlib import Path

from acai_jax.commands.console import console
from acai_jax.extras import need
from acai_jax.training.config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train ACAI heads; the same command goes on with a run that was interrupted."""

    workdir: Path
    """folder of the run; the result is the checkpoint WORKDIR/heads."""
    config: Config = dataclasses.field(default_factory=Config)
    """what is trained, on what, and how."""

    def run(self) -> None:
        """Trains, and shows how it goes."""
        need("train")
        from acai_jax.score.scorer import enable_compilation_cache
        from acai_jax.training.loop import train

        enable_compilation_cache()
        train(self.config, self.workdir, console=console)
