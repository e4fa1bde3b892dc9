"""Earlier turns that come from the log, as responses of a conversation.

`llm -c` loads a conversation as messages. Plugins from before llm 0.32 read its responses instead,
and would answer as if nothing had been said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
from llm.parts import AttachmentPart, TextPart, ToolResultPart

from .. import instructions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llm.models import _BaseConversation, _BaseModel


def responses_before(
    conversation: _BaseConversation, prompt: llm.Prompt, inner: _BaseModel
) -> list[Any]:
    """Return all responses of a conversation before a prompt, also those that are only messages."""
    responses = conversation.responses
    first = responses[0].prompt if responses else prompt
    return [*_turns(first.messages, inner), *responses]


def _turns(messages: Sequence[llm.Message], inner: _BaseModel) -> Iterator[Any]:
    asynchronous = isinstance(inner, (llm.AsyncModel, llm.AsyncKeyModel))
    kind: Any = llm.AsyncResponse if asynchronous else llm.Response
    begin = 0
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        kept = {"model": inner.model_id, "prompt": {}, "messages": [message.to_dict()]}
        response = kind.from_dict(kept, model=inner)
        response.prompt = _prompt(messages[begin:at], messages[:at], inner)
        response.attachments = response.prompt.attachments
        begin = at + 1
        yield response


def _prompt(
    asked: Sequence[llm.Message], messages: Sequence[llm.Message], inner: _BaseModel
) -> llm.Prompt:
    parts = [part for message in asked if message.role != "system" for part in message.parts]
    return llm.Prompt(
        "\n".join(part.text for part in parts if isinstance(part, TextPart)),
        model=inner,
        system=instructions.in_force(asked) or None,
        attachments=[
            part.attachment for part in parts if isinstance(part, AttachmentPart) if part.attachment
        ],
        tool_results=[
            llm.ToolResult(name=part.name, output=part.output, tool_call_id=part.tool_call_id)
            for part in parts
            if isinstance(part, ToolResultPart)
        ],
        messages=list(messages),
    )
