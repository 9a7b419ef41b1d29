"""Whose a packet is."""

import copy
import pickle

import pytest

from acai_jax.surveys import MARKS, SURVEYS, recognise
from acai_jax.surveys.others import OTHERS
from acai_jax.surveys.ztf import ZTF

NOTHING = {"objectId": "ZTF20aaelulu", "publisher": "ZTF (www.ztf.caltech.edu)"}


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.title)
def test_every_sign_of_another_survey_is_enough(other):
    for word in other.signs.namespaces:
        assert recognise(f"{word}.v1_0.alert", NOTHING) is other
        assert recognise(f"x.{word}", NOTHING) is ZTF
    for name in other.signs.fields:
        assert name in MARKS
        assert recognise(None, {**NOTHING, name: None}) is other
    for beginning in other.signs.beginnings:
        assert recognise("a.b", {**NOTHING, "objectId": f"{beginning.lower()}26"}) is other
        assert recognise("a.b", {"publisher": f"{beginning} team"}) is other


def test_a_packet_without_a_sign_is_ztfs():
    for name in ("ztf.alert", "ztf_v4.alert", "broker.enriched.Alert", "winter", "", None):
        assert recognise(name, NOTHING) is ZTF
    for strange in (7, None, b"TURBO", ["TURBO"]):
        assert recognise(None, {"publisher": strange, "objectId": strange}) is ZTF


@pytest.mark.parametrize("survey", SURVEYS.values(), ids=str)
def test_a_survey_is_one_object_wherever_it_is_sent(survey):
    assert SURVEYS[survey.name] is survey
    assert pickle.loads(pickle.dumps(survey)) is survey
    assert copy.deepcopy(survey) is survey
