"""What comes with the extra `kafka`: imported when a stream starts, not before."""

import importlib
from types import ModuleType

from acai_jax.errors import StreamError


def require(module: str) -> ModuleType:
    """Imports a package of the extra `kafka`.

    Raises:
        StreamError: it is not installed.

    Example:
        >>> require("no_such_package")
        Traceback (most recent call last):
        acai_jax.errors.StreamError: no_such_package is not installed: pip install "acai_jax[kafka]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0]
        raise StreamError(f'{package} is not installed: pip install "acai_jax[kafka]"') from None
