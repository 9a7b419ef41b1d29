"""Heads as files for other programs, each with its card."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from acai_jax.errors import CheckpointError
from acai_jax.files import write_file
from acai_jax.network.bank import HeadBank, choose_heads
from acai_jax.network.card import write_card
from acai_jax.network.exchange import safetensors_file
from acai_jax.network.formats import FileFormat, card_of, with_format
from acai_jax.network.onnx_graph import onnx_model
from acai_jax.network.stablehlo import stablehlo_artifact

_CONTENT: Final[Mapping[FileFormat, Callable[[HeadBank], bytes]]] = {
    "safetensors": safetensors_file,
    "onnx": onnx_model,
    "stablehlo": stablehlo_artifact,
}


def export_heads(
    bank: HeadBank,
    path: str | os.PathLike[str],
    *,
    file_format: FileFormat | None = None,
    per_head: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a bank for other programs; beside each file PATH its model card, PATH.md.

    Args:
        bank: heads, names and provenance.
        path: of the file.
        file_format: "safetensors", which `load_heads` reads again; "onnx", see `onnx_model`; or
            "stablehlo", see `stablehlo_artifact`. By default what the file's name ends in; a name
            without such an end gets it.
        per_head: write a file for each class, whose name stands at the end of the file's, in place
            of one with all of them.
        overwrite: replace files that are there.

    Returns:
        The files, without their cards.

    Raises:
        UsageError: the name ends in no format, or in another one.
        MissingPackageError: what the format takes is not installed.
        CheckpointError: a file exists, or it cannot be written.

    Example:
        >>> import tempfile; path = Path(tempfile.mkdtemp(), "heads.onnx")
        >>> from acai_jax.network.exchange import load_shipped
        >>> bank = load_shipped("ztf-simulated")
        >>> [path.name for path in export_heads(bank, path, per_head=True)][:2]
        ['heads_h.onnx', 'heads_o.onnx']
    """
    path, file_format = with_format(Path(path), file_format)
    banks = {path: bank}
    if per_head:
        banks = {
            path.with_stem(f"{path.stem}_{name}"): choose_heads(bank, [name])
            for name in bank.classes
        }
    for each in banks:
        for found in (each, card_of(each)):
            if found.exists() and not overwrite:
                raise CheckpointError(f"{found} exists already: --overwrite replaces it")
    for each, its in banks.items():
        content = _CONTENT[file_format](its)
        try:
            each.parent.mkdir(parents=True, exist_ok=True)
            write_file(each, content)
        except OSError as error:
            raise CheckpointError(f"cannot write {each}: {error}") from error
        write_card(its, each, card_of(each))
    return list(banks)
