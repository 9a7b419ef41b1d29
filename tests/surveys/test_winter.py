"""WINTER's alerts: as packets made here, and a real one beside fastavro and astropy."""

import gzip
import io

import fastavro
import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from synthetic import packet_record, stamp

from acai_jax.alerts.lookup import read_stamps
from acai_jax.alerts.packet import AlertPacket, packet_from_record, packet_or_reject
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.sources import read_alerts
from acai_jax.datasets.gather.records import example
from acai_jax.datasets.records import packet_of
from acai_jax.errors import PacketError, Reject
from acai_jax.filters.expressions import apply_filter, named_filter
from acai_jax.report.pictures import draw_alert
from acai_jax.surveys import survey_of_table
from acai_jax.surveys.winter import WINTER
from acai_jax.surveys.ztf import ZTF

NAMES = WINTER.inputs.features


def record(number: int = 1, **changes: object) -> dict:
    rng = np.random.default_rng(number)
    made = packet_record(number)
    made["objectid"] = f"WNTR24aaaa{chr(97 + number)}"
    del made["objectId"]
    images = rng.normal(100, 1, (3, 81, 81)).astype(np.float32)
    for old, new, image in zip(ZTF.cutouts, WINTER.cutouts, images, strict=True):
        del made[old]
        made[new] = stamp(image)
    own = {"fid": 2, "isdiffpos": True, "nmtchtm": 3, "ssdistnr": None}
    return {**made, "candidate": {**made["candidate"], **own, **changes}}


def sound(found: AlertPacket | Reject) -> AlertPacket:
    assert isinstance(found, AlertPacket), found
    return found


def test_a_packet_becomes_arrays_of_the_stamps_middle():
    packet = packet_from_record(record(), schema_name="winter.alert")
    assert (packet.survey, packet.object_id) == (WINTER, "WNTR24aaaab")
    arrays = alert_arrays(packet)
    assert arrays.triplet.shape == (63, 63, 3)
    image = np.random.default_rng(1).normal(100, 1, (3, 81, 81)).astype(np.float32)[0, 9:72, 9:72]
    np.testing.assert_allclose(arrays.triplet[..., 0], image / np.linalg.norm(image), atol=1e-6)
    with pytest.raises(PacketError, match="null feature: scorr"):
        alert_arrays(packet_from_record(record(scorr=None)))


def test_what_lacks_a_field_says_so():
    reject = packet_or_reject({**record(), "objectid": None}, schema_name="winter.alert")
    assert isinstance(reject, Reject)
    assert reject.reason == "missing field: objectid"


def test_tables_and_datasets_are_told_from_ztfs():
    packet = packet_from_record(record(ssdistnr=3.0))
    columns = prepare_alerts([packet], "winter", survey=WINTER).columns
    assert survey_of_table(columns) is WINTER
    assert survey_of_table(["candid", "objectId"]) is ZTF
    table = pl.DataFrame({name: values for name, values in columns.items() if name != "origin"})
    scores = pl.DataFrame({f"acai_{name}": [0.9 if name == "o" else 0.0] for name in "honvb"})
    table = pl.concat([table, scores], how="horizontal")
    moving = named_filter("moving", survey=WINTER).where
    assert len(apply_filter(table.with_columns(ndethist=1), moving)) == 1
    assert len(apply_filter(table, "is_known_ss_object AND is_positive_subtraction")) == 1
    kept = example(packet, "v", "winter", stamps=True)
    numbers = dict(zip(WINTER.dataset_numbers, kept["candidate"].tolist(), strict=True))
    back = packet_of({**kept, "candidate": numbers})
    assert (back.survey, back.alert_id) == (WINTER, packet.alert_id)
    np.testing.assert_array_equal(alert_arrays(back).triplet, alert_arrays(packet).triplet)


def test_the_real_packet(real_data, tmp_path):
    path = real_data / "lsst" / "other" / "winter.avro"
    packet = sound(next(read_alerts(path)))
    (theirs,) = fastavro.reader(io.BytesIO(path.read_bytes()))
    assert isinstance(theirs, dict)
    assert (packet.alert_id, packet.object_id) == (theirs["candid"], theirs["objectid"])
    arrays = alert_arrays(packet)
    expected = [theirs["candidate"][name] for name in NAMES]
    np.testing.assert_array_equal(arrays.features, np.array(expected, np.float32))
    for channel, name in enumerate(WINTER.cutouts):
        image = fits.getdata(io.BytesIO(gzip.decompress(theirs[name])))
        middle = np.nan_to_num(np.asarray(image, np.float32)[9:72, 9:72])
        normalised = middle / np.linalg.norm(middle)
        np.testing.assert_allclose(arrays.triplet[..., channel], normalised, rtol=2e-6)
    stamps = read_stamps([path], [packet.alert_id])[packet.alert_id]
    assert [image.shape for image in stamps if image is not None] == [(81, 81)] * 3
    out = tmp_path / "alert.png"
    draw_alert(packet, {}, out, reason="no heads for WINTER", preset="winter")
    assert out.read_bytes().startswith(b"\x89PNG")
