"""The fields that keep a prompt private, and what might be meant as one of them.

A request that asks for privacy in words that nobody understands must not be answered as if it had
not asked.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from .failure import bad_request

if TYPE_CHECKING:
    from ..config.terms import Kept
    from .failure import ApiError

# `private` allows any machine of the user's.
FIELDS: dict[str, Kept] = {"local_only": "here", "private": "own"}

_OTHER_WORDS = re.compile(r"local(e|is|iz|time|host)")
_WORDS = ("localonly", "private", "privacy")

# What other services call fields that forbid to keep prompts or to learn from them, in one word,
# and the values with which such a field asks for nothing. OpenRouter has the first two.
_OF_OTHERS = {
    "zdr",
    "datacollection",
    "dataretention",
    "zerodataretention",
    "confidential",
    "nolog",
    "nologging",
}
_ASKS_FOR_NOTHING = (None, False, "allow")


def check(name: str, value: Any = None) -> None:
    """Raise ApiError if an unknown field, or one inside its value, might be about privacy."""
    if _means_privacy(name, value):
        raise misplaced(name)
    _check_inside(name, value)


def misplaced(name: str) -> ApiError:
    """Return the error for a field about privacy that is not where or what it should be."""
    known = " and ".join(FIELDS)
    return bad_request(
        f"{name!r} might be about privacy, and is not a field that is known here, so nothing was "
        f"answered; the fields {known} of the body are, and x-tiered-local-only and "
        "x-tiered-private in the headers",
        name,
        "unknown_privacy_field",
    )


def _check_inside(name: str, value: Any) -> None:
    """The same for what clients wrap around fields, such as {"extra_body": {"options": {…}}}."""
    waiting = [(name, value)]
    while waiting:
        place, each = waiting.pop()
        if isinstance(each, list):
            waiting += [(place, item) for item in each]
        elif isinstance(each, dict):
            for member, inner in each.items():
                if _means_privacy(member, inner):
                    raise misplaced(f"{place}.{member}")
            waiting += [(f"{place}.{member}", inner) for member, inner in each.items()]


def _means_privacy(name: str, value: Any) -> bool:
    word = re.sub(r"[^a-z]", "", name.lower())
    if word in _OF_OTHERS:
        return value not in _ASKS_FOR_NOTHING
    if "priva" in word or ("local" in word and not _OTHER_WORDS.search(word)):
        return True
    return any(SequenceMatcher(None, word, known).ratio() >= 0.8 for known in _WORDS)
