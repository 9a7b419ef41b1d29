from .alerts.packet import AlertPacket, read_packet
from .alerts.preprocess import AlertArrays, alert_arrays
from .alerts.sources import read_alerts
from .classes import CLASSES
from .errors import AcaiError, PacketError, Reject
from .network.bank import HeadBank, apply_heads, create_heads
from .network.checkpoints import load_heads, save_heads
from .network.export import export_heads
from .network.head import Head, HeadConfig
from .network.pretrained import load_braai, load_published
from .score.night import score_night
from .score.objects import objects
from .score.scorer import Scorer
from .stream.run import run_stream
from .stream.settings import StreamSettings
from .stream.tables import scan_tables
from .surveys.ztf import FEATURE_NAMES

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
    "export_heads",
    "load_braai",
    "load_heads",
    "load_published",
    "objects",
    "read_alerts",
    "read_packet",
    "run_stream",
    "save_heads",
    "scan_tables",
    "score_night",
]
