"""What can go wrong, as types: errors are raised, rejects are returned as rows."""

import dataclasses

from acai_jax.text import printable


class AcaiError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(AcaiError):
    """An argument is out of its range, or does not go with another."""


class MissingPackageError(AcaiError):
    """A package that comes with an extra is not installed; the message says which extra."""


class PacketError(AcaiError):
    """One alert packet cannot be read or scored; the message says why.

    Sources and preprocessing turn it into a `Reject`, so that a run goes on.
    """


class AvroError(PacketError):
    """The bytes are not the Avro that their schema promises."""


class StampError(PacketError):
    """A cutout is not an image that the networks can take."""


class PresetError(AcaiError, ValueError):
    """A survey's alerts have no such preset."""


class SourceError(AcaiError):
    """A path given by the user does not exist or is of no known kind."""


class DownloadError(AcaiError):
    """A file cannot be downloaded.

    Attributes:
        status: the server's last word, such as 404, where that is why.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NightError(AcaiError):
    """A night is no date, lies ahead, or its archive is damaged."""


class NoAlertsError(NightError):
    """The archive holds no alerts of a night."""


class WeightsError(AcaiError):
    """Published weights are missing, cannot be downloaded, or fail their checksum."""


class CheckpointError(AcaiError):
    """A checkpoint is incomplete, misshapen or of another kind."""


class LabelsError(AcaiError):
    """A labels file is missing, misshapen or contradicts itself; the message names the line."""


class DatasetError(AcaiError):
    """A dataset is not there, has no such split, or cannot be built from its sources."""


class TrainingError(AcaiError):
    """A training run cannot go on: a loss is no number, for example."""


class EvaluationError(AcaiError):
    """Nothing can be evaluated: no score, no positive of any head, or no such head."""


class PickError(AcaiError):
    """Nothing can be picked to be labelled: for its quotas, or what they need is not there."""


class TableError(AcaiError):
    """A table is none of alerts."""


class FilterError(AcaiError):
    """A filter's expression, or its file, is not one; the message points at the place."""


class StreamError(AcaiError):
    """A stream cannot begin or go on: for its brokers, topics, or settings."""


class OutputError(AcaiError):
    """An output file exists already, or belongs to another run."""


class RejectsError(AcaiError):
    """More alerts were rejected than a run allows; what it writes is written all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """A packet that got no score, and why.

    Attributes:
        reason: one line, for people; the part before the first colon is its kind.
        alert_id: the alert's identifier, where it could be read.
        object_id: the object's name, where it could be read.
        origin: file (and member) that the packet came from.

    Example:
        >>> Reject("null feature: scorr", alert_id=697252381915015008).kind
        'null feature'
    """

    reason: str
    alert_id: int | None = None
    object_id: str | None = None
    origin: str | None = None

    @property
    def candid(self) -> int | None:
        """`alert_id`, as ZTF calls it."""
        return self.alert_id

    @property
    def objectId(self) -> str | None:  # noqa: N802 - ZTF's own name
        """`object_id`, as ZTF calls it."""
        return self.object_id

    @property
    def kind(self) -> str:
        """The reason without its details, for counting."""
        return self.reason.split(":", 1)[0]


@dataclasses.dataclass(frozen=True, slots=True)
class RejectLimit:
    """How many alerts of a run may be rejected.

    Attributes:
        share: of all alerts, 0 to 1. With 1, a run fails only where every alert is rejected.

    Raises:
        UsageError: it is no share.

    Example:
        >>> RejectLimit(0.5).check(1, 2)
        >>> RejectLimit(0.5).check(2, 3)
        Traceback (most recent call last):
        acai_jax.errors.RejectsError: 2 of 3 alerts were rejected (66.67 %)
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError("--max-rejects takes a share, 0 to 1")

    def check(self, rejected: int, alerts: int) -> None:
        """Raises a `RejectsError` if too many of the alerts were rejected."""
        if alerts and (rejected == alerts or rejected > self.share * alerts):
            share = f"{rejected / alerts:.2%}".replace("%", " %")
            raise RejectsError(f"{rejected:,} of {alerts:,} alerts were rejected ({share})")


def reason_of(error: BaseException) -> str:
    """What a reject says of the exception that an alert has caused: one line, for people.

    What is raised on purpose speaks for itself. Anything else is an internal error, and its type
    is named: every decoder of bytes from outside turns whatever an alert causes into a reject.

    Example:
        >>> reason_of(PacketError("null feature: scorr"))
        'null feature: scorr'
        >>> reason_of(ZeroDivisionError("division by zero"))
        'internal error: ZeroDivisionError: division by zero'
    """
    try:
        said = str(error)
    except Exception:  # an exception of a library may fail to say what it is
        said = ""
    if isinstance(error, AcaiError):
        return printable(said)
    name = type(error).__name__
    return printable(f"internal error: {name}: {said}" if said else f"internal error: {name}")
