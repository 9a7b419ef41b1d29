"""The picture of one alert is drawn for whatever alert there is."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
from synthetic import packet_record, stamp

from acai_jax.alerts.packet import packet_from_record
from acai_jax.report import pictures
from acai_jax.report.pictures import draw_alert, stretch


def read_png(path) -> np.ndarray:
    return matplotlib.image.imread(path)


def test_draws_stamps_scores_and_features(tmp_path):
    packet = packet_from_record(packet_record(1))
    scores = {"h": 0.97, "o": 1e-9, "n": 0.2, "v": 0.001, "b": 0.0}
    draw_alert(packet, scores, tmp_path / "alert.png")
    image = read_png(tmp_path / "alert.png")
    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    draw_alert(packet, {**scores, "h": 0.1}, tmp_path / "other.png")
    assert not np.array_equal(image, read_png(tmp_path / "other.png"))


@pytest.mark.parametrize(
    "cutout",
    [
        None,
        {"stampData": b"no stamp"},
        {"stampData": stamp(np.full((63, 63), np.nan, np.float32))},
        {"stampData": stamp(np.full((63, 62), 3.4e38, np.float32))},
        {"stampData": stamp(np.ones((63, 63), np.float32))},
    ],
)
def test_bad_stamps_and_missing_scores_are_drawn_too(tmp_path, cutout):
    packet = packet_from_record(packet_record(0, cutoutTemplate=cutout, scorr=None))
    scores = dict.fromkeys("honvb")
    draw_alert(packet, scores, tmp_path / "alert.png", reason="null feature: scorr")
    assert (tmp_path / "alert.png").stat().st_size > 5_000


def test_stretch_flips_and_scales():
    image = np.arange(63 * 63, dtype=np.float32).reshape(63, 63)
    image[0, 0] = np.nan
    image[5, 5] = -3.4e38
    for logarithmic in (True, False):
        shown = stretch(image, logarithmic=logarithmic)
        assert np.isnan(shown[62, 0])
        assert np.isnan(shown[57, 5])
        assert (np.nanmin(shown), np.nanmax(shown)) == (0, 1)
        assert shown[0, 0] > shown[61, 0]


def test_a_notebook_shows_an_alert_as_its_picture():
    packet = packet_from_record(packet_record(1, objectId='ZTF<b>"&'))
    shown = packet._repr_html_()
    match = re.fullmatch(
        r'<img alt="([^"]*)" style="[^"]*" src="data:image/png;base64,(.*)">', shown
    )
    assert match[1].startswith("ZTF&lt;b&gt;&quot;&amp;, candid 2475")
    assert read_png(io.BytesIO(base64.b64decode(match[2]))).shape[1] > 1000


def test_an_alert_that_cannot_be_drawn_says_why_in_a_notebook(monkeypatch):
    def fail(*_):
        raise MemoryError("<of a library>")

    monkeypatch.setattr(pictures, "draw_alert", fail)
    shown = packet_from_record(packet_record(1))._repr_html_()
    assert "cannot be drawn: internal error: MemoryError: &lt;of a library&gt;" in shown
