"""The command `python -m tfds_builders.lsst_acai`: `acai-jax package --survey lsst`."""

import tyro

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import Package


def main() -> None:
    """Entry point."""
    with clear_errors():
        tyro.cli(
            Package, prog="python -m tfds_builders.lsst_acai", default=Package(survey="lsst")
        ).run()


if __name__ == "__main__":
    main()
