"""A few alerts of a table, read again from the files that the alerts came from."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import Paths, decode, encoded_alerts, source_files
from acai_jax.alerts.stamps import Images, readable_stamps
from acai_jax.errors import Reject
from acai_jax.surveys import survey_of_table

Report = Callable[[int, int], None]
"""Is told how many bytes are read, and how many there are to read."""


def find_alerts(
    files: Sequence[Path],
    alert_ids: Collection[int],
    origins: Collection[str] | None = None,
    report: Report = lambda *_: None,
    *,
    histories: bool = False,
) -> Iterator[AlertPacket]:
    """Some alerts, each once, as they are met; reading ends when all are found.

    Args:
        files: where to look.
        alert_ids: of the alerts.
        origins: files, and members of archives, that the alerts came from: all else is skipped.
        report: told how far it is.
        histories: as for `read_alerts`.

    Example:
        >>> list(find_alerts([], [1105522281015015000]))
        []
    """
    wanted = set(alert_ids)
    done, total = 0, sum(file.stat().st_size for file in files)
    for encoded in encoded_alerts(files, histories=histories):
        if not wanted:
            break
        done += encoded.source_bytes
        report(done, total)
        if origins is not None and encoded.origin not in origins:
            continue
        for alert in decode(encoded, histories=histories):
            if not isinstance(alert, Reject) and alert.alert_id in wanted:
                wanted.remove(alert.alert_id)
                yield alert
    report(total, total)


def read_stamps(
    files: Sequence[Path],
    alert_ids: Collection[int],
    origins: Collection[str] | None = None,
    report: Report = lambda *_: None,
) -> dict[int, Images]:
    """The stamps of some alerts, by their identifiers; the arguments are those of `find_alerts`.

    Example:
        >>> read_stamps([], [1105522281015015000])
        {}
    """
    return _stamps(find_alerts(files, alert_ids, origins, report))


def _stamps(alerts: Iterator[AlertPacket]) -> dict[int, Images]:
    return {
        alert.alert_id: readable_stamps(alert.cutouts, alert.survey.largest_stamp)
        for alert in alerts
    }


def alerts_of_table(
    rows: pl.DataFrame,
    paths: Paths | None = None,
    report: Report = lambda *_: None,
    *,
    histories: bool = False,
) -> Iterator[AlertPacket]:
    """The alerts of some rows of a score table, as far as they can be had.

    Args:
        rows: with the alerts' identifiers and, if `paths` is not given, origin.
        paths: where the alerts lie; by default where they came from, if they are still there.
        report: as for `find_alerts`.
        histories: as for `read_alerts`.

    Raises:
        SourceError: one of `paths` does not exist.
        TableError: as for `survey_of_table`.

    Example:
        >>> list(alerts_of_table(pl.DataFrame({"candid": [1], "origin": ["gone.tar.gz:1.avro"]})))
        []
    """
    alert_ids = rows[survey_of_table(rows.columns).alert_id].drop_nulls().to_list()
    if paths is not None:
        return find_alerts(source_files(paths), alert_ids, None, report, histories=histories)
    if "origin" not in rows.columns:
        return iter(())
    origins = rows["origin"].drop_nulls().unique(maintain_order=True).to_list()
    files = list({file: None for origin in origins if (file := _file_of(origin))})
    return find_alerts(files, alert_ids, set(origins), report, histories=histories)


def stamps_of_table(
    rows: pl.DataFrame, paths: Paths | None = None, report: Report = lambda *_: None
) -> dict[int, Images]:
    """The stamps of the alerts of `alerts_of_table`, by identifier.

    Example:
        >>> stamps_of_table(pl.DataFrame({"candid": [1], "origin": ["gone.tar.gz:1.avro"]}))
        {}
    """
    return _stamps(alerts_of_table(rows, paths, report))


def _file_of(origin: str) -> Path | None:
    """The file of an origin: an archive's members follow after a colon."""
    while True:
        if os.path.isfile(origin):
            return Path(origin)
        origin, colon, _ = origin.rpartition(":")
        if not colon:
            return None
