"""The command `acai-jax stream`."""

import dataclasses
import logging

import tyro

from acai_jax.commands.arguments import Model
from acai_jax.extras import need
from acai_jax.processes import finishing
from acai_jax.stream.settings import ClientSettings, StreamSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream(Model):
    """Score alerts from Kafka as they come, each once: OUT/scores, OUT/rejects, OUT/filters.

    SIGTERM and Ctrl-C finish what is in hand and commit it; a second one exits at once.
    Credentials come from --kafka-config, or from the environment: ACAI_JAX_KAFKA_SASL_PASSWORD
    sets sasl.password, and so on for every setting of librdkafka.
    """

    settings: tyro.conf.OmitArgPrefixes[StreamSettings]
    log_json: bool = False
    """log lines of JSON."""

    def run(self) -> None:
        """Streams, and logs how it goes."""
        need("kafka")
        from acai_jax.stream.logs import show_logs

        client = ClientSettings(self.settings.kafka_config)
        show_logs(as_json=self.log_json)
        with finishing(logging.getLogger("acai_jax.stream").info) as stop:
            from acai_jax.stream.run import run_stream

            run_stream(self.settings, self.load(), client=client, stop=stop)
