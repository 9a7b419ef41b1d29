"""LSST's alerts beside an independent reading: fastavro, astropy, numpy, and rules written anew."""

import base64
import copy
import io
import json
import math
import random
from fractions import Fraction
from typing import Any

import fastavro
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from broker import Broker
from confluent_kafka import Message
from polars.testing import assert_frame_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from streams import CLIENT, few_sizes, run, settings
from synthetic import packet_record

from acai_jax.alerts import avro
from acai_jax.alerts.framing import SchemaFolder
from acai_jax.alerts.packet import AlertPacket, packet_from_record, packet_or_reject
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.sources import Encoded, decode, read_alerts
from acai_jax.alerts.stamps import decode_stamp, decode_variance, north
from acai_jax.errors import PacketError, Reject
from acai_jax.filters.expressions import apply_filter, named_filter
from acai_jax.network.bank import HeadBank, apply_heads, create_heads
from acai_jax.network.head import Head
from acai_jax.network.head_config import HeadConfig
from acai_jax.report.pictures import draw_alert
from acai_jax.score.scorer import Scorer
from acai_jax.stream.decoding import decode_message
from acai_jax.stream.replay import replay
from acai_jax.stream.settings import ClientSettings, ReplaySettings
from acai_jax.stream.tables import scan_tables
from acai_jax.surveys import Preset, survey_of_table
from acai_jax.surveys.lsst import LSST
from acai_jax.surveys.ztf import ZTF

NAMES = LSST.inputs.features
PRESETS: tuple[Preset, ...] = ("lsst", "lsst-snr")
MOVING = {"diaObjectId": 0, "ssObjectId": 21163611628319314}
HISTORY = ("diaObject", "prvDiaSources", "prvDiaForcedSources")


# An alert made here, for rules and for tests without real ones --------------------------------


def cutout(image: np.ndarray, variance: np.ndarray | None = None) -> bytes:
    """A stamp as the pipeline writes it."""
    primary = fits.PrimaryHDU(image.astype(np.float32))
    primary.header["BUNIT"] = "nJy"
    primary.header["CRPIX1"] = image.shape[1] / 2 + 0.3
    known = np.full(image.shape, 4.0) if variance is None else variance
    noise = fits.ImageHDU(known.astype(np.float32), name="UNCERT")
    noise.header["UTYPE"] = "VarianceUncertainty"
    psf = fits.ImageHDU(np.ones((41, 41)), name="PSFIMAGE")
    out = io.BytesIO()
    fits.HDUList([primary, noise, psf]).writeto(out)
    return out.getvalue()


