"""Numbers, amounts and text as people read them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from llm_tiered.wording import (
    LONGEST,
    cost_so_far,
    counted,
    did_you_mean,
    dollars,
    gigabytes,
    line,
    moment,
    number,
    percent,
    seconds,
    span,
    unknown,
    visible,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\x00b\x1bc\rd", "a[U+0000]b[U+001B]c[U+000D]d"),
        ("\x7f \x9b", "[U+007F] [U+009B]"),
        ("\u202eevil\u2066", "[U+202E]evil[U+2066]"),
        ("naïve 日本語 🎹", "naïve 日本語 🎹"),
    ],
)
def test_control_characters_can_be_seen(text: str, shown: str) -> None:
    """Characters that are invisible or reverse the text are spelled out."""
    assert visible(text) == shown


def test_long_text_is_cut() -> None:
    """A long text ends with the number of characters left out."""
    shown = visible("x" * (LONGEST + 1_234))
    assert shown.endswith("x\n(… and 1,234 more characters)")
    assert len(shown) < LONGEST + 40


@pytest.mark.parametrize(
    ("text", "shown"),
    [("one\n two ", "one two"), ("x" * 20, "x" * 20), ("x" * 21, "x" * 19 + "…"), ("", "")],
)
def test_a_line(text: str, shown: str) -> None:
    """The beginning of a text, on one line."""
    assert line(text, 20) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unknown"),
        ("0", "$0"),
        ("0.0038", "$0.0038"),
        ("0.99", "$0.99"),
        ("0.99998", "$1.00"),
        ("1", "$1.00"),
        ("-1234.5", "-$1,234.50"),
    ],
)
def test_dollars(amount: str | None, shown: str) -> None:
    """An amount has cents, or two significant digits where it is smaller than a dollar."""
    assert dollars(None if amount is None else Decimal(amount)) == shown


def test_a_growing_cost() -> None:
    """The cost of a batch has a constant width, and says how many answers it leaves out."""
    assert cost_so_far(Decimal("0.5"), 0) == "$0.5000"
    assert cost_so_far(Decimal(0), 1_234) == "$0.0000 and 1,234 without a known price"


@pytest.mark.parametrize(
    ("size", "shown"), [(None, "?"), (98_400_000, "98 MB"), (2_310_000_000, "2.3 GB")]
)
def test_sizes(size: int | None, shown: str) -> None:
    """Bytes are shown in decimal units."""
    assert gigabytes(size) == shown


def test_figures() -> None:
    """Shares, times and counts have their units, and None is unknown."""
    assert (percent(0.256), seconds(1_234_567), number(12_345)) == ("25.6%", "1,234.57 s", "12,345")
    assert {percent(None), seconds(None), number(None)} == {"unknown"}


def test_a_count_agrees_with_its_noun() -> None:
    """One is singular, everything else is plural."""
    assert [counted(count, "row") for count in (0, 1, 1_000)] == ["0 rows", "1 row", "1,000 rows"]


def test_the_nearest_names() -> None:
    """A misspelt name is corrected; a name that resembles none gets the whole list."""
    tiers = ["small", "medium", "cloud"]
    assert did_you_mean("smal", tiers) == "did you mean small?"
    assert did_you_mean("xyz", tiers) == ""
    assert unknown("tier", "smal", tiers) == "unknown tier 'smal': did you mean small?"
    assert unknown("tier", "xyz", tiers) == "unknown tier 'xyz': known are small, medium, cloud"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (7.2, "7.2 s"), (42.4, "42 s"), (600, "10 min"), (36_000, "10 h")],
)
def test_spans(seconds: float, text: str) -> None:
    """A length of time is given in the unit that suits it."""
    assert span(seconds) == text


def test_moments() -> None:
    """A moment is local time, with its date unless it is today."""
    now = datetime.now()
    assert moment(now.timestamp()) == f"{now:%H:%M}"
    assert moment(datetime(2026, 3, 1, 7, 5).timestamp()) == "2026-03-01 07:05"
