"""The training program: several heads at once, each of them independent of the others."""

from typing import TYPE_CHECKING, Any

from acai_jax.training.config import Config

if TYPE_CHECKING:
    from acai_jax.training.loop import train

__all__ = ["Config", "train"]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from acai_jax.training.loop import train  # with it comes JAX, which takes seconds

    return train
