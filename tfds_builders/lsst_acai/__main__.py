"""The command `python -m tfds_builders.lsst_acai`: `acai-jax package --survey lsst`."""

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import Package
from acai_jax.commands.parser import parse


def main() -> None:
    """Entry point."""
    with clear_errors():
        parse(Package(survey="lsst"), "python -m tfds_builders.lsst_acai").run()


if __name__ == "__main__":
    main()
