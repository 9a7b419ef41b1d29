"""What a stream is told: its settings, the client's configuration, and the topics of the nights.

Credentials come from a file or the environment, never from the command line, and are kept out of
everything that is shown.
"""

import dataclasses
import datetime
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from tyro.conf import UseAppendAction, arg

from acai_jax.errors import StreamError
from acai_jax.surveys import SURVEYS, Preset
from acai_jax.surveys.base import Survey

ENVIRONMENT: Final = "ACAI_JAX_KAFKA_"
"""Prefix of environment variables: ACAI_JAX_KAFKA_SASL_PASSWORD sets sasl.password."""

Start = Literal["earliest", "latest"]
"""Where a group begins that has read nothing yet."""

_NIGHTS_KEPT: Final = 7  # brokers keep messages about so many days
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_FILTER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET: Final = re.compile(r"pass|secret|token|credential|jaas|\.pem|key|oauthbearer")
_OURS: Final = {
    "bootstrap.servers": "--bootstrap-servers",
    "metadata.broker.list": "--bootstrap-servers",
    "group.id": "--group",
    "auto.offset.reset": "--from",
    "enable.auto.commit": "the stream itself",
    "enable.auto.offset.store": "the stream itself",
    "enable.partition.eof": "the stream itself",
    "isolation.level": "the stream itself",
    "transactional.id": "the stream itself",
    "enable.idempotence": "the stream itself",
    "max.in.flight": "the stream itself",
    "max.in.flight.requests.per.connection": "the stream itself",
}
# rebalances in which some partitions stay; for the loop, each one begins anew
_BIT_BY_BIT: Final = {
    "partition.assignment.strategy": "cooperative",
    "group.protocol": "consumer",
}
# what a producer takes as well; everything else is for the consumer alone
_CONNECTION: Final = (
    *("sasl.", "ssl.", "security.", "socket.", "client.", "broker.", "reconnect."),
    *("metadata.", "api.version", "debug", "enable.sasl", "enable.ssl", "transaction.timeout."),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BrokerSettings:
    """How brokers are reached.

    Attributes:
        bootstrap_servers: HOST:PORT of one or more brokers, with commas.
        kafka_config: file of settings of the Kafka client, KEY=VALUE lines.
    """

    bootstrap_servers: str
    kafka_config: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamSettings(BrokerSettings):
    """Where alerts come from, and where scores go.

    Attributes:
        out: folder for the tables; several workers may share it.
        topics: to read, may be repeated; by default those of the model's survey for today's and
            yesterday's night (UT).
        programid: of the default topics, where the survey has one for each programme; 1 is public.
        group: consumer group; workers of one group share the partitions.
        preset: whose preprocessing to follow; by default that of the model's training.
        start: where a group begins that has read nothing yet.
        until_end: stop at the end of all partitions.
        batch_size: alerts to score at once, at the most.
        batch_seconds: how long the first alert of a batch waits for others [s].
        filters: name of a filter, may be repeated; what passes goes to OUT/filters/NAME.
        filters_file: TOML file of your own filters.
        to_topic: also send scores to this topic, as Avro; what passes a filter to TOPIC_NAME.
        to_stdout: also write scores to standard output, as JSON lines.
        schema_registry: URL of the registry of schemas, where messages have Confluent's framing; or
            a folder with each as NUMBER.json.
        metrics_port: serve /metrics for Prometheus and /healthz on this port, 0 for any that is
            free.
        metrics_address: address to serve them on.

    Raises:
        StreamError: a name or a number is none that can be used.

    Example:
        >>> StreamSettings(bootstrap_servers="localhost:9092", out=Path("out"), topics=("../x",))
        Traceback (most recent call last):
        acai_jax.errors.StreamError: no name of a topic: '../x'
    """

    out: Path
    topics: Annotated[tuple[str, ...], UseAppendAction, arg(name="topic")] = ()
    programid: int = 1
    group: str = "acai-jax"
    preset: Preset | None = None
    start: Annotated[Start, arg(name="from")] = "earliest"
    until_end: bool = False
    batch_size: int = 256
    batch_seconds: float = 0.3
    filters: Annotated[tuple[str, ...], UseAppendAction, arg(name="filter")] = ()
    filters_file: Annotated[Path | None, arg(name="filters")] = None
    to_topic: str | None = None
    to_stdout: Annotated[bool, arg(name="stdout")] = False
    schema_registry: str | None = None
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        wanted = (*self.topics, *([self.to_topic] if self.to_topic is not None else []))
        for name in wanted:
            check_topic(name)
        for name in self.filters:
            if not _FILTER.fullmatch(name):
                raise StreamError(
                    f"{name!r:.80} cannot name an output: letters, digits, _ and - only"
                )
        if not 1 <= self.batch_size <= 10_000:
            raise StreamError("--batch-size takes 1 to 10,000")
        if not 0 < self.batch_seconds <= 60:
            raise StreamError("--batch-seconds takes up to 60, and more than 0")
        programmes = sorted({each for survey in SURVEYS.values() for each in survey.programmes})
        if self.programid not in programmes:
            known = ", ".join(map(str, programmes[:-1]))
            raise StreamError(f"--programid takes {known} or {programmes[-1]}")
        if self.to_topic is not None and self.to_topic in self.topics:
            raise StreamError(f"--to-topic {self.to_topic} is one of the topics to read")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings(BrokerSettings):
    """Where alerts go, and how fast.

    Attributes:
        topic: to send to; it is made if it is not there.
        rate: alerts a second; by default as fast as the broker takes them.
        own_timing: sort by jd, through a temporary file, and keep the time between alerts.
        speed: with --own-timing: so many times faster.
        partitions: of a topic that is made; by default 1.

    Raises:
        StreamError: a name or a number is none that can be used.

    Example:
        >>> ReplaySettings(bootstrap_servers="localhost:9092", topic="night", rate=0.0)
        Traceback (most recent call last):
        acai_jax.errors.StreamError: --rate takes a number larger than 0
    """

    topic: str
    rate: float | None = None
    own_timing: bool = False
    speed: float = 1.0
    partitions: int | None = None

    def __post_init__(self) -> None:
        check_topic(self.topic)
        for name, value in (("--rate", self.rate), ("--speed", self.speed)):
            if value is not None and not 0 < value < math.inf:
                raise StreamError(f"{name} takes a number larger than 0")
        if self.speed != 1 and not self.own_timing:
            raise StreamError("--speed goes with --own-timing")
        if self.rate is not None and self.own_timing:
            raise StreamError("alerts go at a rate or with their own timing, not both")
        if self.partitions is not None and self.partitions < 1:
            raise StreamError("--partitions takes 1 or more")


class ClientSettings:
    """Settings of the Kafka client from a file and the environment, with their secrets.

    Args:
        path: file of KEY=VALUE lines, as Kafka's own properties files; `#` begins a comment.
        environment: wins over the file.

    Attributes:
        values: settings of the Kafka client.
        registry_url: `schema.registry.url`.
        registry_login: `basic.auth.user.info`, USER:PASSWORD.

    Raises:
        StreamError: the file cannot be read, or sets what the stream sets itself. The message
            shows no value.

    Example:
        >>> client = ClientSettings(None, {"ACAI_JAX_KAFKA_SASL_PASSWORD": "hunter2"})
        >>> client.values["sasl.password"], client.redact("login with hunter2 failed")
        ('hunter2', 'login with *** failed')
    """

    def __init__(
        self, path: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.values = _read_properties(path) if path is not None else {}
        for name, value in environment.items():
            if name.startswith(ENVIRONMENT):
                self.values[name.removeprefix(ENVIRONMENT).lower().replace("_", ".")] = value
        for name in self.values.keys() & _OURS.keys():
            raise StreamError(f"{name} is set by {_OURS[name]}: leave it out of the Kafka settings")
        for name, bit in _BIT_BY_BIT.items():
            if bit in self.values.get(name, "").lower():
                raise StreamError(
                    f"{name}: {bit} is not for a stream, whose partitions go together"
                )
        secrets = {value for name, value in self.values.items() if _SECRET.search(name) and value}
        self.registry_url, self.registry_login = _taken_registry(self.values)
        if self.registry_login is not None:
            secrets |= {self.registry_login, self.registry_login.partition(":")[2]} - {""}
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"ClientSettings({', '.join(sorted(self.values))})"

    def connection(self) -> dict[str, str]:
        """Those that any client of the brokers needs."""
        return {name: v for name, v in self.values.items() if name.startswith(_CONNECTION)}

    def redact(self, text: str) -> str:
        """The text, with stars in the place of secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _taken_registry(values: dict[str, str]) -> tuple[str | None, str | None]:
    """Takes the settings of a schema registry, which the Kafka client does not know, out of it."""
    prefix = "schema.registry."
    names = [name for name in values if name.startswith((prefix, "basic.auth."))]
    found = {name.removeprefix(prefix): values.pop(name) for name in names}
    url, login = found.pop("url", None), found.pop("basic.auth.user.info", None)
    if found.pop("basic.auth.credentials.source", "USER_INFO") != "USER_INFO" or found:
        raise StreamError(
            "of a schema registry, the Kafka settings take schema.registry.url and "
            "basic.auth.user.info"
        )
    return url, login


def _read_properties(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StreamError(f"cannot read the Kafka settings {path}: {reason}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip():
            raise StreamError(f"{path}, line {number}: not KEY=VALUE")  # which may be a secret
        found[name.strip()] = value.strip()
    return found


def check_topic(name: str) -> None:
    """Raises a `StreamError` for what cannot be the name of a topic.

    Example:
        >>> check_topic("../x")
        Traceback (most recent call last):
        acai_jax.errors.StreamError: no name of a topic: '../x'
    """
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise StreamError(f"no name of a topic: {name!r:.80}")


def night_topics(survey: Survey, today: datetime.date, programid: int) -> tuple[str, ...]:
    """A survey's topics of the night of `today` (UT) and of the one before; they may be the same.

    Example:
        >>> night_topics(SURVEYS["ztf"], datetime.date(2026, 1, 1), 1)
        ('ztf_20251231_programid1', 'ztf_20260101_programid1')
    """
    nights = (today - datetime.timedelta(days=1), today)
    return tuple(dict.fromkeys(_night_topic(survey, night, programid) for night in nights))


def later_topics(
    subscribed: tuple[str, ...], survey: Survey, today: datetime.date, programid: int
) -> tuple[str, ...]:
    """The topics to read after midnight: tonight's too, and those that may still hold messages.

    Example:
        >>> topics = ("ztf_20251201_programid1",)
        >>> later_topics(topics, SURVEYS["ztf"], datetime.date(2026, 1, 1), 1)
        ('ztf_20251231_programid1', 'ztf_20260101_programid1')
    """
    oldest = _night_topic(survey, today - datetime.timedelta(days=_NIGHTS_KEPT), programid)
    kept = {topic for topic in subscribed if topic >= oldest}
    return tuple(sorted(kept | {*night_topics(survey, today, programid)}))


def _night_topic(survey: Survey, night: datetime.date, programid: int) -> str:
    return survey.topic.format(night=night, programme=programid)
