"""Sets of words, and regular expressions that are compiled on first use."""

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


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text that are separated by white space."""
    return frozenset(words.split())
