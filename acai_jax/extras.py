"""What comes with the extras of the package: looked for when it is needed, not before."""

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from acai_jax.errors import MissingPackageError

_DATASET: Final = ("array_record", "tensorflow_datasets")
_REPORT: Final = ("astropy", "matplotlib", "PIL")
_TRAIN: Final = (*_DATASET, "grain", "optax", "tensorboardX")

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "dataset": _DATASET,
    "export": ("flatbuffers", "onnx"),
    "fits": ("astropy",),
    "kafka": ("confluent_kafka", "fastavro", "prometheus_client"),
    "label": (*_REPORT, "starlette", "uvicorn"),
    "parquet": ("pyarrow",),
    "report": _REPORT,
    "simulate": ("fastavro",),
    "spark": ("pandas", "pyarrow", "pyspark"),
    "sweep": (*_TRAIN, *_REPORT, "optuna"),
    "train": _TRAIN,
    "wandb": ("wandb",),
}
"""Extra -> what it brings, as it is imported."""


def need(*extras: str) -> None:
    """Looks whether extras are installed, before work begins.

    Raises:
        MissingPackageError: one is not; the message says what to install.

    Example:
        >>> need("parquet")
    """
    missing = {
        extra: [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]
        for extra in extras
    }
    lacking = [extra for extra, names in missing.items() if names]
    if lacking:
        names = dict.fromkeys(name for names in missing.values() for name in names)
        are = "is" if len(names) == 1 else "are"
        raise MissingPackageError(
            f'{", ".join(names)} {are} not installed: pip install "acai_jax[{",".join(lacking)}]"'
        )


def require(module: str, extra: str) -> ModuleType:
    """Imports a module that comes with an extra.

    Raises:
        MissingPackageError: it is not installed; the message says what to install.

    Example:
        >>> require("pyarrow.parquet", "parquet").__name__
        'pyarrow.parquet'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        need(extra)
        raise
