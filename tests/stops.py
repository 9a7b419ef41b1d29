"""Stops that come at a place of the test's choice."""

import threading


class AskedToStop(threading.Event):
    """A stop that is asked for just before the n-th time that the run looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0
