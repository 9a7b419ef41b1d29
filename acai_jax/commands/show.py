"""The command `acai-jax show`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from acai_jax.commands.console import console
from acai_jax.commands.score import load_scorer
from acai_jax.errors import AcaiError, Reject, SourceError, reason_of
from acai_jax.surveys import Preset

if TYPE_CHECKING:
    from acai_jax.alerts.packet import AlertPacket
    from acai_jax.score.scorer import Scorer


def show(
    path: tyro.conf.Positional[Path],
    /,
    *,
    candid: int | None = None,
    out: Path | None = None,
    model: str = "published",
    weights: Path | None = None,
    preset: Preset | None = None,
) -> None:
    """Draw one alert's stamps, scores and features to a PNG.

    Args:
        path: a file, archive or directory of alerts; the first readable alert is drawn.
        candid: draw the alert with this candid instead.
        out: the PNG to write; by default CANDID.png.
        model: as for `score`.
        weights: as for `score`.
        preset: as for `score`.
    """
    with _clear_errors():
        alert = _find_alert(path, candid)
    scorer = load_scorer(model, weights)
    out = out or Path(f"{alert.alert_id}.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _clear_errors():
        _draw(alert, scorer, preset or scorer.bank.preset, out)
    console.print(f"{out}: {alert.object_id}, {alert.survey.alert_id} {alert.alert_id}")


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


def _draw(alert: "AlertPacket", scorer: "Scorer", preset: Preset, out: Path) -> None:
    from acai_jax.report.pictures import draw_alert

    row = scorer.score_packets([alert], preset).row(0, named=True)
    scores = {name: row[f"acai_{name}"] for name in scorer.bank.classes}
    source = row["drb_source"]
    used_drb = f"{source} {row['drb']:.4g}" if source not in (None, "packet") else None
    draw_alert(alert, scores, out, reason=row["reason"], preset=preset, used_drb=used_drb)
