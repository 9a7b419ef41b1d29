"""The command `python -m tfds_builders.ztf_acai` of a checkout: it is `acai-jax package`."""

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import Package
from acai_jax.commands.parser import parse


def main() -> None:
    """Entry point."""
    with clear_errors():
        parse(Package, "python -m tfds_builders.ztf_acai").run()


if __name__ == "__main__":
    main()
