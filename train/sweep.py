"""The command `python -m train.sweep`: searches for hyperparameters."""

from acai_jax.processes import hearing_signals


def main() -> None:
    """Entry point."""
    with hearing_signals():
        # these take seconds to import, in which Ctrl-C is heard
        from acai_jax.commands.console import clear_errors
        from acai_jax.commands.parser import parse
        from acai_jax.commands.sweep import Sweep

        with clear_errors():
            parse(Sweep, "python -m train.sweep").run()


if __name__ == "__main__":
    main()
