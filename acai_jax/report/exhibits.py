"""Alerts as cards of a gallery: stamps, scores and key features, the same on every page."""

import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

import matplotlib
import numpy as np
from PIL import Image

from acai_jax.alerts.stamps import Images
from acai_jax.report.html import Exhibit
from acai_jax.report.pictures import stretch
from acai_jax.surveys import survey_of_table
from acai_jax.times import utc

_GAP: Final = 3  # [pixel] between stamps
_NO_DATA: Final = 255  # index of transparent pixels
_FAINTEST: Final = 99.0  # where alerts without a magnitude are sorted


def alert_exhibit(
    row: Mapping[str, Any],
    images: Images | None,
    heads: Iterable[str],
    *,
    text: str,
    groups: Mapping[str, str],
    numbers: Mapping[str, float],
) -> Exhibit:
    """The card of one alert; it can be sorted by "time" and "magnitude", too.

    Args:
        row: of a table of scores.
        images: its stamps; None for a card without a picture.
        heads: names of the heads whose scores are shown.
        text: what the page has to say about the alert.
        groups: as of `Exhibit`.
        numbers: as of `Exhibit`.

    Example:
        >>> row = {"objectId": "ZTF20aaelulu", "candid": 7, "fid": 1, "jd": 2458900.5}
        >>> row |= {"acai_h": 0.97, "magpsf": 18.5}
        >>> dict(alert_exhibit(row, None, "h", text="", groups={}, numbers={}).facts)
        {'score h': '0.9700', 'filter': 'g', 'date': '2020-02-21', 'magpsf': '18.5 mag'}
    """
    survey = survey_of_table(row)
    object_id, alert_id = str(row[survey.object_id]), f"{survey.alert_id} {row[survey.alert_id]}"
    scores = [
        (f"score {name}", f"{row[f'acai_{name}']:.4f}")
        for name in heads
        if row[f"acai_{name}"] is not None
    ]
    features = [
        (name, f"{_shown(row[name])} {survey.units[name]}".strip())
        for name in survey.key_fields
        if row.get(name) is not None
    ]
    date = utc(row[survey.time])
    seen = [] if date is None else [("date", f"{date:%Y-%m-%d}")]
    return Exhibit(
        png=None if images is None else stamps_png(images, survey.inputs.stamp),
        alt=f"Science, template and difference stamp of {object_id}, {alert_id}",
        title=object_id,
        text=f"{text}\n{alert_id}".strip(),
        facts=[
            *scores,
            ("filter", survey.band_name(row[survey.band])),
            *seen,
            *features,
        ],
        groups=groups,
        numbers={
            **numbers,
            "magnitude": _FAINTEST if (found := row.get(survey.magnitude)) is None else found,
            "time": 0.0 if date is None else row[survey.time],
        },
    )


def _shown(value: int | float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def stamps_png(images: Images, side: int) -> bytes:
    """Science, template and difference side by side, a pixel for a pixel; transparent where none.

    Args:
        images: of one alert.
        side: pixels along each side, of larger ones theirs.

    Example:
        >>> stamps_png((None, None, np.ones((63, 63), np.float32)), 63)[1:4]
        b'PNG'
    """
    side = max([side, *(max(image.shape) for image in images if image is not None)])
    width = len(images) * side + (len(images) - 1) * _GAP
    canvas = np.full((side, width), _NO_DATA, np.uint8)
    for channel, image in enumerate(images):
        if image is None:
            continue
        shown = stretch(image, logarithmic=channel < 2)
        left = channel * (side + _GAP)
        indices = np.where(np.isnan(shown), _NO_DATA, np.nan_to_num(shown) * (_NO_DATA - 1))
        canvas[: image.shape[0], left : left + image.shape[1]] = np.rint(indices)
    picture = Image.fromarray(canvas, "P")
    bone = matplotlib.colormaps["bone"](np.linspace(0, 1, _NO_DATA))[:, :3]
    picture.putpalette((bone * 255).round().astype(np.uint8).tobytes() + b"\0\0\0")
    png = io.BytesIO()
    picture.save(png, "png", optimize=True, transparency=_NO_DATA)
    return png.getvalue()
