"""One run of a stream: its parts put together."""

import logging
import threading
from typing import Final

from acai_jax.score.scorer import Scorer
from acai_jax.stream.kafka import Connection
from acai_jax.stream.loop import Stream
from acai_jax.stream.metrics import Health, Metrics, MetricsServer
from acai_jax.stream.registry import open_schemas
from acai_jax.stream.settings import ClientSettings, StreamSettings
from acai_jax.stream.sinks import Sinks
from acai_jax.stream.work import Work

log: Final = logging.getLogger("acai_jax.stream")

_STALL_SECONDS: Final = 60.0


def run_stream(
    settings: StreamSettings,
    scorer: Scorer,
    *,
    client: ClientSettings | None = None,
    stop: threading.Event | None = None,
) -> Metrics:
    """Scores a stream of alerts until it is told to stop, or to the end.

    Args:
        settings: where alerts come from, and where scores go.
        scorer: scores them; every batch size is compiled before the first message is taken.
        client: further settings of the Kafka client; by default those of the settings' file and of
            the environment.
        stop: once it is set, what is in hand is finished, and offsets are committed.

    Returns:
        What was counted.

    Raises:
        StreamError: the brokers or the schema registry refuse us, the brokers cannot be reached, or
            a topic is not there.
        OutputError: an output cannot be written; nothing of that batch is committed.
        FilterError: a filter is none.
    """
    stop = stop or threading.Event()
    metrics = Metrics()
    health = Health(_STALL_SECONDS)
    preset = settings.preset or scorer.bank.preset
    client = client or ClientSettings(settings.kafka_config)
    registry = None
    if (url := settings.schema_registry or client.registry_url) is not None:
        registry = open_schemas(url, client.registry_login, stop)
    work = Work(settings, scorer, registry)
    sinks = Sinks(settings, scorer.bank, preset, metrics)
    connection = Connection(settings.bootstrap_servers, client)
    stream = Stream(settings, work, sinks, connection, metrics, health, stop)
    server = None
    try:
        if settings.metrics_port is not None:
            server = MetricsServer(
                metrics, health.sound, settings.metrics_address, settings.metrics_port
            )
            log.info("metrics on http://%s:%d/metrics", settings.metrics_address, server.port)
        stream.run()
    finally:
        if server is not None:
            server.close()
    return metrics
