"""The command `acai-jax convert`."""

import dataclasses
from pathlib import Path

import tyro

from acai_jax.commands.arguments import Model
from acai_jax.commands.console import console


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(Model):
    """Convert the published Keras files to an Orbax checkpoint, with provenance."""

    out: tyro.conf.Positional[Path]
    """folder of the checkpoint."""
    overwrite: bool = False
    """replace a checkpoint that is there."""

    def run(self) -> None:
        """Saves the checkpoint, and prints the versions of its heads."""
        from acai_jax.network.checkpoints import save_heads

        bank = self.load().bank
        save_heads(bank, self.out, overwrite=self.overwrite)
        versions = ", ".join(f"{name} {version}" for name, version in bank.versions.items())
        console.print(f"{self.out}: {versions}")
