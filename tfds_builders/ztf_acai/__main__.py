"""The command `python -m tfds_builders.ztf_acai` of a checkout: it is `acai-jax package`."""

import tyro

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import package


def main() -> None:
    """Entry point."""
    with clear_errors():
        tyro.cli(package, prog="python -m tfds_builders.ztf_acai")


if __name__ == "__main__":
    main()
