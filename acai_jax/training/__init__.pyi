from .config import Config
from .loop import train

__all__ = ["Config", "train"]