def record(number: Any = 0, side: Any = 30, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    source = {
        "diaSourceId": 170_112_044_513_099_777 + number,
        "diaObjectId": 313_853_517_453_852_677 + number,
        "ssObjectId": 0,
        "visit": 2_026_031_000_123,
        "detector": 94,
        "midpointMjdTai": 61109.1447367893,
        "ra": 150.25,
        "dec": 2.5,
        "band": "g",
        "snr": 25.0,
        "psfFlux": 10_000.0,
        "psfFluxErr": 400.0,
        "psfChi2": 1681.0,
        "psfNdata": 1681,
        "apFlux": 9_000.0,
        "scienceFlux": 50_000.0,
        "templateFlux": 40_000.0,
        "templateFluxErr": 20.0,
        "ixxPSF": 0.32,
        "iyyPSF": 0.32,
        "ixx": 0.4,
        "iyy": 0.3,
        "ixy": 0.0,
        "extendedness": 0.25,
        "trailLength": 1.2,
        "isDipole": False,
        "isNegative": True,
        "glint_trail": False,
        "pixelFlags": False,
        "pixelFlags_cr": True,
        "bboxSize": side,
        "reliability": 0.8,
    }
    names = LSST.cutouts
    stamps = {name: cutout(rng.normal(5, 3, (side, side))) for name in names}
    top = {"diaSourceId": source["diaSourceId"], **dict.fromkeys(HISTORY), **stamps}
    changed = {name: changes.pop(name) for name in (*HISTORY, *names) if name in changes}
    return {**top, "diaSource": {**source, **changes}, **changed}


def sound(found: AlertPacket | Reject) -> AlertPacket:
    assert isinstance(found, AlertPacket), found
    return found


def features_of(made: dict) -> dict[str, float]:
    values = alert_arrays(packet_from_record(made)).features
    return dict(zip(NAMES, values.tolist(), strict=True))


@pytest.fixture(scope="module")
def bank() -> HeadBank:
    config = HeadConfig(filters=(4, 4, 4, 4), dense_units=(4, 4), head_units=4)
    names = ("h", "o", "n", "v", "b")
    heads = create_heads(config, 5, jax.random.key(0), LSST.inputs)
    return HeadBank(heads, names, {n: {"version": "1"} for n in names}, "lsst", LSST)


# Rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"psfFlux": "bright"}, {"diaObject": 7}, {"prvDiaSources": 7}])
def test_a_reject_has_the_objects_name_whatever_is_wrong(wrong):
    for ids, name in (({}, "313853517453852677"), (MOVING, "sso21163611628319314")):
        reject = packet_or_reject(record(**wrong, **ids))
        assert isinstance(reject, Reject)
        assert "wrong type" in reject.reason
        assert (reject.alert_id, reject.object_id) == (170_112_044_513_099_777, name)


def test_the_object_has_a_name():
    assert packet_from_record(record()).object_id == "313853517453852677"
    moving = record(**MOVING)
    assert packet_from_record(moving).object_id == "sso21163611628319314"
    both = packet_from_record(record(ssObjectId=7))
    assert (both.object_id, both.fields["ssObjectId"]) == ("313853517453852677", 7)
    with pytest.raises(PacketError, match="missing field: objectId"):
        packet_from_record(record(diaObjectId=0))


def test_identifiers_keep_every_digit_and_json_may_write_them_as_text():
    as_text = json.loads(json.dumps(record(), default=lambda raw: None))
    top, source = as_text, as_text["diaSource"]
    for where, name in ((top, "diaSourceId"), (source, "diaObjectId"), (source, "ssObjectId")):
        where[name] = str(where[name])
    found = packet_from_record(as_text)
    assert (found.alert_id, found.object_id) == (170_112_044_513_099_777, "313853517453852677")
    assert found.fields["diaObjectId"] == 313_853_517_453_852_677
    reject = packet_or_reject(record(diaObjectId=3.13853517453852677e17))
    assert reject == Reject(
        "wrong type: diaSource.diaObjectId is a float, not a 64-bit integer", 170112044513099777
    )


def test_a_negative_flux_has_a_magnitude_and_a_sign():
    fields = packet_from_record(record(psfFlux=-10_000.0)).fields
    assert (fields["magpsf"], fields["isdiffpos"], fields["flux_sign"]) == (21.4, "f", -1.0)
    assert fields["snr_psf"] == 25.0
    assert packet_from_record(record()).fields["isdiffpos"] == "t"  # whatever isNegative says


NO_SCORE = {
    "psfFlux": "magpsf",
    "psfFluxErr": "sigmapsf",
    "psfChi2": "log_chi2",
    "apFlux": "ap_over_psf",
    "templateFlux": "template_snr",
    "templateFluxErr": "template_snr",
    "scienceFlux": "science_mag",
    "ixxPSF": "fwhm",
}


@pytest.mark.parametrize(("name", "feature"), NO_SCORE.items())
def test_a_detection_without_its_numbers_has_no_score(name, feature):
    for null in (None, math.nan):
        packet = packet_from_record(record(**{name: null}))
        with pytest.raises(PacketError, match=f"null feature: {feature}"):
            alert_arrays(packet)
    with pytest.raises(PacketError, match=rf"diaSource\.{name} is (a str|'x'), not a number"):
        packet_from_record(record(**{name: "x"}))


def test_a_null_of_shape_or_motion_is_a_point_sources():
    nulls = dict.fromkeys(("ixx", "iyy", "ixy", "extendedness", "trailLength", "isDipole"))
    found = features_of(record(**nulls))
    neutral = ("extendedness", "log_size", "ellipticity", "trail_length", "is_dipole")
    assert {found[name] for name in neutral} == {0.0}
    assert features_of(record(snr=None)) == features_of(record())  # 10,000 over 400


def test_no_feature_is_beyond_its_bounds_whatever_the_fluxes_are():
    wild = (0.0, 1e-38, -1e-38, 1e38, -1e38, math.inf, -math.inf, 1e300)
    for name in ("psfFlux", "psfFluxErr", "apFlux", "templateFlux", "ixx", "psfChi2", "snr"):
        for value in wild:
            found = prepare_alerts([packet_or_reject(record(**{name: value}))], "lsst", survey=LSST)
            (reason,) = found.columns["reason"]
            assert reason is None or reason.startswith(("null feature", "feature beyond float32"))


def test_association_with_a_known_object_changes_no_feature():
    first = record(diaObject={"nDiaSources": 1, "g_psfFluxMean": 10_000.001, "g_psfFluxNdata": 1})
    first["prvDiaForcedSources"] = []
    moving = record(**MOVING)
    moving |= {"ssSource": {"ssObjectId": 21163611628319314}, "mpc_orbits": {"e": 0.1}}
    assert features_of(first) == features_of(moving)
    times = [{"midpointMjdTai": 61099.1447367893 + day} for day in range(9)]
    known = {"nDiaSources": 10, "g_psfFluxMean": 5_000.0, "g_psfFluxNdata": 4}
    old = features_of(record(diaObject=known, prvDiaSources=times, prvDiaForcedSources=times))
    assert old["log_detections"] == pytest.approx(math.log(11))
    assert (old["flux_over_mean"], old["log_days"]) == (2.0, pytest.approx(math.log(11)))


def test_histories_that_are_none_are_refused():
    for name in ("prvDiaSources", "prvDiaForcedSources"):
        for wrong in (7, "text", {}, [7]):
            with pytest.raises(PacketError, match=f"wrong type: {name}"):
                packet_from_record(record(**{name: wrong}))
    for wrong in ({}, {"midpointMjdTai": "x"}, {"midpointMjdTai": math.nan}):
        with pytest.raises(PacketError, match="wrong type: prvDiaSources"):
            packet_from_record(record(prvDiaSources=[wrong]))
    with pytest.raises(PacketError, match="diaObject is not a record"):
        packet_from_record(record(diaObject=7))


def test_a_stamp_whose_middle_has_no_value_is_refused():
    image = np.random.default_rng(0).normal(0, 1, (34, 34))
    image[0] = image[:, :12] = np.nan  # the detector's edge
    assert np.isfinite(
        alert_arrays(packet_from_record(record(cutoutScience=cutout(image))))[1]
    ).all()
    image[17, 16] = np.nan
    with pytest.raises(PacketError, match=r"no centre: .* \(cutoutScience\)"):
        alert_arrays(packet_from_record(record(cutoutScience=cutout(image))))
    with pytest.raises(PacketError, match="null stamp"):
        alert_arrays(packet_from_record(record(cutoutScience=None)))
    with pytest.raises(PacketError, match="up to 102x102"):
        alert_arrays(packet_from_record(record(cutoutScience=cutout(np.ones((103, 30))))))


def test_stamps_in_units_of_their_noise():
    variance = np.full((30, 30), 4.0)
    variance[0, 0], variance[0, 1], variance[0, 2] = 0.0, np.nan, -1.0
    image = np.random.default_rng(1).normal(0, 9, (30, 30)).astype(np.float32)
    made = record(cutoutTemplate=cutout(image, variance))
    found = alert_arrays(packet_from_record(made), "lsst-snr").triplet[..., 1]
    expected = np.arcsinh(image / 2)
    expected[0, :3] = 0
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-5)
    without = fits.HDUList([fits.PrimaryHDU(image)])
    out = io.BytesIO()
    without.writeto(out)
    made["cutoutTemplate"] = out.getvalue()
    assert alert_arrays(packet_from_record(made), "lsst") is not None
    with pytest.raises(PacketError, match="holds no variance"):
        alert_arrays(packet_from_record(made), "lsst-snr")


