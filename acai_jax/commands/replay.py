"""The command `acai-jax replay`."""

import dataclasses
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.arguments import Sources
from acai_jax.commands.console import console, replay_progress
from acai_jax.errors import RejectLimit, StreamError
from acai_jax.extras import need
from acai_jax.processes import finishing
from acai_jax.stream.settings import ReplaySettings

if TYPE_CHECKING:
    from acai_jax.stream.replay import Replayed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay(Sources):
    """Send alerts of a past night to a Kafka topic: each message as ZTF sends it.

    Without --rate or --own-timing, as fast as the broker takes them. Ctrl-C and SIGTERM wait until
    the broker has confirmed what was sent; a second one exits at once. Credentials come from
    --kafka-config or the environment, as for `stream`. Exit status 4 says that no alert could be
    read, or that more could not than --max-rejects allows.
    """

    settings: tyro.conf.OmitArgPrefixes[ReplaySettings]

    def run(self) -> None:
        """Sends the alerts, and prints what became of them."""
        need("kafka")
        from acai_jax.stream.replay import replay

        self.check_sources()
        limit = RejectLimit(self.max_rejects)
        with finishing(console.print) as stop, replay_progress() as report:
            found = replay(self.sources, self.settings, stop=stop, report=report)
        print_replayed(found, self.settings.topic)
        if found.failed:
            raise StreamError(f"{found.failed:,} alerts were not delivered: {found.failure}")
        if found.interrupted:
            raise KeyboardInterrupt
        limit.check(found.rejected, found.delivered + found.rejected)


def print_replayed(found: "Replayed", topic: str) -> None:
    """Prints what became of replayed alerts."""
    rate = found.delivered / max(found.seconds, 1e-9)
    console.print(f"{topic}: {found.delivered:,} alerts delivered, {rate:,.0f} a second")
    if found.rejected:
        console.print(f"not sent, because they are no readable Avro: {found.rejected:,}")
        for reject in found.rejects:
            console.print(f"  {reject.origin}: {reject.reason}", soft_wrap=True)
        if found.rejected > len(found.rejects):
            console.print(f"  and {found.rejected - len(found.rejects):,} more")
