"""Labels as events that are only ever added, in one SQLite file: who, what, when, and why asked.

What stands is what the events add up to. An answer (a label, "unsure", or a skip) replaces the
labeller's earlier one of the same alert; an undo takes back one answer, and the one before it
stands again. Every event carries the name of the request that brought it: a request that is sent
again, because its answer was lost, adds nothing.
"""

import contextlib
import dataclasses
import os
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from acai_jax.errors import LabelsError, OutputError

Action = Literal["label", "unsure", "skip", "undo"]
LEASE_SECONDS: Final = 600.0
"""How long an alert is kept for the labeller that it was given to."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    request TEXT NOT NULL UNIQUE,
    time REAL NOT NULL,
    labeller TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('label', 'unsure', 'skip', 'undo')),
    alert_id INTEGER NOT NULL,
    object_id TEXT NOT NULL,
    label TEXT CHECK ((label IS NULL) = (action <> 'label')),
    comment TEXT,
    seconds REAL,
    undoes TEXT CHECK ((undoes IS NULL) = (action <> 'undo')),
    why TEXT, head TEXT, score REAL, probability REAL, round INTEGER, model TEXT
);
CREATE TABLE IF NOT EXISTS leases (
    alert_id INTEGER NOT NULL,
    labeller TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (alert_id, labeller)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS no_event_changes BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS no_event_goes BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;
PRAGMA user_version = 1;
"""
_VERSION: Final = 1
_RECENT: Final = 50  # answers
_BUSY_SECONDS: Final = 30.0
# write-ahead logs need memory that all users of a file share, which a network disk has not
_NETWORK_DISKS: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs"),
        *("ceph", "lustre", "gpfs", "beegfs"),
    )
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Why an alert is to be labelled; see `acai_jax.labelling.queue`.

    Attributes:
        why: the reason that it was picked for.
        head: that the reason is about, if it is about one.
        score: of that head.
        probability: of being picked, where chance decided.
        round: of labelling.
        model: version of the heads.
    """

    why: str | None = None
    head: str | None = None
    score: float | None = None
    probability: float | None = None
    round: int | None = None
    model: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a labeller did.

    Attributes:
        request: unique name of the request that brought it.
        labeller: who.
        action: what.
        alert_id: of the alert.
        object_id: of its object.
        label: if the action is one.
        comment: of the labeller.
        seconds: from when the alert was shown [s].
        undoes: the request whose answer an undo takes back.
        asked: why the alert was shown.
        time: when it was stored [s since 1970]; set by the store.
        number: its place in the history; set by the store.
    """

    request: str
    labeller: str
    action: Action
    alert_id: int
    object_id: str
    label: str | None = None
    comment: str | None = None
    seconds: float | None = None
    undoes: str | None = None
    asked: Asked = Asked()
    time: float = 0.0
    number: int = 0


