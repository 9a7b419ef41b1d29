import dataclasses
import math

import numpy as np
import pytest
from synthetic import packet_record, stamp

from acai_jax.alerts.packet import packet_from_record
from acai_jax.alerts.preprocess import alert_arrays, feature_vector, normalise_stamp
from acai_jax.alerts.sources import read_alerts
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.errors import PacketError, StampError
from acai_jax.surveys.ztf import CUTOUTS, FEATURE_NAMES, ZTF

RNG = np.random.default_rng(1)
LARGEST = np.float32(3.4028235e38)
OTHERS = [name for name in FEATURE_NAMES if name != "drb"]


def stated(image, preset):
    """The presets' table again, in plain words: float32 all along, numpy's own norm."""
    if preset == "boom":
        padded = np.zeros((63, 63), np.float32)
        top, left = (math.ceil((63 - n) / 2) for n in image.shape)
        padded[top : top + image.shape[0], left : left + image.shape[1]] = image
        image = padded
    with np.errstate(over="ignore"):
        image = np.nan_to_num(image)
        image = image / np.linalg.norm(image)
    missing = [(0, 63 - n) for n in image.shape]
    return np.pad(image, missing, constant_values=np.float32(1e-9))


def image_with(value, where=np.s_[:4], shape=(63, 63)):
    image = RNG.normal(200, 20, shape).astype(np.float32)
    image[where] = value
    return image


IMAGES = {
    "plain": image_with(100),
    "negative": -image_with(100),
    "NaN edge": image_with(np.nan),
    "huge edge": image_with(LARGEST),
    "huge negative edge": image_with(-3.4e38, np.s_[:, -1:]),
    "overflow of the norm alone": image_with(1e20),
    "infinite pixel": image_with(np.inf, np.s_[5, 5]),
    "minus infinite pixel": image_with(-np.inf, np.s_[5, 5]),
    "NaN and infinite": np.where(RNG.random((63, 63)) < 0.5, np.nan, np.inf).astype(np.float32),
    "63x62": image_with(np.nan, shape=(63, 62)),
    "62x63": image_with(7, shape=(62, 63)),
    "40x51": image_with(np.nan, shape=(40, 51)),
    "huge 30x63": image_with(LARGEST, shape=(30, 63)),
    "one pixel": np.full((1, 1), 5, np.float32),
    "tiny pixels": image_with(0) * np.float32(1e-18),
}


@pytest.mark.parametrize("preset", ZTF.recipes)
@pytest.mark.parametrize("name", IMAGES)
def test_normalisation_as_stated(name, preset):
    before = IMAGES[name].copy()
    result = normalise_stamp(IMAGES[name], preset)
    np.testing.assert_array_equal(IMAGES[name], before)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, stated(before, preset))


@pytest.mark.parametrize("preset", ZTF.recipes)
def test_huge_edges_overflow_the_norm(preset):
    for name in ("huge edge", "infinite pixel", "overflow of the norm alone"):
        assert not normalise_stamp(IMAGES[name], preset).any()
    small = normalise_stamp(IMAGES["huge 30x63"], preset)
    assert set(np.unique(small)) == {0} if preset == "boom" else {0, np.float32(1e-9)}


@pytest.mark.parametrize("preset", ZTF.recipes)
@pytest.mark.parametrize("value", [0, -0.0, np.nan, 1e-30])
@pytest.mark.parametrize("shape", [(63, 63), (63, 60)])
def test_empty_stamp(preset, value, shape):
    with pytest.raises(StampError, match="empty stamp"):
        normalise_stamp(np.full(shape, value, np.float32), preset)


def test_channels_are_science_template_difference():
    images = [image_with(i, np.s_[i]) for i in range(3)]
    cutouts = dict(zip(CUTOUTS, map(stamp, images), strict=True))
    _, triplet, _ = alert_arrays(packet_from_record(packet_record(**cutouts)))
    for channel, image in enumerate(images):
        np.testing.assert_array_equal(triplet[..., channel], stated(image, "acai"))


