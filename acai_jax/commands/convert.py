"""The command `acai-jax convert`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.arguments import Model
from acai_jax.commands.console import console
from acai_jax.errors import CheckpointError

if TYPE_CHECKING:
    from acai_jax.network.bank import HeadBank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(Model):
    """Convert the published Keras files to an Orbax checkpoint; put heads of several together.

    Provenance goes along.
    """

    out: tyro.conf.Positional[Path]
    """folder of the checkpoint."""
    add: tuple[str, ...] = ()
    """more checkpoints, whose heads come in the place of those of the same name, or after them."""
    overwrite: bool = False
    """replace what is there."""

    def run(self) -> None:
        """Saves the heads, and prints their versions."""
        from acai_jax.network.bank import merge_banks
        from acai_jax.network.checkpoints import check_place, load_heads, save_heads

        check_place(self.out, overwrite=self.overwrite)
        bank = self.load().bank
        for path in self.add:
            try:
                bank = merge_banks(bank, load_heads(path))
            except ValueError as error:
                raise CheckpointError(f"cannot add {path}: {error}") from error
        save_heads(bank, self.out, overwrite=self.overwrite)
        print_versions([self.out], bank)


def print_versions(written: Sequence[Path], bank: "HeadBank") -> None:
    """Prints what has been written, and of which heads."""
    versions = ", ".join(f"{name} {version}" for name, version in bank.versions.items())
    console.print(f"{', '.join(map(str, written))}: {versions}", soft_wrap=True)