class Standing:
    """What events add up to; more of them can be added, while other threads read.

    Example:
        >>> facts = {"labeller": "ann", "alert_id": 7, "object_id": "ZTF20aaelulu"}
        >>> standing = Standing()
        >>> standing.add(Event(request="1", action="label", label="h", **facts))
        >>> standing.labels(7)
        {'ann': 'h'}
        >>> standing.add(Event(request="2", action="undo", undoes="1", **facts))
        >>> standing.labels(7)
        {}
    """

    def __init__(self) -> None:
        # alert -> labeller -> answers that are not taken back, the last of which stands
        self._answers: dict[int, dict[str, list[Event]]] = {}
        self._skips: Counter[tuple[int, str]] = Counter()
        self._done: dict[str, list[Event]] = {}

    def add(self, event: Event) -> None:
        """Adds the next event."""
        answers = self._answers.setdefault(event.alert_id, {}).setdefault(event.labeller, [])
        done = self._done.setdefault(event.labeller, [])
        if event.action == "undo":
            for each in (answers, done):
                each[:] = [answer for answer in each if answer.request != event.undoes]
        else:
            answers.append(event)
            done.append(event)
            self._skips[event.alert_id, event.labeller] += event.action == "skip"

    def answers(self, alert_id: int) -> dict[str, Event]:
        """Each labeller's answer to an alert; a skip is none."""
        of_alert = list(self._answers.get(alert_id, {}).items())
        last = ((labeller, each) for labeller, answers in of_alert for each in answers[-1:])
        return {labeller: answer for labeller, answer in last if answer.action != "skip"}

    def labels(self, alert_id: int) -> dict[str, str]:
        """Each labeller's label of an alert; of those who are unsure there is none."""
        found = self.answers(alert_id).items()
        return {labeller: answer.label for labeller, answer in found if answer.label is not None}

    def alert_ids(self) -> list[int]:
        """The alerts that have an answer, in the order of their first events."""
        return [alert_id for alert_id in list(self._answers) if self.answers(alert_id)]

    def skips(self, alert_id: int, labeller: str) -> int:
        """How often a labeller has skipped an alert."""
        return self._skips[alert_id, labeller]

    def last(self, labeller: str) -> Event | None:
        """What a labeller did last and has not undone."""
        return next(iter(self._done.get(labeller, [])[-1:]), None)

    def labels_per_minute(self, labeller: str) -> float | None:
        """How fast a labeller gives labels: by the median time of the last ones."""
        last = self._done.get(labeller, [])[-_RECENT:]
        seconds = [each.seconds for each in last if each.label is not None and each.seconds]
        return 60 / statistics.median(seconds) if seconds else None

    def missing(self, alert_id: int, opinions: int) -> int:
        """How many more answers an alert needs.

        Args:
            alert_id: of the alert.
            opinions: how many it should have at least. It takes more where labels are tied, or
                all are unsure.
        """
        answers = self.answers(alert_id)
        settled = decided(self.labels(alert_id).values()) is not None
        return max(opinions - len(answers), 0 if settled else 1)


def decided(labels: Iterable[str]) -> str | None:
    """The label that more labellers gave than any other; None where there is none.

    Example:
        >>> decided(["h", "n", "h"]), decided(["h", "n"]), decided([])
        ('h', None, None)
    """
    first = Counter(labels).most_common(2)
    if not first or (len(first) == 2 and first[0][1] == first[1][1]):
        return None
    return first[0][0]


