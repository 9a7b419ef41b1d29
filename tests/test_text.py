import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from acai_jax.errors import AcaiError, PacketError, reason_of
from acai_jax.text import FORMULA, printable, spreadsheet_safe


@given(st.text(st.characters()), st.integers(1, 50))
def test_text_becomes_one_short_printable_line(text, most):
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= most


@given(st.text())
def test_printable_text_stays_as_it_is(text):
    if text.isprintable():
        assert printable(text, len(text) + 1) == text


@given(st.text() | st.sampled_from(["=1+1", "\t=1", "\r@x", "-1", "+a", "\uff1d1", "a=b"]))
def test_no_cell_begins_a_formula(text):
    cell = spreadsheet_safe(text)
    assert not cell.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
    assert cell in (text, f"'{text}")
    # polars reads the same pattern
    replaced = pl.Series([text]).str.replace(FORMULA, "'$0")
    assert replaced[0] == cell


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


def test_a_reason_names_what_is_wrong_or_the_type_of_what_went_wrong():
    assert reason_of(PacketError("null feature: drb")) == "null feature: drb"
    assert reason_of(AcaiError("no \x1b[31m")) == "no \\x1b[31m"
    assert reason_of(MemoryError()) == "internal error: MemoryError"
    assert reason_of(KeyError("jd\n")) == "internal error: KeyError: 'jd\\n'"
    assert reason_of(UnspeakableError()) == "internal error: UnspeakableError"