def test_features_go_in_raw():
    packet = packet_from_record(packet_record(7, distpsnr1=-999.0, ndethist=123456))
    features, source = feature_vector(packet, "acai")
    assert source == "packet"
    assert features.dtype == np.float32
    expected = np.array([packet.candidate[name] for name in FEATURE_NAMES], np.float32)
    np.testing.assert_array_equal(features, expected)
    assert features[FEATURE_NAMES.index("distpsnr1")] == -999


@pytest.mark.parametrize("null", [None, math.nan])
def test_drb_policies(null):
    packet = packet_from_record(packet_record(drb=null, rb=0.25))
    features, source = feature_vector(packet, "acai")
    assert source == "braai"
    assert np.isnan(features[FEATURE_NAMES.index("drb")])
    assert np.isfinite(features[1:]).all()
    features, source = feature_vector(packet, "kowalski")
    assert (source, features[FEATURE_NAMES.index("drb")]) == ("rb", 0.25)
    with pytest.raises(PacketError, match=r"^null feature: drb$"):
        feature_vector(packet, "boom")
    without_rb = packet_from_record(packet_record(drb=null, rb=null))
    with pytest.raises(PacketError, match=r"^null feature: drb$"):
        feature_vector(without_rb, "kowalski")


@pytest.mark.parametrize("preset", ZTF.recipes)
@pytest.mark.parametrize("null", [None, math.nan])
def test_null_features_are_named(preset, null):
    for name in OTHERS:
        if name in ("ra", "dec"):
            continue  # without a position it is no packet
        packet = packet_from_record(packet_record(**{name: null}))
        with pytest.raises(PacketError, match=f"^null feature: {name}$"):
            feature_vector(packet, preset)
        del (record := packet_record())["candidate"][name]
        with pytest.raises(PacketError, match=f"^null feature: {name}$"):
            feature_vector(packet_from_record(record), preset)


@pytest.mark.parametrize("value", [1e39, -math.inf, math.inf])
def test_features_beyond_float32(value):
    packet = packet_from_record(packet_record(scorr=value))
    with pytest.raises(PacketError, match="beyond float32: scorr"):
        feature_vector(packet, "acai")


@pytest.mark.parametrize("name", CUTOUTS)
def test_a_bad_stamp_is_named(name):
    for cutout, reason in [
        (None, "null stamp"),
        (b"JPEG", "damaged stamp"),
        (stamp(np.zeros((63, 63), np.float32)), "empty stamp"),
        (stamp(np.zeros((64, 63), np.float32)), "odd-shaped stamp"),
    ]:
        packet = packet_from_record(packet_record() | {name: cutout})
        with pytest.raises(StampError, match=rf"{reason}.*\({name}\)$"):
            alert_arrays(packet)


@pytest.mark.parametrize("preset", ZTF.recipes)
def test_real_alerts_as_stated(real_data, preset):
    scored = 0
    for packet in read_alerts([real_data / "alerts", real_data / "fink_alerts.parquet"]):
        values = [packet.candidate.get(name) for name in FEATURE_NAMES]
        missing = [v is None or math.isnan(v) for v in values]
        if any(missing[1:]) or (missing[0] and preset == "boom"):
            with pytest.raises(PacketError, match="null feature"):
                alert_arrays(packet, preset)
            continue
        features, triplet, source = alert_arrays(packet, preset)
        if missing[0]:
            values[0] = math.nan if preset == "acai" else packet.candidate["rb"]
        assert source == ({"acai": "braai", "kowalski": "rb"}[preset] if missing[0] else "packet")
        np.testing.assert_array_equal(features, np.array(values, np.float32))
        images = [stated(decode_stamp(data), preset) for data in packet.cutouts]
        np.testing.assert_array_equal(triplet, np.stack(images, -1))
        scored += 1
    assert scored > 40


def test_packets_stay_frozen():
    packet = packet_from_record(packet_record())
    before = dict(packet.candidate)
    alert_arrays(packet, "kowalski")
    assert packet.candidate == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        packet.alert_id = 5
