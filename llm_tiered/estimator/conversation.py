"""The user's turns → the one that decides how hard the conversation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import llm

EASIER_TURNS = 2
"""Number of consecutive easier turns after which a conversation counts as easier."""

THIN = 0.5
"""Evidence below which a turn, such as "go on", says nothing about the conversation."""


class Turn(NamedTuple):
    """What one text of the user shows: the log-odds, the evidence for them, and the reasons."""

    log_odds: float
    evidence: float
    reasons: tuple[str, ...]


def deciding_turn(turns: Sequence[Turn]) -> Turn:
    """Return the turn that decides, from at least one.

    A harder turn decides immediately. Easier turns decide only after EASIER_TURNS of them in a row,
    and then the hardest of those. Turns with thin evidence count only if there are no others.
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
    return current._replace(reasons=("the conversation so far", *current.reasons))


def user_texts(prompt: str, messages: Iterable[llm.Message]) -> list[str]:
    """Return the texts of the user's messages in order, the prompt at the end, and only once."""
    texts = [text_of(message) for message in messages if message.role == "user"]
    if not texts or (prompt and prompt != texts[-1]):
        texts.append(prompt)
    return texts


def text_of(message: llm.Message) -> str:
    """Return the text of a message, including the output of tools."""
    texts = (getattr(part, "text", None) or getattr(part, "output", "") for part in message.parts)
    return "\n".join(text for text in texts if text)
