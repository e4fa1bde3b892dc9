"""Detects prompts that a server has clipped to its context, by the number of tokens it read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm.parts import TextPart, ToolResultPart

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llm.parts import Message

# Tokens per word of the prompt below which something is missing. Most tokenisers split a text at
# spaces first, so a word has at least one token: 1.3 in English, more in code and other languages.
# The few with tokens of several words ("superwords") need a quarter fewer, and chat templates only
# add tokens.
TOKENS_PER_WORD = 0.75

# Shorter prompts are not checked: they fit into the context of any server.
FEWEST_WORDS = 400


def check(messages: Sequence[Message], prompt_tokens: int | None) -> None:
    """Raise RequestError if a server has read far fewer tokens than the messages must have.

    Answers are not counted, since templates may leave out the thoughts in them.
    """
    if prompt_tokens is None:
        return
    words = sum(len(text.split()) for message in messages for text in _texts(message))
    if words >= FEWEST_WORDS and prompt_tokens < TOKENS_PER_WORD * words:
        raise RequestError(
            f"the server read only {prompt_tokens:,} tokens of a prompt of {words:,} words: "
            "its context is too short",
            fix="give the server a longer context, or shorten the prompt",
        )


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts if message.role != "assistant" else ():
        if isinstance(part, TextPart):
            yield part.text
        elif isinstance(part, ToolResultPart):
            yield part.output
