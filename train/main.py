"""The command `python -m train.main`: trains heads on a packaged dataset."""

import tyro

from acai_jax.console import clear_errors
from acai_jax.train_command import train


def main() -> None:
    """Entry point."""
    with clear_errors():
        tyro.cli(train, prog="python -m train.main")


if __name__ == "__main__":
    main()
