import base64
import copy
import gzip
import math

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import SCHEMA, avro_bytes, packet_record

from acai_jax.alerts.packet import AlertPacket, packet_from_record, packet_or_reject, read_packet
from acai_jax.errors import AvroError, PacketError, Reject
from acai_jax.surveys.ztf import CUTOUTS, FEATURE_NAMES
from tests.alerts.test_avro import container


def refused(record, match):
    with pytest.raises(PacketError, match=match) as caught:
        packet_from_record(record)
    reject = packet_or_reject(record, "here")
    assert reject.reason == str(caught.value)
    assert reject.origin == "here"
    return reject


def test_message_becomes_a_packet():
    record = packet_record(2)
    packet = read_packet(avro_bytes(record))
    assert (packet.objectId, packet.candid) == ("ZTF26test002", 2_475_433_850_015_000_002)
    assert packet.candidate["scorr"] == record["candidate"]["scorr"]
    assert packet.cutouts == tuple(record[name]["stampData"] for name in CUTOUTS)
    assert packet.schemavsn == "4.02"
    assert packet.histories == {}


def test_histories_on_request():
    packet = read_packet(avro_bytes(packet_record(2)), histories=True)
    assert [row["pdiffimfilename"] for row in packet.histories["prv_candidates"]] == [
        "a.fits",
        "a.fits",
    ]
    assert "fp_hists" not in packet.histories


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_message_is_one_alert(count):
    with pytest.raises(PacketError, match="not one alert"):
        read_packet(avro_bytes(*[packet_record(i) for i in range(count)]))


def test_damaged_message():
    raw = avro_bytes(packet_record())
    for damaged in (raw[:-1], raw + b"x", b"", b"\x00"):
        with pytest.raises(AvroError):
            read_packet(damaged)


# --- candid --------------------------------------------------------------------------------------


def test_candid_in_candidate_alone():
    record = packet_record(3)
    del record["candid"]
    assert packet_from_record(record).candid == record["candidate"]["candid"]
    del record["candidate"]["candid"]
    assert refused(record, "missing field: candid").objectId == "ZTF26test003"


@pytest.mark.parametrize("candid", [0, 2**63 - 1, -(2**63), "2475433850015000009"])
def test_candid_is_exact(candid):
    assert packet_from_record(packet_record() | {"candid": candid}).candid == int(candid)


@pytest.mark.parametrize(
    "candid",
    [1.1e18, 5.0, 2**63, -(2**63) - 1, True, "12a", "", "1" * 20, "9" * 19, "٣", b"1", [1], {}],
)
def test_candid_of_a_wrong_type(candid):
    reject = refused(packet_record(4) | {"candid": candid}, "candid is .*, not a 64-bit integer")
    assert reject.candid == packet_record(4)["candidate"]["candid"]


# --- cutouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cutout", "data"),
    [
        (None, None),
        (b"bare", b"bare"),
        ({"stampData": b"inner"}, b"inner"),
        ({"fileName": "x", "stampData": None}, None),
        ({}, None),
    ],
)
def test_forms_of_a_cutout(cutout, data):
    packet = packet_from_record(packet_record() | {"cutoutTemplate": cutout})
    assert packet.cutouts[1] == data
    assert packet.cutouts[0] is not None


def test_cutout_may_be_missing():
    record = packet_record()
    del record["cutoutDifference"]
    assert packet_from_record(record).cutouts[2] is None


def test_stamps_as_base64_text():
    stamps = [packet_record()[name]["stampData"] for name in CUTOUTS]
    texts = [base64.b64encode(data).decode() for data in (*stamps[:2], gzip.decompress(stamps[2]))]
    record = packet_record() | {CUTOUTS[0]: texts[0], CUTOUTS[1]: {"stampData": texts[1]}}
    record[CUTOUTS[2]] = {"stampData": texts[2]}
    assert packet_from_record(record).cutouts == (*stamps[:2], gzip.decompress(stamps[2]))


@pytest.mark.parametrize("cutout", ["text", 7, [b"x"], {"stampData": "text"}, {"stampData": []}])
def test_cutout_of_a_wrong_type(cutout):
    refused(packet_record() | {"cutoutScience": cutout}, "wrong type: cutoutScience")


# --- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["18.5", b"1", [], {}, True, 2**63, 10**400, 1j])
@pytest.mark.parametrize("name", ["magpsf", "jd", "drb", "ndethist", "maggaia"])
def test_number_of_a_wrong_type(name, value):
    refused(packet_record(**{name: value}), f"wrong type: candidate.{name} is .* not a number")


@pytest.mark.parametrize("value", [1.5, math.inf, -math.inf, 1e300, 2.0**63])
def test_integer_fields_hold_integers(value):
    refused(packet_record(ndethist=value), "candidate.ndethist is .*, not an integer")


def test_integers_stored_as_floats():
    assert packet_from_record(packet_record(ndethist=4.0, nbad=math.nan)).candidate["nbad"] != 0


@pytest.mark.parametrize("value", [b"t", 1.0, [], {}, "\ud800", "caf\u00e9\x00"])
def test_text_of_a_wrong_type(value):
    refused(packet_record(isdiffpos=value), "wrong type: candidate.isdiffpos is .*, not text")


