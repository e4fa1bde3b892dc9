"""What was said, as it can be shown."""

from __future__ import annotations

import pytest

from llm_tiered.wording import LONGEST, line, visible


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\x00b\x1bc\rd", "a[U+0000]b[U+001B]c[U+000D]d"),
        ("\x7f \x9b", "[U+007F] [U+009B]"),
        ("\u202eevil\u2066", "[U+202E]evil[U+2066]"),
        ("naïve 日本語 🎹", "naïve 日本語 🎹"),
    ],
)
def test_control_characters_can_be_seen(given: str, shown: str) -> None:
    """What would be invisible, or turn the text around, is a sign of its own."""
    assert visible(given) == shown


def test_long_text_is_cut() -> None:
    """A long text ends with how much more there is."""
    shown = visible("x" * (LONGEST + 1_234))
    assert shown.endswith("x\n(… and 1,234 more characters)")
    assert len(shown) < LONGEST + 40


@pytest.mark.parametrize(
    ("given", "shown"),
    [("one\n two ", "one two"), ("x" * 20, "x" * 20), ("x" * 21, "x" * 19 + "…"), ("", "")],
)
def test_a_line(given: str, shown: str) -> None:
    """The beginning of a text, on one line."""
    assert line(given, 20) == shown
