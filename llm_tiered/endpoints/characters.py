"""The characters of a server's answer, which some servers cut in two."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_FIRST_HALF = re.compile("[\ud800-\udbff]\\Z")


class WholeCharacters:
    """Puts halves of characters (surrogates) together, which could neither be shown nor logged."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, text: str) -> str:
        """Return the text as far as it is whole; what is no character becomes U+FFFD."""
        text = self._half + text
        if not _HALF.search(text):
            return text
        begun = _FIRST_HALF.search(text)
        self._half = begun[0] if begun else ""
        whole = text[: begun.start()] if begun else text
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def short(value: Any) -> str:
    """Return the beginning of a value as JSON, for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