def test_a_survey_scores_its_own_alerts_only(bank):
    ours, theirs = packet_from_record(record()), packet_from_record(packet_record(1))
    table = Scorer(bank).score_packets([ours, theirs])
    assert table["reason"].to_list() == [None, "not an LSST alert: a packet of ZTF"]
    assert table["acai_h"].is_null().to_list() == [False, True]
    assert survey_of_table(table.columns) is LSST
    config = HeadConfig(filters=(4, 4, 4, 4), dense_units=(4, 4), head_units=4)
    heads = create_heads(config, 1, jax.random.key(0), ZTF.inputs)
    scorer = Scorer(HeadBank(heads, ("h",), {"h": {"version": "1"}}))
    (row,) = scorer.score_packets([ours]).rows(named=True)
    assert (row["reason"], row["acai_h"]) == ("not a ZTF alert: a packet of LSST", None)
    assert row["candid"] == ours.alert_id
    with pytest.raises(ValueError, match="no preset 'acai'"):
        HeadBank(bank.heads, bank.classes, bank.provenance, "acai", LSST)


def test_the_fast_form_of_the_network_takes_these_stamps():
    heads = create_heads(HeadConfig(), 2, jax.random.key(0), LSST.inputs)
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(3, len(NAMES))), jnp.float32)
    triplets = jnp.asarray(rng.normal(0, 0.03, (3, 30, 30, 3)), jnp.float32)
    plain = jax.vmap(Head.__call__, in_axes=(0, None, None))(heads, features, triplets).T
    np.testing.assert_allclose(apply_heads(heads, features, triplets), plain, atol=1e-5)


