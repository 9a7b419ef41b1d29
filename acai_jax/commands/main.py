"""The command `acai-jax`."""

import sys
from importlib import metadata

from acai_jax.processes import hearing_signals


def main() -> None:
    """Entry point of `acai-jax`."""
    if sys.argv[1:] == ["--version"]:
        print(f"acai_jax {metadata.version('acai_jax')}")
        return
    # workers' tracker tidies up after a process that a signal ended, and need not say so
    sys.warnoptions.append("ignore:resource_tracker")
    with hearing_signals():
        from acai_jax.commands.subcommands import run  # takes a while, in which Ctrl-C is heard

        run()


if __name__ == "__main__":
    main()
