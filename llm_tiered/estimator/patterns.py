"""Patterns that are compiled when they are first needed, so that no import waits for them."""

from __future__ import annotations

import re
from functools import cache


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready for use; its flags stand in it."""
    return re.compile(pattern)


def count(pattern: str, text: str) -> int:
    """How often the pattern is in the text."""
    return len(compiled(pattern).findall(text))
