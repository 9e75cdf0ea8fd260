"""Texts from outside, made fit for a line of a terminal or a log."""

import unicodedata

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clocknext_core.text import printable, shortened

UNFIT = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("A plain text.", "A plain text."),
        ("Grüße, 世界 🎉 \u00a0\u3000!", "Grüße, 世界 🎉 \u00a0\u3000!"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202etxt.exe\u2066", "safe\\u202etxt.exe\\u2066"),
        ("\u2028\u2029\ufeff\u200b\ud800", "\\u2028\\u2029\\ufeff\\u200b\\ud800"),
        ("a\\b'c\"d", "a\\b'c\"d"),
    ],
)
def test_what_is_not_printable_is_written_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_character_is_left_that_acts_on_a_terminal(text: str) -> None:
    shown = printable(text)
    assert UNFIT.isdisjoint(unicodedata.category(char) for char in shown)
    assert printable(shown) == shown
    shown.encode()


def test_a_long_text_is_cut() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
