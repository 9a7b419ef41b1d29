"""LSST's alerts as simulated: packets that others read, pixels that hold what the fields say."""

import collections
import csv
import io
import itertools

import fastavro
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import BarycentricTrueEcliptic, SkyCoord
from astropy.io import fits

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.sources import read_alerts
from acai_jax.alerts.stamps import decode_stamp, decode_variance
from acai_jax.classes import CLASSES
from acai_jax.commands.main import main
from acai_jax.datasets.builders.lsst_acai import Builder
from acai_jax.datasets.records import Records
from acai_jax.errors import AcaiError
from acai_jax.simulate import simulate_packets, write_alerts
from acai_jax.simulate.lsst_schema import alert_schema
from acai_jax.surveys.lsst import LSST

COUNT = 120
MIXED = dict.fromkeys(CLASSES, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lsst")
    write_alerts(path, COUNT, seed=3, proportions=MIXED, survey="lsst", num_workers=0)
    return path


@pytest.fixture(scope="module")
def records(folder):
    found = []
    for path in sorted((folder / "alerts").glob("*.avro")):
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            assert isinstance(reader.writer_schema, dict)
            assert reader.writer_schema["name"] == "lsst.v11_1.alert"
            found += reader
    return found


@pytest.fixture(scope="module")
def packets(folder):
    found = list(read_alerts(folder / "alerts"))
    assert all(isinstance(each, AlertPacket) for each in found)
    return found


@pytest.fixture(scope="module")
def labels(folder):
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_reader_takes_the_packets(records, packets, labels):
    assert len(records) == len(packets) == len(labels) == COUNT
    for raw, packet, row in zip(records, packets, labels, strict=True):
        assert packet.survey is LSST
        assert packet.alert_id == raw["diaSourceId"] == int(row["candid"])
        assert packet.object_id == row["oid"]
        for preset in ("lsst", "lsst-snr"):
            arrays = alert_arrays(packet, preset)
            assert np.isfinite(arrays.features).all()
            assert np.isfinite(arrays.triplet).all()
    assert len({packet.alert_id for packet in packets}) == COUNT
    counts = collections.Counter(row["label"] for row in labels)
    assert all(20 <= counts[name] <= 30 for name in CLASSES)


def test_the_schema_has_what_a_registry_says(real_data):
    import json

    theirs = json.loads((real_data / "lsst" / "schemas" / "1101.json").read_text())
    assert shape(alert_schema()) == shape(theirs)


def shape(schema):
    """Names and types, without namespaces and documentation."""
    if isinstance(schema, list):
        return [shape(each) for each in schema]
    if isinstance(schema, str):
        return schema.rpartition(".")[2]
    if schema["type"] == "record":
        return [(each["name"], shape(each["type"])) for each in schema["fields"]]
    return shape(schema["items"]) if schema["type"] == "array" else schema["type"]


def test_the_same_seed_makes_the_same_alerts():
    first, again = (list(simulate_packets(6, seed=9, survey="lsst")) for _ in range(2))
    assert first == again
    assert first != list(simulate_packets(6, seed=10, survey="lsst"))
    with pytest.raises(AcaiError, match="no simulation of 'winter'; there are: ztf, lsst"):
        next(simulate_packets(1, survey="winter"))


def test_stamps_are_fits_files_of_three_planes(records):
    for raw in records[:30]:
        side = min(63, max(30, raw["diaSource"]["bboxSize"]))
        for name in LSST.cutouts:
            with fits.open(io.BytesIO(raw[name])) as hdus:
                hdus.verify("exception")
                assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "PSFIMAGE"]
                image, variance, psf = (hdu.data for hdu in hdus)
                assert image.shape == variance.shape == (side, side)
                assert psf.shape == (41, 41)
                assert psf.sum() == pytest.approx(1)
                np.testing.assert_array_equal(decode_stamp(raw[name], 102), image)
                np.testing.assert_array_equal(decode_variance(raw[name], 102), variance)


def test_noise_is_what_the_variance_says(records):
    ratios = []
    for raw in records:
        image = decode_stamp(raw["cutoutDifference"], 102)
        variance = decode_variance(raw["cutoutDifference"], 102)
        edge = (image / np.sqrt(variance))[[0, 1, -2, -1]].ravel()
        edge = edge[np.isfinite(edge)]
        if len(edge):
            ratios.append(1.4826 * np.median(np.abs(edge - np.median(edge))))
    assert np.median(ratios) == pytest.approx(1.0, abs=0.1)