def test_an_alert_is_drawn(tmp_path):
    draw_alert(packet_from_record(record(side=42)), {"h": 0.9}, tmp_path / "alert.png")
    assert (tmp_path / "alert.png").stat().st_size > 20_000


@pytest.mark.parametrize("name", LSST.filters)
def test_named_filters_run_on_a_table_of_scores(bank, name):
    alerts = [packet_from_record(record(0)), packet_from_record(record(1, ssObjectId=7))]
    table = Scorer(bank).score_packets(alerts)
    scores = {"h": 0.9, "o": 0.05, "n": 0.05, "v": 0.05, "b": 0.05}
    told = {
        "early_hosted": ({}, 1),
        "anomaly": ({"h": 0.1}, 2),
        "likely_tde": ({"n": 0.9}, 0),  # of a first detection it is not said
        "moving": ({"o": 0.9}, 2),
        "good_quality": ({}, 0),  # a pixel flag is set
    }[name]
    made = table.with_columns(
        pl.lit(value, pl.Float32).alias(f"acai_{each}")
        for each, value in (scores | told[0]).items()
    )
    assert apply_filter(made, named_filter(name, survey=LSST).where).height == told[1]


# Real alerts ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(real_data):
    return real_data / "lsst"


@pytest.fixture(scope="module")
def container(folder) -> bytes:
    return (folder / "lsst_v10_0.avro").read_bytes()


@pytest.fixture(scope="module")
def records(container) -> list[Any]:
    return list(fastavro.reader(io.BytesIO(container)))


@pytest.fixture(scope="module")
def packets(folder) -> list[AlertPacket]:
    return [sound(each) for each in read_alerts(folder / "lsst_v10_0.avro")]


@pytest.fixture(scope="module")
def matrix(packets) -> np.ndarray:
    return np.stack([alert_arrays(packet).features for packet in packets])


def test_real_alerts_have_their_identifiers_and_times_to_the_last_digit(records, packets):
    assert len(packets) == len(records) == 79
    for packet, raw in zip(packets, records, strict=True):
        source = raw["diaSource"]
        assert packet.alert_id == raw["diaSourceId"] == source["diaSourceId"]
        object_id, known = source["diaObjectId"], source["ssObjectId"]
        assert packet.object_id == (str(object_id) if object_id else f"sso{known}")
        assert packet.fields["visit"] == source["visit"]
        exact = Fraction(source["midpointMjdTai"]) + Fraction(4800001, 2) - Fraction(37, 86400)
        assert packet.fields["jd"] == float(exact)
        assert packet.fields["midpointMjdTai"] == source["midpointMjdTai"]


def test_features_of_real_alerts_are_those_of_an_independent_reading(records, matrix):
    expected = np.array([independent(raw) for raw in records], np.float64)
    assert expected.shape == matrix.shape == (79, len(NAMES))
    np.testing.assert_array_equal(matrix, expected.astype(np.float32))


