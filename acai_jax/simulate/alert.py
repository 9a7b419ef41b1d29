"""What a simulation of any survey gives."""

from typing import Any, NamedTuple


class SimulatedAlert(NamedTuple):
    """One alert and the truth about it.

    Attributes:
        label: its class, one of CLASSES.
        kind: what it is: "supernova", "asteroid", "cosmic ray", ...
        record: the packet, for an Avro writer with the `alert_schema()` of its survey.
    """

    label: str
    kind: str
    record: dict[str, Any]


class NotDetectedError(Exception):
    """The object is too faint for an alert; another must be drawn."""
