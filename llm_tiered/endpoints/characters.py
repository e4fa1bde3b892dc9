"""Characters that a server sends in halves: surrogates in two events of its stream."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")
_FIRST_HALF = re.compile("[\ud800-\udbff]\\Z")


class WholeCharacters:
    """Joins surrogates into characters; alone, they can be neither shown nor logged."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, text: str) -> str:
        """Return the text, held back by a first half at its end; a single half becomes U+FFFD."""
        text = self._half + text
        if not _HALF.search(text):
            return text
        begun = _FIRST_HALF.search(text)
        self._half = begun[0] if begun else ""
        whole = text[: begun.start()] if begun else text
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