def independent(raw: Any) -> list[Any]:
    """The features, with numpy and astropy, in the order of `NAMES`."""
    s: Any = raw["diaSource"]
    flux, error = np.float64(s["psfFlux"]), np.float64(s["psfFluxErr"])
    template = np.float64(s["templateFlux"])

    def asinh_mag(value):
        return 31.4 - 2.5 / np.log(10) * (np.arcsinh(value / 200) + np.log(100))

    known = s["ixx"] is not None
    size = (s["ixx"] + s["iyy"]) / (s["ixxPSF"] + s["iyyPSF"]) if known else 1.0
    ellipticity = 0.0
    if known:
        a, b, c = s["ixx"] - s["iyy"], 2 * s["ixy"], s["ixx"] + s["iyy"]
        ellipticity = np.hypot(a, b) / c
    flags = [
        name
        for name, value in s.items()
        if value is True
        and ("_flag" in name or name.startswith("pixelFlags"))
        and "injected" not in name
    ]
    dia = raw["diaObject"] or {}
    count = dia.get("nDiaSources") or 1
    earlier = [each["midpointMjdTai"] for each in raw["prvDiaSources"] or []]
    mean: Any = dia.get(f"{s['band']}_psfFluxMean")
    alone = (dia.get(f"{s['band']}_psfFluxNdata") or 1) <= 1
    place: Any = SkyCoord(s["ra"] * units.deg, s["dec"] * units.deg)
    return [
        np.log10(s["snr"]),
        31.4 - 2.5 * np.log10(np.abs(flux)),
        2.5 / np.log(10) * error / np.abs(flux),
        31.4 - 2.5 * np.log10(5 * error),
        np.sign(flux),
        np.clip(s["apFlux"] / flux, -10, 10),
        np.log10(s["psfChi2"] / s["psfNdata"]),
        np.arcsinh(template / s["templateFluxErr"]),
        asinh_mag(template),
        asinh_mag(s["scienceFlux"]),
        flux / (np.abs(flux) + np.abs(template)),
        0.0 if s["extendedness"] is None else s["extendedness"],
        np.log2(size) / 2,
        ellipticity,
        np.sqrt(8 * np.log(2)) * np.sqrt((s["ixxPSF"] + s["iyyPSF"]) / 2),
        s["bboxSize"],
        s["trailLength"] or 0.0,
        float(bool(s["isDipole"])),
        float(bool(s["glint_trail"])),
        len(flags),
        np.log1p(count),
        np.log1p(s["midpointMjdTai"] - min(earlier, default=s["midpointMjdTai"])),
        np.log1p(len(raw["prvDiaForcedSources"] or [])),
        1.0 if alone else np.clip(flux / mean, -10, 10),
        np.abs(place.galactic.b.deg),
        np.abs(place.barycentricmeanecliptic.lat.deg),
        {"g": 0.483, "i": 0.755, "z": 0.869}[s["band"]],
    ]


def test_stamps_of_real_alerts_are_those_of_astropy(records, packets):
    for packet, raw in zip(packets, records, strict=True):
        triplet, in_noise = (alert_arrays(packet, name).triplet for name in PRESETS)
        for channel, name in enumerate(LSST.cutouts):
            opened: Any = fits.open(io.BytesIO(raw[name]))
            with opened as hdus:
                image = np.asarray(hdus[0].data, np.float32)
                variance = np.asarray(hdus["UNCERT"].data, np.float32)
            np.testing.assert_array_equal(decode_stamp(raw[name], 102), image)
            np.testing.assert_array_equal(decode_variance(raw[name], 102), variance)
            low = (len(image) - 30) // 2
            middle = slice(low, low + 30)
            for found, made in (
                (triplet, image),
                (in_noise, np.arcsinh(image / np.sqrt(variance))),
            ):
                crop = np.nan_to_num(made[middle, middle])
                norm = np.sqrt(crop.ravel().dot(crop.ravel()))
                np.testing.assert_array_equal(found[..., channel], crop / norm)


def test_real_stamps_take_the_fast_path(records, monkeypatch):
    monkeypatch.setattr(fits, "open", lambda *_, **__: pytest.fail("astropy was asked"))
    for raw in records:
        for name in LSST.cutouts:
            decode_stamp(raw[name], 102)
            decode_variance(raw[name], 102)


