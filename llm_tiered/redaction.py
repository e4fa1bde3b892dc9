"""A text without the API keys in it, which must never be shown."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN = "[key]"
"""What a message shows in place of a key."""

# Characters from which on a key is hidden anywhere, even inside a word.
_LONG = 12

# Characters from which on a key is hidden at all, and from which on even if it is all letters: a
# stored key such as "none" or "test", as servers without keys want one, would mangle words.
_SHORTEST = 4
_SHORTEST_WORD = 8

# Characters of a key that give it away, and of which a service repeats no more by accident.
_PART = 8

# The forms of the keys of Google, OpenAI and Anthropic, Groq, xAI and Hugging Face, also with
# their middle masked ("sk-ab***yz"), the user and password in a URL, such as a proxy's, and what
# follows the names under which keys are sent. A digit
# is asked for where an ordinary word could have the same form.
_FORMS = re.compile(
    r"\bAIza[\w-]{20,}"
    r"|\bAQ\.[\w-]{12,}"
    r"|\bsk-(?=[\w-]*\d)[\w-]{16,}"
    r"|\b(?:gsk_|xai-|hf_)\w{16,}"
    r"|\b(?:sk-|gsk_|xai-|hf_)[\w-]*(?:\*{3,}|…|\.{3})[\w*-]*"
    r"|(?<=://)[^\s/@:?#]{0,100}:[^\s/@?#]{1,300}(?=@)"
    r"|(?i:(?<=bearer ))(?:(?=\S*\d)[\w.~+/=-]{12,}|[\w-]*\*{3,}[\w*-]*)"
)
_NAMED = re.compile(
    r"""(?P<name>[?&](?:api[-_]?|access[-_]?)?(?:key|token)="""
    r"""|\b(?:x-(?:goog-)?api-key|api[-_]key)\b['"]?\s*[:=,]\s*b?['"]?(?=\S*\d))"""
    r"""(?P<key>[^\s&'"<>,;)\]}]+)""",
    re.IGNORECASE,
)
_MASKED = re.compile(r"[\w.~+/=-]{0,100}(?:\*{3,}|…|\.{3})(?:[\w.~+/=-]*[\w~+/=-])?")


def redact(text: str, keys: Iterable[str | None] = ()) -> str:
    """Return the text without the keys, whole or in part, and without anything that looks like one.

    A key may be in a URL, in JSON, or with asterisks in its middle.
    """
    known = [key.strip() for key in keys if key and key.strip()]
    for key in sorted(known, key=len, reverse=True):
        for form in _spellings(key):
            text = _without(text, form)
    text = _MASKED.sub(lambda match: _unmasked(match[0], known), text)
    for key in known:
        # What has spaces in it is words.
        if len(key) >= _LONG and len(key.split()) == 1:
            text = _without_parts(text, key)
    return _FORMS.sub(HIDDEN, _NAMED.sub(rf"\g<name>{HIDDEN}", text))


def _spellings(key: str) -> Iterator[str]:
    """The key as it is, and as URLs, JSON and Python spell it."""
    forms = (key, quote(key, safe=""), quote(key), quote_plus(key))
    yield from dict.fromkeys([*forms, json.dumps(key)[1:-1], repr(key)[1:-1]])


def _without(text: str, key: str) -> str:
    if len(key) >= _LONG:
        return text.replace(key, HIDDEN)
    if len(key) < (_SHORTEST_WORD if key.isalpha() else _SHORTEST):
        return text
    return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", HIDDEN, text)


def _without_parts(text: str, key: str) -> str:
    """The text without the pieces of the key that are too long to be there by accident."""
    pieces = {key[at : at + _PART] for at in range(len(key) - _PART + 1)}
    kept: list[str] = []
    at = 0
    while at < len(text):
        end = at
        while text[end : end + _PART] in pieces:
            end += 1
        # A piece of ordinary letters may be an ordinary word.
        if end > at and not text[at : end + _PART - 1].isalpha():
            kept.append(HIDDEN)
            at = end + _PART - 1
        else:
            kept.append(text[at])
            at += 1
    return "".join(kept)


def _unmasked(word: str, keys: Iterable[str]) -> str:
    """The word, hidden if it is a key with its middle masked, such as "sk-a***z9"."""
    start, end = re.split(r"\*{3,}|…|\.{3}", word, maxsplit=1)
    for key in keys:
        begins = len(start) > 2 and key.startswith(start)
        ends = len(end) > 2 and key.endswith(end)
        if len(key) >= _SHORTEST_WORD and (begins or ends):
            return HIDDEN
    return word
