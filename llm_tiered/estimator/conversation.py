"""The user's turns → the one that says how hard the conversation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import llm

EASIER_TURNS = 2
"""Easier turns in a row after which a conversation goes down."""

THIN = 0.5
"""Evidence below which a turn, such as "go on", says nothing about the conversation."""


class Turn(NamedTuple):
    """What one text of the user says: the log-odds, the evidence for them, and the reasons."""

    log_odds: float
    evidence: float
    reasons: tuple[str, ...]


def hardest(turns: Sequence[Turn]) -> Turn:
    """The turn that counts: up at once, down only after two easier turns, to the harder of them.

    Thin turns change nothing, unless there are no others. `turns` has at least one.
    """
    telling = [turn for turn in turns if turn.evidence >= THIN]
    if not telling:
        return turns[-1]
    current, easier = telling[0], list[Turn]()
    for turn in telling[1:]:
        easier = [*easier, turn] if turn.log_odds < current.log_odds else []
        if not easier:
            current = turn
        elif len(easier) == EASIER_TURNS:
            current, easier = max(easier, key=lambda turn: turn.log_odds), []
    if current is turns[-1]:
        return current
    reason = "the conversation so far"
    return current._replace(reasons=(reason, *current.reasons))


def user_texts(prompt: str, messages: Iterable[llm.Message]) -> list[str]:
    """What the user said, in order, with the prompt at the end, once."""
    texts = [text_of(message) for message in messages if message.role == "user"]
    if not texts or (prompt and prompt != texts[-1]):
        texts.append(prompt)
    return texts


def text_of(message: llm.Message) -> str:
    """The text of a message: what was said, and what tools gave back."""
    texts = (getattr(part, "text", None) or getattr(part, "output", "") for part in message.parts)
    return "\n".join(text for text in texts if text)
