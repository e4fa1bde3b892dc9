"""Where a prompt's KV cache is worth keeping, if it can't be trimmed later."""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from .messages import render
from .prefix import common_length

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import ChatMessage

# Answers as they may begin: white space can be one token with the line break before it.
ANSWERS = ("A", "\n\nA")


def find(
    tokenizer: Any,
    chat: Sequence[ChatMessage],
    prompt: list[int],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
) -> list[int]:
    """Return the lengths of the prompt's parts that other prompts are likely to begin with.

    One ends after the system prompt and the tools, which other conversations share. One ends
    where later turns may go on differently: they repeat what opens the answer, but not what opens
    its thoughts. Every part is shorter than the prompt.
    """
    if not tokenizer.has_chat_template:
        return [len(prompt) - 1]
    lengths = {len(prompt) - _tail_length(tokenizer, chat, prompt, thinking)}
    system = list(takewhile(lambda message: message["role"] == "system", chat))
    # Without a system prompt and tools, there is only what opens a question.
    if system or tools:
        question = [*system, {"role": "user", "content": ""}]
        # A template can refuse an empty question.
        with suppress(Exception):
            start = render(tokenizer, question, tools=tools, thinking=thinking, opened=False)
            lengths.add(common_length(start, prompt[:-1]))
    return sorted(lengths - {0})


def _tail_length(
    tokenizer: Any, chat: Sequence[ChatMessage], prompt: list[int], thinking: bool | None
) -> int:
    """Return the number of tokens at the end of the prompt that later turns may not repeat.

    It is at least one.
    """
    roles = [message["role"] for message in chat]
    last_turn = chat[len(roles) - 1 - roles[::-1].index("user") :] if "user" in roles else chat
    # A template can refuse a part of a chat, such as one without the tools that it uses.
    with suppress(Exception):
        opened = render(tokenizer, last_turn, thinking=thinking)
        common = len(opened) - 1
        for answer in ANSWERS:
            next_turn: list[ChatMessage] = [
                *last_turn,
                {"role": "assistant", "content": answer},
                {"role": "user", "content": "?"},
            ]
            later = render(tokenizer, next_turn, thinking=thinking)
            common = min(common, common_length(opened, later))
        tail = opened[common:]
        if common and prompt[-len(tail) :] == tail:
            return len(tail)
    return 1
