"""The command `acai-jax export`."""

import dataclasses
from pathlib import Path

import tyro

from acai_jax.commands.arguments import Model
from acai_jax.commands.convert import print_versions
from acai_jax.extras import need
from acai_jax.network.formats import FileFormat, with_format


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Model):
    """Write heads as one file for other programs; a model card goes beside it."""

    out: tyro.conf.Positional[Path]
    """the file, NAME.safetensors, NAME.onnx or NAME.stablehlo; the card is OUT.md."""
    format: FileFormat | None = None
    """of the file; by default what its name ends in. Every command takes safetensors in place of a
    checkpoint, ONNX has inputs "features" and "triplets" and output "score", StableHLO is a
    program of JAX for accelerators."""
    per_head: bool = False
    """write a file for each head, NAME_HEAD.onnx, in place of one with all of them."""
    overwrite: bool = False
    """replace what is there."""

    def run(self) -> None:
        """Writes the files, and prints the versions of their heads."""
        from acai_jax.network.export import export_heads

        _, file_format = with_format(self.out, self.format)
        if file_format != "safetensors":
            need("export")
        bank = self.load().bank
        paths = export_heads(
            bank,
            self.out,
            file_format=self.format,
            per_head=self.per_head,
            overwrite=self.overwrite,
        )
        print_versions(paths, bank)
