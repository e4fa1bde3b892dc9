"""How likely an answer's tokens were, beside the texts of the answer.

The form is that of OpenAI's chat completions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from llm.parts import StreamEvent

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class TextEvent(StreamEvent):
    """A piece of text as llm's models yield it, and the tokens that it consists of."""

    logprobs: list[dict[str, Any]] = field(default_factory=list)


def of_event(event: StreamEvent) -> list[dict[str, Any]]:
    """Return the tokens of an event, if its model reports them."""
    return event.logprobs if isinstance(event, TextEvent) else []


def described(token: Sequence[int], logprob: float) -> dict[str, Any]:
    """Return a token, which may be part of a character, and its natural log-probability."""
    text = bytes(token).decode("utf-8", "replace")
    return {"token": text, "logprob": logprob, "bytes": [*token]}


class Likelihood(NamedTuple):
    """How likely the tokens of an answer were: natural log-probabilities.

    `decile` is the mean of their lowest tenth.
    """

    mean: float
    lowest: float
    decile: float


def likelihood(values: Sequence[float]) -> Likelihood | None:
    """Return how likely an answer's tokens were, or None if there are none."""
    if not values:
        return None
    from statistics import fmean

    ordered = sorted(values)
    lowest_tenth = ordered[: max(1, len(ordered) // 10)]
    return Likelihood(fmean(ordered), ordered[0], fmean(lowest_tenth))
