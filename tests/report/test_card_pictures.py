"""The pictures of a card are drawn for whatever alerts there are."""

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import polars as pl
import pytest
from hostile import hostile
from hypothesis import given, settings

from acai_jax.datasets.card import Card, CardExample, fact_table
from acai_jax.report import card_pictures
from acai_jax.report.html import Picture
from acai_jax.report.pictures import CLASS_COLOURS
from acai_jax.surveys.ztf import ZTF

DRAWERS = (
    card_pictures.draw_counts,
    card_pictures.draw_sky,
    card_pictures.draw_magnitudes,
    card_pictures.draw_dates,
    card_pictures.draw_filters,
)


def make_card(rows: int, labels: tuple[str, ...], **changes: object) -> Card:
    rng = np.random.default_rng(0)
    alerts = pl.DataFrame(
        {
            "split": [("train", "validation", "test")[n % 7 % 3] for n in range(rows)],
            "index": range(rows),
            "label": [labels[n % len(labels)] for n in range(rows)],
            "candid": range(rows),
            "objectId": [f"ZTF26test{n // 3:03d}" for n in range(rows)],
            "jd": 2458300.5 + rng.uniform(0, 900, rows),
            "ra": rng.uniform(0, 360, rows),
            "dec": rng.uniform(-30, 90, rows),
            "fid": rng.integers(1, 4, rows),
            "programid": [1] * rows,
            "magpsf": rng.normal(19, 1, rows),
            "drb_source": ["packet"] * rows,
        }
    ).with_columns(**{name: pl.lit(value) for name, value in changes.items()})
    return Card(Path("dataset"), "ztf_acai", "1.0.0", "alerts", "", 1, {}, ZTF, alerts)


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def is_drawn(picture: Picture) -> bool:
    """A PNG of each theme, on its own ground, with something on it."""
    light, dark = pixels(picture.light), pixels(picture.dark)
    assert light.shape == dark.shape
    assert light[0, 0].min() > 0.99
    assert dark[0, 0].max() < 0.2
    return light.std() > 0.02 and dark.std() > 0.02


@pytest.mark.parametrize("draw", DRAWERS)
def test_pictures_come_in_light_and_dark_with_words(draw):
    picture = draw(make_card(300, ("h", "o", "n", "v", "b", "moving")))
    assert is_drawn(picture)
    assert picture.alt
    assert picture.caption
    assert pixels(picture.light).shape[1] < 1100  # readable on a phone


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize(
    "card",
    [
        make_card(1, ("h",)),
        make_card(40, ("h", "b"), magpsf=18.0, jd=2460000.5, ra=0.0, dec=90.0, fid=7),
        make_card(40, tuple(f"class {n} " + "of a very long name" * 2 for n in range(12))),
    ],
    ids=["one alert", "all alike", "many classes"],
)
def test_odd_datasets_are_drawn_too(draw, card):
    assert is_drawn(draw(card))


@pytest.mark.parametrize("draw", DRAWERS)
@settings(max_examples=3)
@given(
    alerts=hostile(make_card(40, ("h", "b", "$\\frac{$")).alerts, sound=("split", "label", "index"))
)
def test_no_alert_keeps_others_from_the_pictures(draw, alerts):
    card = make_card(40, ("h", "b"))
    assert is_drawn(draw(Card(**{**_fields(card), "alerts": alerts})))


def test_what_cannot_be_drawn_is_counted():
    jd, dec, magpsf = 1e308, float("nan"), float("inf")
    half = pl.col("index") < 15
    card = make_card(40, ("h", "b"))
    alerts = card.alerts.with_columns(
        pl.when(half).then(value).otherwise(pl.col(name)).alias(name)
        for name, value in (("jd", jd), ("dec", dec), ("magpsf", magpsf))
    )
    card = Card(**{**_fields(card), "alerts": alerts})
    for draw, lacking in (
        (card_pictures.draw_dates, "a date"),
        (card_pictures.draw_sky, "a position"),
        (card_pictures.draw_magnitudes, "a magnitude"),
    ):
        assert draw(card).caption.endswith(f" Left out, without {lacking}: 15.")
    facts = dict(fact_table(card))
    assert facts["alerts without a date"] == "15"


