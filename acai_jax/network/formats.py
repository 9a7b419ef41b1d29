"""The formats that heads are exported in, and the names of their files; it needs no JAX."""

from pathlib import Path
from typing import Final, Literal, get_args

from acai_jax.errors import UsageError

FileFormat = Literal["safetensors", "onnx", "stablehlo"]
_KNOWN: Final[tuple[FileFormat, ...]] = get_args(FileFormat)


def with_format(path: Path, file_format: FileFormat | None) -> tuple[Path, FileFormat]:
    """The path of a file of heads, and its format: either may follow from the other.

    Raises:
        UsageError: the path ends in no format and none is given, or in another one.

    Example:
        >>> with_format(Path("heads.onnx"), None)
        (PosixPath('heads.onnx'), 'onnx')
        >>> with_format(Path("heads"), "onnx")
        (PosixPath('heads.onnx'), 'onnx')
    """
    endings: dict[str, FileFormat] = {f".{known}": known for known in _KNOWN}
    ending = endings.get(path.suffix)
    if ending is not None:
        if file_format not in (None, ending):
            raise UsageError(f"{path}: a {file_format} file's name ends in .{file_format}")
        return path, ending
    if file_format is None:
        known = ", ".join(endings)
        raise UsageError(f"{path}: the name of a file of heads ends in one of {known}")
    return path.with_name(f"{path.name}.{file_format}"), file_format


def card_of(path: Path) -> Path:
    """The path of the card of a file of heads."""
    return path.with_name(f"{path.name}.md")
