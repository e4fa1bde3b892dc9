"""Numbers, amounts and text, as people read them."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Longest text that is shown whole, in characters; the log has the rest.
LONGEST = 20_000

_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def visible(text: str) -> str:
    """Return the text with its control characters spelled out, cut to LONGEST characters."""
    shown = "".join(map(_spell_out, text[:LONGEST]))
    more = len(text) - LONGEST
    return f"{shown}\n(… and {more:,} more characters)" if more > 0 else shown


def line(text: str, width: int) -> str:
    """Return the beginning of a text on one line of at most `width` characters."""
    words = " ".join(text[: 4 * width].split())
    return visible(words if len(words) <= width else f"{words[: width - 1]}…")


def dollars(amount: Decimal | None) -> str:
    """Return an amount with its cents, or two significant digits below a dollar.

    "$0" is exactly nothing, and None is "unknown".
    """
    if amount is None:
        return "unknown"
    size = abs(amount)
    # From here on, two significant digits round to a dollar.
    has_cents = size >= Decimal("0.995")
    digits = f"{size:,.2f}" if has_cents else f"{Decimal(f'{size:.2g}'):f}"
    return f"{'-' if amount < 0 else ''}${digits if size else 0}"


def cost_so_far(cost: Decimal, unpriced: int) -> str:
    """Return a growing amount with four decimals, and how many answers have no known price."""
    return f"${cost:.4f}" + (f" and {unpriced:,} without a known price" if unpriced else "")


def gigabytes(size: int | None) -> str:
    """Return bytes as "2.3 GB" or "98 MB", and None as "?"."""
    if size is None:
        return "?"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def percent(share: float | None) -> str:
    """Return a share from 0 to 1 as a percentage, and None as "unknown"."""
    return "unknown" if share is None else f"{share:.1%}"


def seconds(milliseconds: float | None) -> str:
    """Return milliseconds as seconds, and None as "unknown"."""
    return "unknown" if milliseconds is None else f"{milliseconds / 1000:,.2f} s"


def span(seconds: float) -> str:
    """Return a length of time as "7.2 s", "45 s", "12 min" or "3 h"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"


def moment(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as local time, with its date if that is not today."""
    then, today = datetime.fromtimestamp(seconds), datetime.now().date()
    return f"{then:%H:%M}" if then.date() == today else f"{then:%Y-%m-%d %H:%M}"


def number(value: float | None) -> str:
    """Return a number with thousands separators, and None as "unknown"."""
    return "unknown" if value is None else f"{value:,}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 row", "3 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1, likeness: float = 0.6) -> str:
    """Return "did you mean small?" with up to `most` of the nearest names, or "".

    `likeness`, from 0 to 1, is how much of them has to be the same.
    """
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=most, cutoff=likeness)
    return f"did you mean {' or '.join(near)}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error for an unknown name, with the nearest known names or else all of them."""
    names = list(known)
    hint = did_you_mean(name, names, most=2) or f"known are {', '.join(names)}"
    return f"unknown {kind} {name!r}: {hint}"


def _spell_out(character: str) -> str:
    control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    if control or character in _BIDIRECTIONAL:
        return f"[U+{ord(character):04X}]"
    return character
