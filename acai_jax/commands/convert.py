"""The command `acai-jax convert`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.arguments import Model
from acai_jax.commands.console import console

if TYPE_CHECKING:
    from acai_jax.network.bank import HeadBank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(Model):
    """Convert the published Keras files to an Orbax checkpoint; provenance goes along."""

    out: tyro.conf.Positional[Path]
    """folder of the checkpoint."""
    overwrite: bool = False
    """replace what is there."""

    def run(self) -> None:
        """Saves the heads, and prints their versions."""
        bank = self.load().bank
        self._save(bank)
        versions = ", ".join(f"{name} {version}" for name, version in bank.versions.items())
        console.print(f"{self.out}: {versions}", soft_wrap=True)

    def _save(self, bank: "HeadBank") -> None:
        from acai_jax.network.checkpoints import save_heads

        save_heads(bank, self.out, overwrite=self.overwrite)