class LabelStore:
    """A file of events, which several processes of one machine may use at the same time.

    Args:
        path: of the SQLite file, which is made if need be.

    Raises:
        LabelsError: the file is no store of labels.
        OutputError: it cannot be made or opened.

    Example:
        >>> import tempfile; store = LabelStore(tempfile.mkdtemp() + "/labels.db")
        >>> facts = {"labeller": "ann", "alert_id": 7, "object_id": "ZTF20aaelulu"}
        >>> event = Event(request="1", action="label", label="h", **facts)
        >>> [stored.number for stored in store.append([event])]
        [1]
        >>> [stored.number for stored in store.append([event])]  # sent again
        [1]
        >>> store.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._standing = Standing()
        self._seen = 0
        try:
            # an answer is on the disk before it is said to be saved; a lease may get lost
            self._events = self._connect("FULL")
            self._leases = self._connect("NORMAL")
        except sqlite3.DatabaseError as error:
            kind = OutputError if isinstance(error, sqlite3.OperationalError) else LabelsError
            raise kind(f"{self.path} is no store of labels that can be opened: {error}") from None

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        if version > _VERSION or (version == 0 and names):
            raise LabelsError(f"{self.path} is no store of labels, or one of a later version")
        journal = "DELETE" if _is_on_network(self.path) else "WAL"
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.executescript(_SCHEMA)
        return connection

    def close(self) -> None:
        """Closes the file."""
        self._events.close()
        self._leases.close()

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Stores events, all or none: once this returns, not even a power cut takes them back.

        Args:
            events: in their order. Those whose request is there already are left as they are.

        Returns:
            The events as they are stored, with their numbers and times.

        Raises:
            LabelsError: an undo names a request that is no answer of this labeller to this alert,
                or an event has the request of another one.
            OutputError: the file cannot be written.
        """
        with self._lock, _clear_errors(self.path), _transaction(self._events):
            return [self._stored(event) for event in events]

    def _stored(self, event: Event) -> Event:
        if (found := self._of_request(event.request)) is not None:
            what = ("labeller", "action", "alert_id", "label", "undoes")
            if any(getattr(found, name) != getattr(event, name) for name in what):
                raise LabelsError(f"the request {event.request} is that of another event")
            return found
        if event.undoes is not None:
            undone = self._of_request(event.undoes)
            same = ("labeller", "alert_id")
            if undone is None or any(getattr(undone, n) != getattr(event, n) for n in same):
                raise LabelsError(f"{event.undoes} is no answer of {event.labeller} to this alert")
        event = dataclasses.replace(event, time=time.time())
        row = {**_flat(event), "number": None}
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        cursor = self._events.execute(f"INSERT INTO events ({names}) VALUES ({marks})", row)
        return dataclasses.replace(event, number=cursor.lastrowid)

    def _of_request(self, request: str) -> Event | None:
        query = f"SELECT {_COLUMNS} FROM events WHERE request = ?"
        row = self._events.execute(query, (request,)).fetchone()
        return None if row is None else _event(row)

    def history(self) -> Iterator[Event]:
        """All events, in their order."""
        with self._lock, _clear_errors(self.path):
            rows = self._events.execute(f"SELECT {_COLUMNS} FROM events ORDER BY number").fetchall()
        return map(_event, rows)

    def standing(self) -> Standing:
        """What stands now, also by events that other processes have stored."""
        with self._lock, _clear_errors(self.path):
            return self._refreshed()

    def _refreshed(self) -> Standing:
        query = f"SELECT {_COLUMNS} FROM events WHERE number > ? ORDER BY number"
        for row in self._events.execute(query, (self._seen,)).fetchall():
            event = _event(row)
            self._standing.add(event)
            self._seen = event.number
        return self._standing

    def take(
        self,
        labeller: str,
        queue: Iterable[int],
        count: int,
        opinions: Callable[[int], int] = lambda alert_id: 1,
        *,
        now: float | None = None,
    ) -> list[int]:
        """The next alerts for a labeller, who has them for `LEASE_SECONDS` from now.

        Nobody gets an alert that they have answered, or that others have, or have now, as often
        as it needs answers. What a labeller has skipped comes last.

        Args:
            labeller: who asks.
            queue: identifiers of alerts, in the order in which they should be labelled.
            count: how many, at most.
            opinions: how many answers an alert should have.
            now: the time [s since 1970].
        """
        now = time.time() if now is None else now
        with self._lock, _clear_errors(self.path), _transaction(self._leases):
            standing = self._refreshed()
            query = "SELECT alert_id, labeller FROM leases WHERE until > ? AND labeller <> ?"
            others = Counter(
                alert_id
                for alert_id, other in self._leases.execute(query, (now, labeller))
                if other not in standing.answers(alert_id)
            )
            wanted = [
                alert_id
                for alert_id in queue
                if labeller not in standing.answers(alert_id)
                and others[alert_id] < standing.missing(alert_id, opinions(alert_id))
            ]
            # sorting is stable: those skipped as often stay in the queue's order
            wanted.sort(key=lambda alert_id: standing.skips(alert_id, labeller))
            taken = wanted[:count]
            self._leases.execute("DELETE FROM leases WHERE until <= ?", (now,))
            self._leases.executemany(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)",
                [(alert_id, labeller, now + LEASE_SECONDS) for alert_id in taken],
            )
        return taken


_NAMES: Final = [f.name for f in dataclasses.fields(Event) if f.name != "asked"]
_ASKED: Final = [f.name for f in dataclasses.fields(Asked)]
_COLUMNS: Final = ", ".join([*_NAMES, *_ASKED])


def _flat(event: Event) -> dict[str, object]:
    row = {name: getattr(event, name) for name in _NAMES}
    return row | {name: getattr(event.asked, name) for name in _ASKED}


def _event(row: Sequence[object]) -> Event:
    values: Mapping[str, object] = dict(zip([*_NAMES, *_ASKED], row, strict=True))
    asked = Asked(**{name: values[name] for name in _ASKED})  # type: ignore[arg-type]
    return Event(**{name: values[name] for name in _NAMES}, asked=asked)  # type: ignore[arg-type]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"cannot write to {path}: {error}") from error


def _is_on_network(path: Path) -> bool:
    """Whether a file lies on a disk of another machine, as far as Linux says it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    kinds: dict[str, str] = {}
    for line in mounts:
        before, _, after = line.partition(" - ")
        kinds[before.split()[4].replace("\\040", " ")] = after.split()[0]
    folders = map(str, path.absolute().resolve().parents)
    return next((kinds[each] for each in folders if each in kinds), "") in _NETWORK_DISKS
