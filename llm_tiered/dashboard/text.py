"""Text and numbers as people read them."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Any

from ..log import prices

# Letters of a text that a page shows; the row in the log has all of them.
LONGEST = 20_000

_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def visible(text: str) -> str:
    """The text with its control characters as signs that can be seen, and cut if it is long."""
    shown = "".join(map(_sign, text[:LONGEST]))
    more = len(text) - LONGEST
    return f"{shown}\n(… and {more:,} more characters)" if more > 0 else shown


def line(text: str, width: int) -> str:
    """The beginning of a text on one line."""
    words = " ".join(text[: 4 * width].split())
    return visible(words if len(words) <= width else f"{words[: width - 1]}…")


def money(amount: dict[str, Any]) -> str:
    """Dollars out of a report; what is not known is said."""
    more = "" if amount["dollars"] is None else unpriced(amount)
    return dollars(amount) + (more and f", {more}")


def dollars(amount: dict[str, Any]) -> str:
    """Dollars out of a report, of those requests whose price is known."""
    return prices.dollars(None if amount["dollars"] is None else Decimal(amount["dollars"]))


def unpriced(amount: dict[str, Any]) -> str:
    """For how many requests the price is not known; nothing where it is for all."""
    requests = amount["unpriced_requests"]
    return f"price unknown for {requests:,}" if requests else ""


def percent(share: float | None) -> str:
    """A share that goes from 0 to 1."""
    return "unknown" if share is None else f"{share:.1%}"


def seconds(milliseconds: float | None) -> str:
    """A time."""
    return "unknown" if milliseconds is None else f"{milliseconds / 1000:,.2f} s"


def number(value: float | None) -> str:
    """A whole number."""
    return "unknown" if value is None else f"{value:,}"


def _sign(character: str) -> str:
    control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    if control or character in _BIDIRECTIONAL:
        return f"[U+{ord(character):04X}]"
    return character