def test_an_arrow_shows_where_north_is(records):
    for raw in records[:5]:
        with fits.open(io.BytesIO(raw["cutoutScience"])) as hdus:
            wcs = WCS(hdus[0].header)
        # the header names no kind of projection: its matrix is all that there is
        expected = np.linalg.solve(wcs.pixel_scale_matrix, (0.0, 1.0))
        np.testing.assert_allclose(north(raw["cutoutScience"]), expected / np.hypot(*expected))
    assert north(cutout(np.ones((30, 30)))) is None
    assert north(b"\x1f\x8bno gzip") is None


def test_framed_messages_of_two_schemas_on_one_topic(folder, records):
    schemas = SchemaFolder(folder / "schemas")
    by_id = {raw["diaSourceId"]: raw for raw in records}
    files = sorted((folder / "framed").glob("*.bin"))
    assert len(files) == 14
    for path in sorted(files, key=lambda path: path.name[::-1]):  # ids take turns
        message = Message(topic="lsst-alerts-v11", partition=0, offset=1, value=path.read_bytes())
        found = sound(decode_message(message, schemas))
        assert path.stem.endswith(str(found.alert_id))
        expected = packet_from_record(by_id[found.alert_id]) if found.alert_id in by_id else None
        if expected is not None:
            for ours, theirs in zip(alert_arrays(found), alert_arrays(expected), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    raw = b"\0\0\0\x04\x4c" + files[0].read_bytes()[5:]
    refused = decode_message(Message(topic="a", partition=0, offset=1, value=raw), schemas)
    assert isinstance(refused, Reject)
    assert refused.reason == f"no schema: 1100.json is not in {folder / 'schemas'}"


def test_framed_files_go_through_a_broker_to_the_table_of_the_files(
    broker: Broker, folder, bank, tmp_path
):
    topic = broker.create_topic()
    client = ClientSettings(None, CLIENT)
    sending = ReplaySettings(bootstrap_servers=broker.bootstrap, topic=topic)
    assert replay(folder / "framed", sending, client=client).delivered == 14
    scorer = few_sizes(Scorer(bank))
    given = {"schema_registry": str(folder / "schemas")}
    metrics = run(scorer, settings(broker, tmp_path, topic, **given))
    assert metrics.total("scored_total") == 7  # each comes in two schemas
    assert metrics.total("duplicates_total") == 7
    table = scan_tables(tmp_path).collect().sort("diaSourceId").drop("origin")
    expected = scorer.score(folder / "framed").drop("origin")
    assert expected["reason"].null_count() == 14
    expected = expected.unique("diaSourceId", keep="first").sort("diaSourceId")
    assert_frame_equal(table.select(expected.columns), expected, abs_tol=1e-5)


def test_parquet_of_a_broker_and_json_are_the_same_alerts(records, matrix, tmp_path):
    import pyarrow
    from pyarrow import parquet

    few = [3, 4, 60]
    chosen = [records[index] for index in few]
    schema = pyarrow.Table.from_pylist(chosen).schema
    table = pyarrow.Table.from_pylist([{**raw, "xm_simbad": "QSO"} for raw in chosen])
    assert schema.field("diaSource").type.num_fields == 98
    parquet.write_table(table, tmp_path / "fink.parquet")
    found = list(read_alerts(tmp_path / "fink.parquet"))
    for packet, index in zip(found, few, strict=True):
        assert sound(packet).alert_id == records[index]["diaSourceId"]
        np.testing.assert_array_equal(alert_arrays(sound(packet)).features, matrix[index])

    def told(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    text = json.dumps(chosen, default=told)
    (tmp_path / "alerts.json").write_text(text)
    for packet, index in zip(read_alerts(tmp_path / "alerts.json"), few, strict=True):
        np.testing.assert_array_equal(alert_arrays(sound(packet)).features, matrix[index])


def test_histories_are_read_where_they_are_asked_for(folder, records):
    alerts = read_alerts(folder / "lsst_v10_0.avro", histories=True)
    packet, raw = next(zip(alerts, records, strict=False))
    assert (
        sound(packet).histories["prvDiaSources"][0]["psfFlux"] == raw["prvDiaSources"][0]["psfFlux"]
    )


def test_damaged_packets_end_as_rejects_or_sound_arrays(container):
    rng = random.Random(5)
    each: Any = avro.one_record_containers(container)
    short = [raw for raw, _ in each if len(raw) < 200_000]
    for _ in range(200):
        raw = bytearray(rng.choice(short))
        body = avro.read_header(bytes(raw)).size
        places = [(body - 16, body + 900), (body, len(raw)), (0, body)]
        where = rng.choices(places, weights=[5, 5, 1])[0]
        for _ in range(rng.choice([1, 3, 30])):
            raw[rng.randrange(*where)] = rng.randrange(256)
        alerts = list(decode(Encoded("damaged", bytes(raw))))
        prepared = prepare_alerts(alerts, rng.choice(["lsst", "lsst-snr"]), survey=LSST)
        assert np.isfinite(prepared.features).all()
        assert np.isfinite(prepared.triplets).all()
        reasons = prepared.columns["reason"]
        assert sum(reason is None for reason in reasons) == len(prepared.accepted)
        assert not any((reason or "").startswith("internal error") for reason in reasons)


def test_values_of_any_type_end_as_rejects_or_sound_arrays(records):
    rng = random.Random(6)
    values = [None, True, "x", b"x", [], {}, 2**70, -1, math.nan, math.inf, 1e308, 0, -0.0]
    for _ in range(200):
        made = copy.copy(records[rng.randrange(len(records))])
        made["diaSource"] = dict(made["diaSource"])
        made["diaObject"] = dict(made["diaObject"] or {})
        for where in rng.choices(
            [made, made["diaSource"], made["diaSource"], made["diaObject"]], k=2
        ):
            if where:
                where[rng.choice(list(where))] = rng.choice(values)
        prepared = prepare_alerts([packet_or_reject(made)], "lsst", survey=LSST)
        assert np.isfinite(prepared.features).all()
        (reason,) = prepared.columns["reason"]
        assert reason is None or "internal error" not in reason, reason


def test_what_stands_in_for_nulls_does_not_tell_moving_objects(records, matrix):
    """A tiny head that sees only where a feature is what stands in for a null learns nothing.

    All others are made first detections, as those of a moving object are; the margin is what
    labels that mean nothing reach.
    """
    moving = np.array([raw["diaSource"]["ssObjectId"] != 0 for raw in records])
    assert moving.sum() >= 15
    blank = packet_from_record(
        record(**dict.fromkeys(("ixx", "iyy", "extendedness", "trailLength")))
    )
    stands_in = alert_arrays(blank).features
    checked = [NAMES.index(name) for name in NAMES if name.startswith(("log_d", "log_f", "flux_o"))]
    checked += [NAMES.index(name) for name in ("extendedness", "log_size", "ellipticity")]
    checked += [NAMES.index("trail_length")]
    patterns = np.stack([first_detection(raw) for raw in records])[:, checked] == stands_in[checked]
    reached = cross_validated(patterns, moving)
    rng = np.random.default_rng(0)
    chance = [cross_validated(patterns, rng.permutation(moving)) for _ in range(20)]
    assert reached <= max(chance)
    # the test can fail: where the history of the others is left as it is, or is told otherwise
    leaking = np.column_stack([patterns, matrix[:, NAMES.index("log_forced")] == 0])
    assert cross_validated(leaking, moving) > max(chance)


def first_detection(raw: dict) -> np.ndarray:
    source = raw["diaSource"]
    if source["diaObjectId"]:
        mean = {f"{source['band']}_psfFluxMean": source["psfFlux"] * (1 + 1e-7)}
        known = {"nDiaSources": 1, **mean, f"{source['band']}_psfFluxNdata": 1}
        raw = {**raw, "prvDiaSources": None, "prvDiaForcedSources": [], "diaObject": known}
    return alert_arrays(packet_from_record(raw)).features


def cross_validated(patterns: np.ndarray, labels: np.ndarray) -> float:
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    head = LogisticRegression(class_weight="balanced")
    scores = cross_val_predict(head, patterns, labels, cv=folds, method="decision_function")
    return float(roc_auc_score(labels, scores))
