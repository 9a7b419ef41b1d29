"""Galactic coordinates are those of astropy."""

import numpy as np
import polars as pl
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from acai_jax.coordinates import galactic


def both(ra, dec):
    table = pl.DataFrame({"ra": ra, "dec": dec}, schema=dict.fromkeys(("ra", "dec"), pl.Float64))
    return table.select(*(each.alias(name) for each, name in zip(galactic(), "lb", strict=True)))


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0, 360), st.floats(-90, 90))
        # the galactic poles
        | st.sampled_from([(192.8594813, 27.1282512), (12.8594813, -27.1282512)]),
        min_size=1,
        max_size=50,
    )
)
def test_coordinates_are_those_of_astropy(positions):
    found = both(*zip(*positions, strict=True))
    shown = SkyCoord(found["l"].to_numpy(), found["b"].to_numpy(), unit=units.deg, frame="galactic")
    expected = SkyCoord(positions, unit=units.deg, frame="icrs").galactic
    assert shown.separation(expected).deg.max() < 1e-9  # type: ignore[union-attr]
    np.testing.assert_allclose(found["b"], expected.b.deg, rtol=0, atol=1e-9)  # type: ignore[union-attr]
    assert found["l"].is_between(0, 360).all()


def test_what_is_no_position_has_none():
    ra = [None, 10.0, np.nan, np.inf, 1e308, -0.1, 10.0, 360.1]
    dec = [1.0, None, 1.0, 1.0, 1.0, 1.0, 90.1, 0.0]
    assert both(ra, dec).rows() == [(None, None)] * len(ra)
