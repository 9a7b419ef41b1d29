"""ACAI, the five classifiers of ZTF alerts, in JAX.

The public names are those of `__init__.pyi`. Each is imported when it is first used, so that
`import acai_jax` costs nothing and touches no device.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
