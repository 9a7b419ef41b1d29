"""Light curves out of packets of every survey."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import read_alerts
from acai_jax.labelling.light_curve import Point, light_curve, summary
from acai_jax.surveys import SURVEYS

FIELDS = {"jd": 2458900.5, "fid": 1, "magpsf": 18.5, "sigmapsf": 0.1, "isdiffpos": "f"}


def packet(*rows, survey="ztf", history="prv_candidates", fields=FIELDS) -> AlertPacket:
    histories = {history: rows}
    stamps = (None, None, None)
    return AlertPacket("x", 7, fields, stamps, histories=histories, survey=SURVEYS[survey])


def test_detections_limits_and_signs():
    row = {"jd": 2458899.5, "fid": 2, "magpsf": 19.0, "sigmapsf": 0.2, "isdiffpos": "1"}
    same_again = {**FIELDS, "magpsf": 17.0}
    limit = {"jd": 2458898.5, "fid": 7, "magpsf": None, "diffmaglim": 20.5}
    assert light_curve(packet(row, same_again, limit)) == [
        Point(-2.0, "fid 7", 20.5, None, "limit"),
        Point(-1.0, "r", 19.0, 0.2, "positive"),
        Point(0.0, "g", 18.5, 0.1, "negative"),
    ]


def test_fluxes_become_magnitudes_or_limits():
    utc = 60000.0 - 37 / 86400
    fields = {"jd": 2400000.5 + utc, "band": "r", "midpointMjdTai": 60000.0}
    fluxes = ((-1.0, 3631.0, 363.1), (-2.0, -3631.0, 363.1), (-3.0, 100.0, 363.1))
    rows = [
        {"midpointMjdTai": 60000.0 + day, "band": "g", "psfFlux": flux, "psfFluxErr": error}
        for day, flux, error in fluxes
    ]
    points = light_curve(packet(*rows, survey="lsst", history="prvDiaSources", fields=fields))
    assert [point.kind for point in points] == ["limit", "negative", "positive"]
    assert [point.days for point in points] == pytest.approx([-3, -2, -1], abs=1e-6)
    # 3631 nJy is 22.5 mag below the magnitude 0 of 3631 Jy
    assert points[2].magnitude == pytest.approx(22.5, abs=1e-3)
    assert points[2].error == pytest.approx(0.1086, abs=1e-4)
    assert points[0].magnitude == pytest.approx(22.5 + 2.5 * math.log10(2), abs=1e-3)


WILD = st.one_of(
    st.none(), st.floats(), st.integers(), st.text(max_size=3), st.booleans(), st.binary(max_size=3)
)
OF_ZTF = ("jd", "fid", "magpsf", "sigmapsf", "isdiffpos", "diffmaglim")
OF_ZTF = ("jd", "fid", "magpsf", "sigmapsf", "isdiffpos", "diffmaglim")
NAMES = st.sampled_from((*OF_ZTF, "midpointMjdTai", "band", "psfFlux", "psfFluxErr"))


@given(st.lists(st.dictionaries(NAMES, WILD), max_size=4), st.sampled_from(["ztf", "lsst"]))
def test_whatever_a_history_holds_gives_finite_points(rows, survey):
    history = SURVEYS[survey].histories[0]
    fields = {"jd": 2458900.5, "fid": 1, "band": "r"}
    points = light_curve(packet(*rows, survey=survey, history=history, fields=fields))
    assert all(math.isfinite(point.days + point.magnitude) for point in points)
    assert summary(points).startswith("Light curve: ")


@pytest.mark.parametrize("name", ["alerts", "fink_alerts.parquet", "lsst"])
def test_real_alerts_have_their_own_detection_and_a_history(real_data, name):
    alerts = itertools.islice(read_alerts(real_data / name, histories=True), 12)
    packets = [each for each in alerts if isinstance(each, AlertPacket)]
    curves = [light_curve(each) for each in packets]
    assert all(abs(curve[-1].days) < 1e-4 or curve[-1].days > 0 for curve in curves)
    assert max(map(len, curves)) > 10
