"""Arithmetic as filters mean it: what is not a number is null.

Polars computes what stands twice in an expression twice, and `fill_nan` writes it down three times:
nested, that takes all time and memory. So each function has its operands once, or in a batch.
"""

import math

import polars as pl


def without_nan(numbers: pl.Series) -> pl.Series:
    """The numbers, null where they are none."""
    return numbers.fill_nan(None)


def quotient(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """The quotient a / b, null where b is 0."""
    return a / b.replace(0, None)


def remainder(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """The remainder of a / b, null where b is 0; it has the sign of a, that of polars b's."""
    return a.sign() * (a.abs() % b.abs().replace(0, None))


def power(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """The power of base a and exponent b, in float64."""
    return a.cast(pl.Float64).pow(b.cast(pl.Float64))


def root(a: pl.Expr) -> pl.Expr:
    """The square root, in float64."""
    return a.cast(pl.Float64).sqrt()


def logarithm(a: pl.Expr) -> pl.Expr:
    """The natural logarithm, in float64; null of 0."""
    return a.cast(pl.Float64).log().replace(-math.inf, None)


def logarithm_to_base(b: pl.Expr, a: pl.Expr) -> pl.Expr:
    """The logarithm of a to base b; of a power of b it is a whole number."""
    both = pl.struct(a=a, b=b)
    return both.map_batches(_to_base, return_dtype=pl.Float64(), is_elementwise=True)


def _to_base(rows: pl.Series) -> pl.Series:
    a, b = pl.col("a"), pl.col("b")
    found = quotient(logarithm(a), logarithm(b))
    # the logarithm of 1,000 to base 10 is 3, not 2.9999999999999996
    exact = pl.when(power(b, found.round()) == a).then(found.round()).otherwise(found)
    return rows.struct.unnest().select(exact).to_series()