def test_fluxes_are_in_the_pixels(records, labels):
    checked = 0
    for raw, row in zip(records, labels, strict=True):
        source = raw["diaSource"]
        if row["label"] != "v" or source["snr"] < 40 or source["isDipole"]:
            continue
        image = decode_stamp(raw["cutoutDifference"], 102)
        rows, columns = np.indices(image.shape) - (image.shape[0] - 1) / 2
        inside = image[np.hypot(rows, columns) < 12.0]
        error = source["apFluxErr"]
        assert inside.sum() == pytest.approx(source["psfFlux"], rel=0.15, abs=5 * error)
        checked += 1
    assert checked > 3


def test_moving_objects_leave_no_history_and_have_a_place_in_the_catalogue(records, packets):
    known = [
        (raw, packet)
        for raw, packet in zip(records, packets, strict=True)
        if raw["ssSource"] is not None
    ]
    assert known
    for raw, packet in known:
        assert packet.object_id == f"sso{raw['diaSource']['ssObjectId']}"
        assert raw["diaObject"] is None
        assert raw["prvDiaSources"] is None
        at = SkyCoord(packet.fields["ra"], packet.fields["dec"], unit="deg")
        ours, ecliptic = raw["ssSource"], at.transform_to(BarycentricTrueEcliptic())
        assert ours["galLon"] == pytest.approx(at.galactic.l.deg, abs=0.01)
        assert ours["galLat"] == pytest.approx(at.galactic.b.deg, abs=0.01)
        found = SkyCoord(ours["eclLambda"] * units.deg, ours["eclBeta"] * units.deg)
        expected = SkyCoord(ecliptic.lon, ecliptic.lat)
        assert found.separation(expected).deg < 0.1


def test_an_object_s_history_goes_on(records):
    later = 0
    for before, after in itertools.pairwise(records):
        for raw in (before, after):
            rows = raw["prvDiaSources"] or []
            times = [row["midpointMjdTai"] for row in rows]
            assert times == sorted(times)
            assert all(time <= raw["diaSource"]["midpointMjdTai"] for time in times)
            if raw["diaObject"] is not None:
                assert len(rows) <= raw["diaObject"]["nDiaSources"] - 1
        if before["diaSource"]["diaObjectId"] == after["diaSource"]["diaObjectId"] != 0:
            later += 1
            assert after["diaObject"]["nDiaSources"] > before["diaObject"]["nDiaSources"]
            mjds = [each["diaSource"]["midpointMjdTai"] for each in (before, after)]
            assert mjds == sorted(mjds)
            listed = [row["midpointMjdTai"] for row in after["prvDiaSources"]]
            assert mjds[0] in listed or len(listed) == 30
    assert later > 10


def test_features_lie_where_those_of_real_alerts_do(packets, real_data):
    """Real alerts of the sample are bright, from a few fields: their medians, not their spread."""
    real = read_alerts(real_data / "lsst" / "lsst_v10_0.avro")
    theirs = np.median([alert_arrays(each).features for each in real], axis=0)  # type: ignore[arg-type]
    ours = np.array([alert_arrays(each).features for each in packets])
    low, high = np.quantile(ours, (0.02, 0.98), axis=0)
    for name, value, least, most in zip(
        LSST.inputs.features, theirs.tolist(), low.tolist(), high.tolist(), strict=True
    ):
        assert least <= value <= most, name


def test_the_command_and_the_dataset(tmp_path, monkeypatch):
    arguments = ["simulate", "--survey", "lsst", "--count", "4", "--out", str(tmp_path / "s")]
    monkeypatch.setattr("sys.argv", ["acai-jax", *arguments, "--workers", "0"])
    main()
    assert len(list(read_alerts(tmp_path / "s" / "alerts"))) == 4
    config = Builder.builder_configs["simulated"].like(count=12, seed=2)
    builder = Builder(data_dir=tmp_path, config=config, file_format="array_record", num_workers=0)
    builder.download_and_prepare()
    assert builder.info.metadata["records"] == 12
    names = {split: len(Records(builder.data_path, split)) for split in builder.info.splits}
    assert sum(names.values()) == 12
