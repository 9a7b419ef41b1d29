from .run import sweep
from .search import Search, Space

__all__ = ["Search", "Space", "sweep"]
