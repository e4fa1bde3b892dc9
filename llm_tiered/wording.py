"""What people and models have said, as it can be shown."""

from __future__ import annotations

import unicodedata

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


def _sign(character: str) -> str:
    control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    if control or character in _BIDIRECTIONAL:
        return f"[U+{ord(character):04X}]"
    return character
