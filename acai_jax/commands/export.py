"""The command `acai-jax export`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.convert import Convert

if TYPE_CHECKING:
    from acai_jax.network.bank import HeadBank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Convert):
    """Write heads as one safetensors file; every command takes it in place of a checkpoint."""

    out: tyro.conf.Positional[Path]
    """the file, NAME.safetensors."""

    def _save(self, bank: "HeadBank") -> None:
        from acai_jax.network.exchange import export_heads

        export_heads(bank, self.out, overwrite=self.overwrite)
