from .records import Records, load_split, open_dataset

__all__ = ["Records", "load_split", "open_dataset"]
