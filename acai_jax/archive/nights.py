"""Nights of the public archive: which file holds one, and fetching it.

The archive has one `ztf_public_YYYYMMDD.tar.gz` for each night, named by its UTC date: a few
megabytes to some tens of gigabytes, or an archive without members after a night without alerts.
`read_alerts` takes the file as it is.
"""

import datetime
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from acai_jax.archive.download import Progress, download, shown_url
from acai_jax.errors import DownloadError, NightError, NoAlertsError
from acai_jax.surveys.ztf import ZTF

PUBLIC_ARCHIVE: Final = ZTF.archive_url
FIRST_SCORABLE: Final = ZTF.first_scorable
"""Packets of earlier nights lack features: none has scores."""
_NO_SUCH_FILE: Final = (404, 410)


def parse_night(text: str) -> datetime.date:
    """The UTC date of a night, from YYYYMMDD or YYYY-MM-DD.

    Raises:
        NightError: it is no date, or it lies ahead.

    Example:
        >>> parse_night("20180626")
        datetime.date(2018, 6, 26)
        >>> parse_night("2018-02-30")
        Traceback (most recent call last):
        acai_jax.errors.NightError: not a date: '2018-02-30' (write YYYYMMDD or YYYY-MM-DD)
    """
    found = re.fullmatch(r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})", text)
    try:
        night = datetime.date(*(int(found[group]) for group in (1, 3, 4))) if found else None
    except ValueError:
        night = None
    if night is None:
        raise NightError(f"not a date: {text!r} (write YYYYMMDD or YYYY-MM-DD)")
    today = datetime.datetime.now(datetime.UTC).date()
    if night > today:
        raise NightError(f"{night} lies ahead: today is {today} (UTC)")
    return night


def night_path(night: datetime.date, folder: str | os.PathLike[str] = ".") -> Path:
    """Where a night's archive lies in `folder`, under its public name.

    Example:
        >>> night_path(datetime.date(2018, 6, 26)).name
        'ztf_public_20180626.tar.gz'
    """
    return Path(folder) / ZTF.archive_file.format(night=night)


def fetch_night(
    night: datetime.date,
    folder: str | os.PathLike[str] = ".",
    *,
    base_url: str = PUBLIC_ARCHIVE,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Fetches the alerts of one night; goes on with what an interrupted call left.

    Args:
        night: its UTC date.
        folder: where to put the archive. A file of its name that is there is not fetched again.
        base_url: the address under which archives lie.
        report: called with the progress of the download.

    Returns:
        The archive's path: a gzipped tar with at least one file in it.

    Raises:
        NoAlertsError: the archive has no data of that night, or an empty file.
        NightError: what came, or what was there, is no archive.
        DownloadError: it cannot be had, or does not fit on the disk.

    Example:
        >>> path = fetch_night(parse_night("2020-01-11"), "nights")  # doctest: +SKIP
        >>> alerts = acai_jax.read_alerts(path)  # doctest: +SKIP

    Source: https://ztf.uw.edu/alerts/public/
    """
    path = night_path(night, folder)
    if path.exists():
        _check_archive(path, str(path), night)
        return path
    url = _below(base_url, path.name)
    try:
        download(
            url,
            path,
            lambda found: _check_archive(found, shown_url(url), night),
            check_end=lambda found: _check_end(found, shown_url(url)),
            report=report,
        )
    except DownloadError as error:
        if error.status in _NO_SUCH_FILE:
            raise NoAlertsError(
                f"no data on {night}: {shown_url(url)} does not exist "
                "(a night without observations, or not yet published)"
            ) from None
        raise
    return path


def _below(base_url: str, name: str) -> str:
    """The address of a file below `base_url`, which may end in a query, such as an access token."""
    path, mark, query = base_url.partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def _check_archive(path: Path, name: str, night: datetime.date) -> None:
    """Looks for a file in a gzipped tar; reads no further than the first.

    Raises:
        NightError: `path`, which messages call `name`, is no gzipped tar or damaged at its start.
        NoAlertsError: it holds no file.
    """
    try:
        with gzip.open(path) as unzipped:
            empty = not unzipped.read(1)
        if not empty:
            with tarfile.open(path, "r|gz") as archive:
                empty = not any(member.isreg() for member in archive)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise NightError(f"{name} is not a gzipped tar archive: {error}") from None
    if empty:
        raise NoAlertsError(f"no alerts on {night}: {name} is an empty archive")


def _check_end(path: Path, name: str) -> None:
    """Unpacks a gzipped tar to its end, where gzip's own length and checksum stand.

    Raises:
        NightError: it was cut or is damaged.
    """
    try:
        with gzip.open(path) as unzipped:
            while unzipped.read(2**20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise NightError(f"{name} came without a length, and is cut or damaged: {error}") from None
