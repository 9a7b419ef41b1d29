"""Cards of alerts: stamps pixel for pixel, and facts that may be missing."""

import io

import numpy as np
from PIL import Image

from acai_jax.report.exhibits import alert_exhibit, stamps_png
from acai_jax.report.pictures import stretch


def test_stamps_are_shown_pixel_for_pixel():
    image = np.random.default_rng(0).normal(10, 3, (63, 63)).astype(np.float32)
    image[:7] = np.nan
    small = image[:, :62]
    png = stamps_png((image, None, small), 63)
    shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert shown.shape == (63, 3 * 63 + 6, 4)
    visible = shown[..., 3] > 0
    np.testing.assert_array_equal(visible[:, :63], np.isfinite(stretch(image, logarithmic=True)))
    assert not visible[:, 63:132].any()
    expected = stretch(small, logarithmic=False)
    brightness = shown[:, 132:194, :3].sum(axis=-1).astype(float)
    seen = np.isfinite(expected)
    order = np.corrcoef(brightness[seen], expected[seen])[0, 1]
    assert order > 0.98


def test_a_card_of_an_alert_with_nothing_but_a_name():
    row = dict.fromkeys(("jd", "fid", "magpsf", "drb", "isdiffpos", "acai_h", "acai_b"))
    row |= {"objectId": "ZTF1", "candid": 7, "acai_b": 0.25, "isdiffpos": "t"}
    card = alert_exhibit(row, None, "hb", text="", groups={}, numbers={})
    assert card.png is None
    assert card.text == "candid 7"
    assert card.facts == [("score b", "0.2500"), ("filter", "fid None"), ("isdiffpos", "t")]
    assert card.numbers == {"magnitude": 99.0, "time": 0.0}
