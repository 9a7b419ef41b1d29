"""The command `python -m train.main`: trains heads on a packaged dataset."""

import sys
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from acai_jax.errors import AcaiError
from acai_jax.score import enable_compilation_cache

from .config import Config
from .loop import train

_DEFAULT = Config()
_console = Console(stderr=True, highlight=False, markup=False)


def main() -> None:
    """Entry point."""

    def run(*, workdir: Path, config: Config = _DEFAULT) -> None:
        """Train ACAI heads; the same command goes on with a run that was interrupted.

        Args:
            workdir: folder of the run; the result is the checkpoint WORKDIR/heads.
            config: what is trained, on what, and how.
        """
        enable_compilation_cache()
        train(config, workdir, console=_console)

    try:
        tyro.cli(run, prog="python -m train.main")
    except (AcaiError, OSError) as error:
        _console.print(Text("error: ", style="red") + Text(str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        _console.print("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
