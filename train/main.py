"""The command `python -m train.main`: trains heads on a packaged dataset."""

from pathlib import Path

import tyro

from acai_jax.console import clear_errors, console
from acai_jax.score import enable_compilation_cache
from acai_jax.training.config import Config
from acai_jax.training.loop import train

_DEFAULT = Config()


def main() -> None:
    """Entry point."""

    def run(*, workdir: Path, config: Config = _DEFAULT) -> None:
        """Train ACAI heads; the same command goes on with a run that was interrupted.

        Args:
            workdir: folder of the run; the result is the checkpoint WORKDIR/heads.
            config: what is trained, on what, and how.
        """
        enable_compilation_cache()
        train(config, workdir, console=console)

    with clear_errors():
        tyro.cli(run, prog="python -m train.main")


if __name__ == "__main__":
    main()
