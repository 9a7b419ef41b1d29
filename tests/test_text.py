from hypothesis import given
from hypothesis import strategies as st

from acai_jax.errors import AcaiError, PacketError, reason_of
from acai_jax.text import printable


@given(st.text(st.characters()), st.integers(1, 50))
def test_text_becomes_one_short_printable_line(text, most):
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= most


@given(st.text())
def test_printable_text_stays_as_it_is(text):
    if text.isprintable():
        assert printable(text, len(text) + 1) == text


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


def test_a_reason_names_what_is_wrong_or_the_type_of_what_went_wrong():
    assert reason_of(PacketError("null feature: drb")) == "null feature: drb"
    assert reason_of(AcaiError("no \x1b[31m")) == "no \\x1b[31m"
    assert reason_of(MemoryError()) == "internal error: MemoryError"
    assert reason_of(KeyError("jd\n")) == "internal error: KeyError: 'jd\\n'"
    assert reason_of(UnspeakableError()) == "internal error: UnspeakableError"
