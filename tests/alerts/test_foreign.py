import pytest

from acai_jax.alerts.foreign import NOT_AN_ALERT, not_a_container, survey_of
from acai_jax.errors import PacketError
from acai_jax.surveys.ztf import ZTF


@pytest.mark.parametrize(
    ("name", "survey"),
    [
        ("desirt.alert", "DECam"),
        ("rapid.v00_02.alert", "Roman"),
        ("pgir.alert", "Palomar Gattini-IR"),
        ("turbo.alert", "TURBO"),
        ("ztf.alert", None),
        ("ztf_v4.alert", None),
        ("broker.enriched.Alert", None),
        ("winter", None),
        ("alert", None),
        ("", None),
        (None, None),
    ],
)
def test_the_namespace_tells_the_survey(name, survey):
    record = {"objectId": "ZTF20aaelulu", "candid": 1}
    if survey is None:
        assert survey_of(record, name) is ZTF
    else:
        with pytest.raises(PacketError, match=f"^{NOT_AN_ALERT}: a packet of {survey};"):
            survey_of(record, name)


@pytest.mark.parametrize(
    ("record", "survey"),
    [
        ({"diaSource": {}, "ssMatches": None}, "Roman"),
        ({"publisher": "DESIRT", "objectId": "c4d_260708"}, "DECam"),
        ({"objectId": "WIRC21aaaaa"}, "WIRC"),
        ({"publisher": "pgirdps"}, "Palomar Gattini-IR"),
        ({"publisher": "turbo_test"}, "TURBO"),
    ],
)
def test_without_a_namespace_fields_tell(record, survey):
    with pytest.raises(PacketError, match=f"^{NOT_AN_ALERT}: a packet of {survey};"):
        survey_of(record)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("i:candid", "candid"), ("i:objectId", "candid"), ("i:diaSourceId", "diaSourceId")],
)
def test_rows_of_a_portal_are_no_packets(name, identifier):
    with pytest.raises(PacketError, match=rf"the Fink portal \(i:{identifier}, "):
        survey_of({name: 7})


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty"),
        (bytes(512), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"/annex/objects/MD5E-s1", "git-annex"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"<html><head>", "web page"),
        (b"\0\0\0\x03\xe8\x02x", "schema id 1000"),
        (b"\0\x18ZTF18aamyaaj\0\xb2", "Fink"),
        (b"PK\3\4", "magic bytes"),
    ],
)
def test_bytes_that_are_no_container(head, said):
    assert said in not_a_container(head)
    assert "LSST" not in not_a_container(head)
