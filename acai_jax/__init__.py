"""ACAI, the five classifiers of ZTF alerts, in JAX.

The names below are the public ones. Each is imported when it is first used, so that
`import acai_jax` costs nothing and touches no device.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acai_jax.checkpoints import load_heads, save_heads
    from acai_jax.errors import AcaiError, PacketError, Reject
    from acai_jax.model import Head, HeadBank, HeadConfig, apply_heads, create_heads
    from acai_jax.packet import AlertPacket, read_packet
    from acai_jax.preprocess import AlertArrays, alert_arrays
    from acai_jax.pretrained import load_braai, load_published
    from acai_jax.schema import CLASSES, FEATURE_NAMES
    from acai_jax.score import Scorer
    from acai_jax.sources import read_alerts
    from acai_jax.stream.run import run_stream
    from acai_jax.stream.settings import StreamSettings
    from acai_jax.stream.tables import scan_tables

_HOME = {
    "CLASSES": "schema",
    "FEATURE_NAMES": "schema",
    "AcaiError": "errors",
    "PacketError": "errors",
    "Reject": "errors",
    "AlertPacket": "packet",
    "read_packet": "packet",
    "read_alerts": "sources",
    "AlertArrays": "preprocess",
    "alert_arrays": "preprocess",
    "Head": "model",
    "HeadBank": "model",
    "HeadConfig": "model",
    "apply_heads": "model",
    "create_heads": "model",
    "load_braai": "pretrained",
    "load_published": "pretrained",
    "load_heads": "checkpoints",
    "save_heads": "checkpoints",
    "Scorer": "score",
    "StreamSettings": "stream.settings",
    "run_stream": "stream.run",
    "scan_tables": "stream.tables",
}

__all__ = [
    "CLASSES",
    "FEATURE_NAMES",
    "AcaiError",
    "AlertArrays",
    "AlertPacket",
    "Head",
    "HeadBank",
    "HeadConfig",
    "PacketError",
    "Reject",
    "Scorer",
    "StreamSettings",
    "alert_arrays",
    "apply_heads",
    "create_heads",
    "load_braai",
    "load_heads",
    "load_published",
    "read_alerts",
    "read_packet",
    "run_stream",
    "save_heads",
    "scan_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
