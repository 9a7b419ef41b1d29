"""The command `acai-jax`."""

from acai_jax.processes import hearing_signals


def main() -> None:
    """Entry point of `acai-jax`."""
    with hearing_signals():
        from acai_jax.commands.subcommands import run  # takes a while, in which Ctrl-C is heard

        run()


if __name__ == "__main__":
    main()
