"""The command `acai-jax show`."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.arguments import Scoring
from acai_jax.commands.console import console
from acai_jax.errors import AcaiError, Reject, SourceError, reason_of
from acai_jax.extras import need
from acai_jax.surveys import Preset
from acai_jax.surveys.base import Survey

if TYPE_CHECKING:
    from acai_jax.alerts.packet import AlertPacket
    from acai_jax.score.scorer import Scorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Scoring):
    """Draw one alert's stamps, scores and features to a PNG."""

    path: tyro.conf.Positional[Path]
    """a file, archive or directory of alerts; the first readable alert is drawn."""
    candid: int | None = None
    """draw the alert with this candid instead."""
    out: Path | None = None
    """the PNG to write; by default CANDID.png."""

    def run(self) -> None:
        """Draws the alert, and prints where."""
        need("report")
        with _clear_errors():
            alert = _find_alert(self.path, self.candid)
        scorer = self._scorer(alert.survey)
        out = self.out or Path(f"{alert.alert_id}.png")
        out.parent.mkdir(parents=True, exist_ok=True)
        with _clear_errors():
            _draw(alert, scorer, self.preset, out)
        console.print(
            f"{out}: {alert.object_id}, {alert.survey.alert_id} {alert.alert_id}", soft_wrap=True
        )

    def _scorer(self, survey: Survey) -> "Scorer | None":
        """The model; by default, of what the published one does not read, the one that does."""
        from acai_jax.network.exchange import shipped_model

        if self.reads(survey):
            return self.load()
        name = shipped_model(survey)
        scores = f"scores by {name}" if name else "no scores"
        console.print(f"the published heads read no alerts of {survey.title}: {scores}")
        return dataclasses.replace(self, model=name).load() if name else None


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """One line for whatever an alert causes."""
    try:
        yield
    except (AcaiError, OSError):
        raise
    except Exception as error:
        raise AcaiError(f"cannot show the alert: {reason_of(error)}") from error


def _find_alert(path: Path, alert_id: int | None) -> "AlertPacket":
    from acai_jax.alerts.sources import read_alerts

    first: Reject | None = None
    for alert in read_alerts(path):
        if alert_id in (None, alert.alert_id):
            if not isinstance(alert, Reject):
                return alert
            first = first or alert
    if first is not None:
        raise AcaiError(f"cannot read the alert: {first.reason}")
    wanted = "" if alert_id is None else f" with candid {alert_id}"
    raise SourceError(f"no alert{wanted} in {path}")


def _draw(alert: "AlertPacket", scorer: "Scorer | None", preset: Preset | None, out: Path) -> None:
    from acai_jax.alerts.preprocess import check_preset
    from acai_jax.report.pictures import draw_alert

    if scorer is None:
        survey = alert.survey
        chosen = preset or next(iter(survey.recipes))
        check_preset(chosen, survey)
        draw_alert(alert, {}, out, reason=f"no heads for {survey.title}", preset=chosen)
        return
    preset = preset or scorer.bank.preset
    row = scorer.score_packets([alert], preset).row(0, named=True)
    scores = {name: row[f"acai_{name}"] for name in scorer.bank.classes}
    source = row["drb_source"]
    used_drb = f"{source} {row['drb']:.4g}" if source not in (None, "packet") else None
    draw_alert(alert, scores, out, reason=row["reason"], preset=preset, used_drb=used_drb)
