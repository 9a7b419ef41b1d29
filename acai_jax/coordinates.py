"""Galactic coordinates of a table's positions."""

from typing import Final

import polars as pl

GALACTIC: Final = (
    (-0.05487565771259163, -0.8734370519556159, -0.48383507361671546),
    (0.4941094371927268, -0.44482972122329517, 0.7469821839866676),
    (-0.8676661375596576, -0.19807633727300059, 0.45598381368730156),
)
"""Rotates directions from ICRS to galactic coordinates, as astropy does."""


def galactic(ra: str = "ra", dec: str = "dec") -> tuple[pl.Expr, pl.Expr]:
    """Galactic longitude, from 0 to 360, and latitude [deg]; null where a position is none.

    Args:
        ra: column of right ascensions, ICRS [deg].
        dec: column of declinations, ICRS [deg].

    Example:
        >>> table = pl.DataFrame({"ra": [266.41683], "dec": [-29.00781]})
        >>> [round(value, 2) for value in table.select(l=galactic()[0], b=galactic()[1]).row(0)]
        [359.94, -0.05]
    """
    on_sky = pl.col(ra).is_between(0, 360) & pl.col(dec).is_between(-90, 90)
    longitude, latitude = (
        pl.when(on_sky).then(pl.col(name)).cast(pl.Float64).radians() for name in (ra, dec)
    )
    cosine = latitude.cos()
    e, n, u = cosine * longitude.cos(), cosine * longitude.sin(), latitude.sin()
    x, y, z = (a * e + b * n + c * u for a, b, c in GALACTIC)
    # an arc sine would lose digits at the poles
    return pl.arctan2(y, x).degrees() % 360, pl.arctan2(z, (x**2 + y**2).sqrt()).degrees()