@pytest.mark.parametrize("value", ["t", "0", 1, None, True, "C/2020 F3 (Néowise)"])
def test_forms_of_text(value):
    assert packet_from_record(packet_record(isdiffpos=value)).candidate["isdiffpos"] == value


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("name", ["jd", "ra", "dec"])
def test_required_field_is_missing(name, value):
    refused(packet_record(**{name: value}), f"missing field: candidate.{name}")


@pytest.mark.parametrize("value", [None, 5, "ZTF", []])
def test_no_candidate(value):
    refused(packet_record() | {"candidate": value}, "missing field: candidate")


@pytest.mark.parametrize("value", [5, b"ZTF", [], "\ud800"])
def test_object_id_of_a_wrong_type(value):
    assert refused(packet_record() | {"objectId": value}, "wrong type: objectId").objectId is None


def test_no_object_id():
    refused(packet_record() | {"objectId": None}, "missing field: objectId")


@pytest.mark.parametrize("rows", [5, "rows", {}, [None], [5], [[]]])
@pytest.mark.parametrize("name", ["prv_candidates", "fp_hists"])
def test_history_of_a_wrong_type(name, rows):
    refused(packet_record() | {name: rows}, f"wrong type: {name} is not an array of records")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_field(data):
    record = packet_record(1)
    top = data.draw(st.booleans())
    target = record if top else record["candidate"]
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(ANYTHING)
    result = packet_or_reject(record)
    assert isinstance(result, AlertPacket) or result.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("jd", value) for value in (1e308, 0.0, -1.0, 59000.5, 2447892.0, 2488070)),
        *(("ra", value) for value in (-0.1, 360.1, 1e30)),
        *(("dec", value) for value in (-90.1, 91, 1e300)),
    ],
)
def test_implausible_times_and_places(name, value):
    reject = refused(packet_record(**{name: value}), f"implausible value: candidate.{name} is")
    assert reject.candid == packet_record()["candid"]


@pytest.mark.parametrize(
    ("name", "value"), [("ra", 0), ("ra", 360.0), ("dec", -90), ("dec", 90.0), ("jd", 2458000)]
)
def test_limits_are_plausible(name, value):
    assert packet_from_record(packet_record(**{name: value})).candidate[name] == value


HOSTILE_NAMES = [
    *("", "ZTF\x1b[2J", "a\nb", "\u202eZTF", "ZTF\0", "\u200b", "x" * 65, "<b>" * 500),
    *("=1+1", "+cmd|'/C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "-inf"),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_are_short_harmless_text(name):
    reject = refused(packet_record() | {"objectId": name}, "wrong type: objectId is '")
    assert reject.objectId is None
    assert reject.reason.isprintable()
    assert len(reject.reason) < 200
    if name:
        assert refused(packet_record(ssnamenr=name), "candidate.ssnamenr").reason.isprintable()


@pytest.mark.parametrize("name", ["ZTF18aawznqy", "(4179) Toutatis", "C/2020 F3", "-999.0", "+1"])
def test_names_as_they_are(name):
    assert packet_from_record(packet_record(ssnamenr=name)).candidate["ssnamenr"] == name


@pytest.mark.parametrize("value", [[0] * 10**6, "x" * 10**6, 10**5000, {"a": 1}], ids=type)
def test_messages_stay_short_whatever_the_value(value):
    for record in (packet_record(magpsf=value), packet_record() | {"candid": value}):
        assert len(refused(record, "wrong type").reason) < 200


# --- schemas and surveys -------------------------------------------------------------------------


def test_packet_of_2018():
    record = packet_record()
    del record["schemavsn"]
    for name in ("drb", "clrcoeff", "clrcounc", "neargaia", "neargaiabright"):
        del record["candidate"][name]
    packet = packet_from_record(record)
    assert packet.schemavsn is None
    assert packet.candidate.get("drb") is None


def test_later_schema_with_more_fields():
    schema = copy.deepcopy(SCHEMA)
    schema["fields"].insert(2, {"name": "brightness", "type": {"type": "map", "values": "float"}})
    schema["fields"][5]["type"]["fields"].insert(
        0, {"name": "colour", "type": ["null", {"type": "enum", "name": "c", "symbols": ["red"]}]}
    )
    record = packet_record(1) | {"brightness": {"g": 1.0}, "schemavsn": "9.0"}
    record["candidate"]["colour"] = "red"
    packet = read_packet(container(schema, record))
    assert packet.schemavsn == "9.0"
    assert packet.candidate["colour"] == "red"
    for name in FEATURE_NAMES:
        assert packet.candidate[name] == pytest.approx(record["candidate"][name], rel=1e-6)


def test_confluent_framing_may_be_anyones():
    with pytest.raises(PacketError, match=r"Confluent framing .*703.*registry") as caught:
        read_packet(b"\x00" + (703).to_bytes(4, "big") + b"\x02payload")
    assert "LSST" not in str(caught.value)


def test_real_packets(real_data):
    paths = sorted((real_data / "alerts").glob("*.avro"))
    assert paths
    for path in paths:
        packet = read_packet(path.read_bytes(), histories=True)
        with path.open("rb") as file:
            (record,) = fastavro.reader(file)
        assert packet.candid == record["candid"]
        assert packet.objectId == record["objectId"]
        assert packet.histories["prv_candidates"] == tuple(record["prv_candidates"])
        assert packet.cutouts == tuple(record[name]["stampData"] for name in CUTOUTS)


def test_reject_kind():
    assert Reject("null feature: scorr (x: y)").kind == "null feature"
