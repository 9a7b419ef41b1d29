"""The command `python -m train.main`: trains heads on a packaged dataset."""

from pathlib import Path

from acai_jax.processes import hearing_signals


def main() -> None:
    """Entry point."""
    with hearing_signals():
        # these take seconds to import, in which Ctrl-C is heard
        import tyro

        from acai_jax.console import clear_errors, console
        from acai_jax.score import enable_compilation_cache

        from .config import Config
        from .loop import train

        default = Config()

        def run(*, workdir: Path, config: Config = default) -> None:
            """Train ACAI heads; the same command goes on with a run that was interrupted.

            Args:
                workdir: folder of the run; the result is the checkpoint WORKDIR/heads.
                config: what is trained, on what, and how.
            """
            enable_compilation_cache()
            train(config, workdir, console=console)

        with clear_errors():
            tyro.cli(run, prog="python -m train.main")


if __name__ == "__main__":
    main()
