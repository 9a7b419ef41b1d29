"""The command `acai-jax train`; `python -m train.main` is the same."""

from pathlib import Path

from acai_jax.commands.console import console
from acai_jax.training.config import Config

_DEFAULT = Config()


def train(*, workdir: Path, config: Config = _DEFAULT) -> None:
    """Train ACAI heads; the same command goes on with a run that was interrupted.

    Args:
        workdir: folder of the run; the result is the checkpoint WORKDIR/heads.
        config: what is trained, on what, and how.
    """
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.score.scorer import enable_compilation_cache
    from acai_jax.training.loop import train as train_heads

    enable_compilation_cache()
    train_heads(config, workdir, console=console)
