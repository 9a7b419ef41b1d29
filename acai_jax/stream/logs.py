"""Lines on standard error: for people, or as JSON for machines."""

import json
import logging
import time
from typing import Final

log: Final = logging.getLogger("acai_jax.stream")


class _Lines(logging.Formatter):
    converter = time.gmtime

    def facts(self, record: logging.LogRecord) -> dict[str, object]:
        return getattr(record, "facts", {})


class PlainLines(_Lines):
    """A record as a line for people: the time (UT), what happened, and the facts.

    Example:
        >>> record = logging.makeLogRecord({"msg": "done", "levelno": 20, "created": 0})
        >>> record.facts = {"scored": 3000}
        >>> PlainLines().format(record)
        '00:00:00 done: scored 3,000'
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        facts = ", ".join(f"{name} {value:,}" for name, value in self.facts(record).items())
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
        return f"{text}: {facts}" if facts else text


class JsonLines(_Lines):
    """A record as a line of JSON, with its facts.

    Example:
        >>> record = logging.makeLogRecord({"msg": "done", "levelname": "INFO", "created": 0})
        >>> record.facts = {"scored": 3}
        >>> JsonLines().format(record)
        '{"time": "1970-01-01T00:00:00Z", "level": "info", "message": "done", "scored": 3}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps(line | self.facts(record))


def show_logs(*, as_json: bool) -> None:
    """Sends the stream's log to standard error, from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
