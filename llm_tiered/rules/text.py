"""A text as rules look at it: what they need of it is worked out once, when it is first needed."""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from ..config.rules import folded
from .secrets import secrets_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.rules import Secret

# The blocks of scripts that are written without spaces between words, or with endings attached:
# Thai and Lao, Myanmar, Khmer, Hangul, Han and kana.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2E80, 0xA4CF)),
    *((0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),
)


class RuleText:
    """A text and what rules need to know about it."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def secrets(self) -> frozenset[Secret]:
        """The kinds of secrets in the text."""
        return secrets_in(self.text)

    def has_phrase(self, phrases: Iterable[str]) -> bool:
        """Return whether one of the phrases, as `folded` gives them, stands in the text."""
        text = self._folded
        return any(phrase in text and _stands_alone(phrase, text) for phrase in phrases)

    def share_of(self, scripts: Iterable[str]) -> float:
        """Return the share of the text's letters that belong to one of the scripts."""
        letters = self._count(r"\p{L}")
        inside = sum(self._count(rf"\p{{Script={script}}}&&\p{{L}}") for script in scripts)
        return inside / letters if letters else 0.0

    def _count(self, characters: str) -> int:
        if characters not in self._counts:
            self._counts[characters] = len(_letters(characters).findall(self.text))
        return self._counts[characters]

    @cached_property
    def _counts(self) -> dict[str, int]:
        return {}

    @cached_property
    def _folded(self) -> str:
        return folded(self.text)


@cache
def _letters(characters: str) -> Any:
    import regex  # type: ignore[import-untyped]  # it has no types of its own

    return regex.compile(f"[{characters}]", regex.VERSION1)


def _stands_alone(phrase: str, text: str) -> bool:
    """Whether the phrase stands in the text as words of its own, not as a part of longer ones."""
    at = text.find(phrase)
    while at >= 0:
        end = at + len(phrase)
        inside = _one_word(text[at - 1 : at], phrase[0]) or _one_word(phrase[-1], text[end:][:1])
        if not inside:
            return True
        at = text.find(phrase, at + 1)
    return False


def _one_word(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to the same word."""
    letters = [character.isalnum() or character == "_" for character in (before, after)]
    return all(letters) and not any(map(_is_unspaced, (before, after)))


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= _UNSPACED[0][0] and any(first <= code <= last for first, last in _UNSPACED)
