"""The command `acai-jax replay`: its flags, and what it prints."""

from pathlib import Path

import tyro

from acai_jax.commands.console import console, print_replayed, replay_progress
from acai_jax.errors import RejectLimit, SourceError, StreamError
from acai_jax.processes import finishing


def replay(
    sources: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    bootstrap_servers: str,
    topic: str,
    rate: float | None = None,
    own_timing: bool = False,
    speed: float = 1.0,
    partitions: int | None = None,
    kafka_config: Path | None = None,
    max_rejects: float = 1.0,
) -> None:
    """Send alerts of a past night to a Kafka topic, each message as ZTF sends it.

    Without --rate or --own-timing, as fast as the broker takes them. Ctrl-C and SIGTERM wait until
    the broker has confirmed what was sent; a second one exits at once. Credentials come from
    --kafka-config or the environment, as for `stream`. Exit status 4 says that no alert could be
    read, or that more could not than --max-rejects allows.

    Args:
        sources: Avro files, .tar or .tar.gz archives, Parquet, JSON, or directories of them.
        bootstrap_servers: HOST:PORT of one or more brokers, with commas.
        topic: to send to; it is made if it is not there.
        rate: alerts a second.
        own_timing: sort by jd, through a temporary file, and keep the time between alerts.
        speed: with --own-timing: so many times faster.
        partitions: of a topic that is made; by default 1.
        kafka_config: file of settings of the Kafka client, KEY=VALUE lines.
        max_rejects: share of the alerts that may be unreadable, 0 to 1.
    """
    # these take a second to import: --help does not wait for it
    from acai_jax.stream import replay as replaying
    from acai_jax.stream.settings import ClientSettings

    if not sources:
        raise SourceError("no paths given: name files, archives or directories of alerts")
    if speed != 1.0 and not own_timing:
        raise StreamError("--speed goes with --own-timing")
    limit = RejectLimit(max_rejects)
    settings = replaying.ReplaySettings(
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        rate=rate,
        speed=speed if own_timing else None,
        partitions=partitions,
    )
    client = ClientSettings(kafka_config)
    with finishing(console.print) as stop, replay_progress() as report:
        found = replaying.replay(sources, settings, client=client, stop=stop, report=report)
    print_replayed(found, topic)
    if found.failed:
        raise StreamError(f"{found.failed:,} alerts were not delivered: {found.failure}")
    if found.interrupted:
        raise KeyboardInterrupt
    limit.check(found.rejected, found.delivered + found.rejected)
