"""Regular expressions that are compiled on first use, so that no import waits for them."""

from __future__ import annotations

import re
from functools import cache


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the compiled pattern; flags are part of its text, as in `(?m)`."""
    return re.compile(pattern)


def count(pattern: str, text: str) -> int:
    """Return how often the pattern occurs in the text."""
    return len(compiled(pattern).findall(text))
