"""A prompt that a server has cut to fit its context: found by the number of tokens it has read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm.parts import TextPart, ToolResultPart

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llm.parts import Message

# Tokens for each word of the prompt below which something is missing. Tokenisers split a text at
# spaces before anything else, so a word has one token at least: English has 1.3, code and other
# languages more. Those few with tokens of several words ("superwords") need a quarter less, and
# chat templates only add to what they are given.
TOKENS_PER_WORD = 0.75

# Words from which on a prompt is checked. No server has a context that is too small for less, and
# a word more or less does not count.
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
