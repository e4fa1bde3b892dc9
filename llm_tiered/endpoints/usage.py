"""The tokens of a request, as a server counts them."""

from __future__ import annotations

from typing import Any, NamedTuple

# More tokens than any request has. A number too large for the log would lose the answer.
_MOST = 10**9


class Usage(NamedTuple):
    """The tokens of the prompt, of the answer, and of the thoughts in the answer.

    A number that is missing or impossible is None. `details` have the form of llm's log.
    """

    input: int | None = None
    output: int | None = None
    reasoning: int = 0
    details: dict[str, Any] | None = None


def read(usage: Any) -> Usage:
    """Return the numbers in the `usage` of a chat completion."""
    if not isinstance(usage, dict):
        return Usage()
    # Servers that do not count report 0, but every prompt has tokens.
    prompt = _count(usage, "prompt_tokens") or None
    answer = _count(usage, "completion_tokens")
    cached = _part(usage, "prompt_tokens_details", "cached_tokens", prompt)
    reasoning = _part(usage, "completion_tokens_details", "reasoning_tokens", answer)
    details: dict[str, Any] = {}
    if cached:
        details["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoning:
        details["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return Usage(prompt, answer, reasoning, details or None)


def _count(counts: dict[str, Any], name: str) -> int | None:
    value = counts.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return value if is_count else None


def _part(usage: dict[str, Any], details: str, name: str, whole: int | None) -> int:
    """A part of a number of tokens, or 0 if it is missing or more than the whole."""
    counts = usage.get(details)
    part = _count(counts, name) if isinstance(counts, dict) else None
    return part if part and whole and part <= whole else 0
