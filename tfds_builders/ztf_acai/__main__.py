"""The command `python -m tfds_builders.ztf_acai` of a checkout: it is `acai-jax package`."""

import tyro

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import Package


def main() -> None:
    """Entry point."""
    with clear_errors():
        tyro.cli(Package, prog="python -m tfds_builders.ztf_acai").run()


if __name__ == "__main__":
    main()
