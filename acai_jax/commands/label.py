"""The command `acai-jax label`."""

import dataclasses
import getpass
from pathlib import Path

import tyro

from acai_jax.classes import CLASSES
from acai_jax.commands.console import console, stretches_progress
from acai_jax.errors import SourceError
from acai_jax.extras import need
from acai_jax.processes import finishing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """Label a queue of alerts on a page in the browser; it is served on this machine only.

    Each answer is on the disk before the page says that it is saved. The page can be closed, and
    the command ended, at any time: the same command goes on. Needs the extra `label`.
    """

    queue: tyro.conf.Positional[Path]
    """Parquet file written by `acai-jax pick`."""
    store: Path = Path("labels.db")
    """the file in which labels are kept; it is made if need be, and several queues share it."""
    alerts: tuple[Path, ...] = ()
    """where the alerts' packets lie; by default where they were scored."""
    labels: tuple[str, ...] = CLASSES
    """the labels that can be given."""
    labeller: str | None = None
    """who labels, by default your login name; others add "&as=NAME" to the address, or name
    themselves on the page."""
    overlap: float = 0.1
    """share of the alerts that a second labeller is asked for, without knowing the first label."""
    port: int = 8765
    """of 127.0.0.1, to listen on; 0 for any."""

    def run(self) -> None:
        """Serves the page until Ctrl-C."""
        need("label")
        from acai_jax.alerts.lookup import alerts_of_table
        from acai_jax.labelling.cards import Cards
        from acai_jax.labelling.queue import read_queue
        from acai_jax.labelling.server import LabelServer, Session
        from acai_jax.labelling.store import LabelStore

        queue = read_queue(self.queue)
        store = LabelStore(self.store)
        with stretches_progress() as begin:
            report = begin("reading alerts")
            packets = alerts_of_table(queue, self.alerts or None, report, histories=True)
            cards = Cards(queue, packets)
        if cards.missing == len(queue):
            raise SourceError("none of the alerts is where it was scored: --alerts names the place")
        if cards.missing:
            console.print(
                f"warning: {cards.missing:,} of {len(queue):,} alerts are not where they were "
                "scored, and are shown without stamps: --alerts names the place",
                style="yellow",
                soft_wrap=True,
            )
        session = Session(
            queue,
            cards,
            store,
            labels=self.labels,
            overlap=self.overlap,
            labeller=self.labeller or _login_name(),
            title=f"Label {self.queue.stem}",
        )
        cards.make_ahead()
        with finishing(lambda said: console.print(said)) as stop:
            server = LabelServer(session, self.port)
            console.print(f"open {server.url}", soft_wrap=True)
            console.print("Ctrl-C ends; acai-jax labels exports what is labelled", soft_wrap=True)
            while server.thread.is_alive() and not stop.wait(0.5):
                pass
            server.close()
        store.close()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # containers may have no name for their user
        return "labeller"
