"""The instructions of a conversation: of its system prompts, the newest one holds.

llm puts the system prompt of the first turn among the messages, but that of a later turn
(`llm -c -s "…"`) only into `prompt.system`, which the log and the next turn don't have. Here it
becomes a message, too, so that every model gets the same instructions on this turn and all later
ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm
from llm.parts import TextPart

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is asked where there is a schema and nothing else: models need a message to answer.
_SCHEMA_ALONE = "Write JSON that fits the schema."


def record(prompt: llm.Prompt) -> None:
    """Put the system prompt of a later turn among the prompt's messages.

    llm promises that they are exactly what the model is sent, logs them, and builds the next turn
    on them.
    """
    prompt._explicit_messages = messages_of(prompt)


def messages_of(prompt: llm.Prompt) -> list[llm.Message]:
    """Return the prompt's messages, with its system prompt before the question that it is for.

    It never comes between a tool call and the result, which services refuse.
    """
    messages = prompt.messages
    if not prompt.system or prompt.system == in_force(messages):
        return messages
    end = len(messages)
    while end and messages[end - 1].role == "user":
        end -= 1
    start = end
    # A list of messages from a program may hold another system prompt for the same turn.
    while start and messages[start - 1].role == "system":
        start -= 1
    return [*messages[:start], llm.system(prompt.system), *messages[end:]]


def in_force(messages: Sequence[llm.Message]) -> str:
    """Return the newest system prompt; system messages in a row are one."""
    newest: list[str] = []
    for before, message in zip((None, *messages), messages, strict=False):
        if message.role == "system":
            text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
            newest = [*newest, text] if before and before.role == "system" else [text]
    return "\n\n".join(filter(None, newest))


def as_sent(prompt: llm.Prompt, more: Sequence[llm.Message] = ()) -> list[llm.Message]:
    """Return the messages that a model gets, followed by `more`: the system prompt comes first.

    Models answer a user's message. Without one, the system prompt is what they are asked, or to
    fill in the schema; if there is neither, the list is empty.
    """
    messages = [*messages_of(prompt), *more]
    system = in_force(messages)
    rest = [message for message in messages if message.role != "system"]
    if rest:
        return [llm.system(system), *rest] if system else rest
    if system or prompt.schema:
        return [llm.user(system or _SCHEMA_ALONE)]
    return []
