"""The command `acai-jax stream`: its flags, and its log."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import tyro

from acai_jax.processes import finishing
from acai_jax.surveys import Preset

Repeated = tyro.conf.UseAppendAction


def stream(
    *,
    bootstrap_servers: str,
    out: Path,
    topic: Annotated[tuple[str, ...], Repeated] = (),
    programid: int = 1,
    group: str = "acai-jax",
    start: Annotated[Literal["earliest", "latest"], tyro.conf.arg(name="from")] = "earliest",
    until_end: bool = False,
    model: str = "published",
    weights: Path | None = None,
    preset: Preset | None = None,
    filter: Annotated[tuple[str, ...], Repeated] = (),  # noqa: A002 - the flag's name
    filters: Path | None = None,
    to_topic: str | None = None,
    stdout: bool = False,
    batch_size: int = 256,
    batch_seconds: float = 0.3,
    kafka_config: Path | None = None,
    schema_registry: str | None = None,
    metrics_port: int | None = None,
    metrics_address: str = "127.0.0.1",
    log_json: bool = False,
) -> None:
    """Score alerts from Kafka as they come, each once: OUT/scores, OUT/rejects, OUT/filters.

    SIGTERM and Ctrl-C finish what is in hand and commit it; a second one exits at once.
    Credentials come from --kafka-config, or from the environment: ACAI_JAX_KAFKA_SASL_PASSWORD
    sets sasl.password, and so on for every setting of librdkafka.

    Args:
        bootstrap_servers: HOST:PORT of one or more brokers, with commas.
        out: folder for the tables; several workers may share it.
        topic: to read, may be repeated; by default ZTF's of today's and yesterday's night (UT).
        programid: of the default topics; 1 is public.
        group: consumer group; workers of one group share the partitions.
        start: where a group begins that has read nothing yet.
        until_end: stop at the end of all partitions.
        model: "published", "published-20201110" (the first generation), or a checkpoint's folder.
        weights: folder with the published .h5 files, for work without a network.
        preset: whose preprocessing to follow; by default that of the model's training.
        filter: name of a filter, may be repeated; what passes goes to OUT/filters/NAME.
        filters: TOML file of your own filters.
        to_topic: also send scores to this topic, as Avro; what passes a filter to TOPIC_NAME.
        stdout: also write scores to standard output, as JSON lines.
        batch_size: alerts to score at once, at the most.
        batch_seconds: how long the first alert of a batch waits for others.
        kafka_config: file of settings of the Kafka client, KEY=VALUE lines.
        schema_registry: URL of the registry of schemas, where messages have Confluent's framing.
        metrics_port: serve /metrics for Prometheus and /healthz on this port.
        metrics_address: address to serve them on.
        log_json: log lines of JSON.
    """
    # JAX takes seconds to import: --help and mistyped commands do not wait for it
    from acai_jax.stream.logs import show_logs
    from acai_jax.stream.settings import ClientSettings, StreamSettings

    settings = StreamSettings(
        bootstrap_servers=bootstrap_servers,
        out=out,
        topics=topic,
        programid=programid,
        group=group,
        preset=preset,
        start=start,
        until_end=until_end,
        batch_size=batch_size,
        batch_seconds=batch_seconds,
        filters=filter,
        filters_file=filters,
        to_topic=to_topic,
        to_stdout=stdout,
        kafka_config=kafka_config,
        schema_registry=schema_registry,
        metrics_port=metrics_port,
        metrics_address=metrics_address,
    )
    client = ClientSettings(kafka_config)
    show_logs(as_json=log_json)
    with finishing(logging.getLogger("acai_jax.stream").info) as stop:
        from acai_jax.score.scorer import Scorer, enable_compilation_cache
        from acai_jax.stream.run import run_stream

        enable_compilation_cache()
        scorer = Scorer.load(model, weights_dir=weights)
        run_stream(settings, scorer, client=client, stop=stop)