def test_missing_magnitudes_are_left_out():
    card = make_card(40, ("h", "b"))
    of_b = pl.col("label") == "b"
    magnitude = pl.when(of_b).then(None).otherwise(pl.col("magpsf"))
    card = Card(**{**_fields(card), "alerts": card.alerts.with_columns(magpsf=magnitude)})
    picture = card_pictures.draw_magnitudes(card)
    assert is_drawn(picture)
    assert "hosted 1" in picture.alt
    assert "bogus" not in picture.alt


def _fields(card: Card) -> dict[str, object]:
    return {name: getattr(card, name) for name in Card.__slots__}


def test_words_say_what_the_pictures_show():
    card = make_card(300, ("h", "b"), fid=2, jd=2458295.5, magpsf=18.25)
    assert "hosted 64 train, 43 validation, 43 test" in card_pictures.draw_counts(card).alt
    assert "300 alerts" in card_pictures.draw_sky(card).alt
    assert "bogus 18.2" in card_pictures.draw_magnitudes(card).alt
    assert "hosted 2018-06-26" in card_pictures.draw_dates(card).alt
    assert "bogus 100% r" in card_pictures.draw_filters(card).alt


def test_classes_keep_their_colours_and_new_ones_get_others():
    new = tuple("abcde".replace("b", "f"))
    card = make_card(60, (*CLASS_COLOURS, *new))
    colours = [card_pictures._colour(card, label) for label in card.labels]
    assert len(set(colours)) == 10
    assert {label: card_pictures._colour(card, label) for label in "honvb"} == CLASS_COLOURS
    shown = pixels(card_pictures.draw_counts(card).light)
    for colour in colours:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(shown - wanted).max(axis=-1) < 0.01).sum() > 100


def test_the_galactic_plane_and_the_map_are_right():
    ra, dec = card_pictures._galactic_plane()
    assert (np.diff(ra) >= 0).all()
    # the galactic centre lies in it, its northern pole a right angle away from all of it
    centre = np.hypot((ra - 266.405) * np.cos(np.radians(dec)), dec + 28.936)
    assert centre.min() < 0.6
    pole = np.radians([192.8595, 27.1283])
    cosine = np.sin(np.radians(dec)) * np.sin(pole[1]) + np.cos(np.radians(dec)) * np.cos(
        pole[1]
    ) * np.cos(np.radians(ra) - pole[0])
    np.testing.assert_allclose(cosine, 0, atol=1e-4)
    longitude, latitude = card_pictures._to_map(np.array([90.0, 180.0, 270.0]), np.zeros(3))
    np.testing.assert_allclose(longitude, [np.pi / 2, 0, -np.pi / 2])
    np.testing.assert_array_equal(latitude, 0)


def example(number: int, **changes: object) -> CardExample:
    image = np.zeros((63, 63), np.float32)
    image[50:60, 10:30] = 1 + number
    name = f"ZTF26test{number:03d}"
    values = {"object_id": name, "alert_id": number, "magnitude": 18.5, "band": "g"}
    return CardExample(**{**values, "images": (image, image, image), **changes})


@pytest.mark.parametrize("count", [1, 2, 5])
def test_galleries_show_every_example(count):
    picture = card_pictures.draw_gallery("h", [example(n) for n in range(count)])
    assert is_drawn(picture)
    assert all(f"ZTF26test{n:03d}" in picture.alt for n in range(count))
    white = (pixels(picture.light).min(axis=-1) > 0.95) & (pixels(picture.dark).min(axis=-1) > 0.95)
    # each pixel of a stamp two by two
    assert white.sum() == count * 3 * 10 * 20 * 4
    # flipped up-down, as ZTF is shown: rows 50 to 59 of 63 are near the top
    black = pixels(picture.dark)[:, 13].max(axis=-1) < 0.05
    assert np.flatnonzero(white.any(axis=1))[0] - np.flatnonzero(black)[0] == 2 * 3


def test_stamps_that_cannot_be_read_leave_a_gap():
    science = np.full((63, 63), np.nan, np.float32)
    missing = example(0, images=(science, None, None), magnitude=None, band="fid 9")
    assert is_drawn(card_pictures.draw_gallery("moving", [missing, example(1)]))
