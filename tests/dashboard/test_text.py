"""Text and numbers as people read them."""

from __future__ import annotations

import pytest

from llm_tiered.dashboard import text


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
    assert text.visible(given) == shown


def test_long_text_is_cut() -> None:
    """A long text ends with how much more there is."""
    shown = text.visible("x" * (text.LONGEST + 1_234))
    assert shown.endswith("x\n(… and 1,234 more characters)")
    assert len(shown) < text.LONGEST + 40


@pytest.mark.parametrize(
    ("given", "shown"),
    [("one\n two ", "one two"), ("x" * 20, "x" * 20), ("x" * 21, "x" * 19 + "…"), ("", "")],
)
def test_a_line(given: str, shown: str) -> None:
    """The beginning of a text, on one line."""
    assert text.line(given, 20) == shown


@pytest.mark.parametrize(
    ("dollars", "unpriced", "shown"),
    [
        ("1.5", 0, "$1.50"),
        ("0", 0, "$0"),
        (None, 3, "unknown"),
        ("0.25", 3, "$0.25, price unknown for 3"),
    ],
)
def test_money(dollars: str | None, unpriced: int, shown: str) -> None:
    """What is unknown is said, and is not zero."""
    assert text.money({"dollars": dollars, "unpriced_requests": unpriced}) == shown
