"""Inputs on which readers have fallen short: each ends as it should."""

import pytest

from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.sources import read_alerts
from acai_jax.errors import Reject, SourceError
from acai_jax.stream.messages import Message, alert_messages

RIGHT = {
    "packets/schema_1_8_of_june_2018.avro": (0, 1, "packets before schema 3.0 (18 July 2018)"),
    "packets/zeros_only.avro": (0, 1, "zeros"),
    "packets/git_lfs_pointer.avro": (0, 1, "Git LFS"),
    "kafka/babamul_light.bin": (0, 1, "null stamp"),
    "json/answer_alerts_key.json": (5, 0, ""),
    "json/answer_data_key.json": (5, 0, ""),
    "json/stamps_as_plain_base64.json": (5, 0, ""),
    "tables/bomb.parquet": (0, 16, "missing field: candidate"),
    "tables/date32.parquet": (0, 1, "missing field: candidate"),
    "tables/tz.parquet": (0, 1, "missing field: candidate"),
    "tables/jd_1e308.parquet": (0, 5, "missing field: candidate"),
    "tables/hostile_text.parquet": (0, 18, "missing field: candidate"),
    "tables/fink_portal_flat.parquet": (0, 4, "flat table of the Fink portal"),
    "archives/packed_on_macos.tar.gz": (5, 0, ""),
    "archives/header_of_digits.tar.gz": (1, 1, "an extension header of 64000 bytes"),
    "archives/gnusparse.tar": (0, 1, "a sparse file"),
    "archives/hugeheader.tar": (0, 1, "an extension header of 8589934592 bytes"),
}
NAMED = ("packets/schema", "kafka/", "tables/date32", "tables/tz", "tables/jd", "tables/fink")


@pytest.mark.parametrize("name", RIGHT)
def test_outcome(cases, name):
    scored, rejected, said = RIGHT[name]
    prepared = prepare_alerts(list(read_alerts(cases / name)), "acai")
    reasons = [reason for reason in prepared.columns["reason"] if reason]
    assert (len(prepared.accepted), len(reasons)) == (scored, rejected)
    assert all(said in reason and reason.isprintable() for reason in reasons)
    if name.startswith(NAMED):
        assert None not in prepared.columns["candid"]


def test_bombs_of_lists(cases):
    found = list(read_alerts(cases / "json" / "lists_bomb.json.gz"))
    assert {r.kind for r in found if isinstance(r, Reject)} == {"too large"}
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zeros_then_schemaless_fink.bin", "a bare Avro record without its schema"),
        ("ztf_behind_a_registry.bin", r"Confluent framing \(schema id 17\)"),
    ],
)
def test_messages_in_files_are_told(cases, name, said):
    with pytest.raises(SourceError, match=said) as caught:
        list(read_alerts(cases / "kafka" / name))
    assert "LSST" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tables/date32.parquet", "OverflowError"),
        ("tables/tz.parquet", "UnknownTimeZoneError"),
        ("tables/bomb.parquet", "too large"),
        ("packets/many_records_claimed.avro", "too many records"),
    ],
)
def test_a_replay_has_the_same_limits(cases, name, reason):
    found = [message for message, _ in alert_messages(cases / name)]
    rejects = [message for message in found if isinstance(message, Reject)]
    assert all(reason in reject.reason for reject in rejects)
    assert rejects
    assert sum(isinstance(message, Message) for message in found) <= 10_000


@pytest.mark.parametrize(
    ("name", "survey"),
    [
        ("decam", "DECam"),
        ("pgir", "Palomar Gattini-IR"),
        ("roman_rapid", "Roman"),
        ("turbo", "TURBO"),
    ],
)
def test_packets_of_other_surveys_are_told_apart(real_data, name, survey):
    (reject,) = read_alerts(real_data / "lsst" / "other" / f"{name}.avro")
    assert f"a packet of {survey};" in reject.reason
