"""Messages for OpenAI's API, made from llm's."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from llm.parts import AttachmentPart, TextPart, ToolCallPart, ToolResultPart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import llm
    from llm.models import Attachment
    from llm.parts import Message


def as_sent(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages as a server gets them.

    Thoughts of earlier turns and calls of tools that a service ran itself are left out. Files are
    read and sent as data URLs, so that the server fetches nothing.
    """
    without_id: deque[str] = deque()
    sent: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            sent += _results(message, without_id)
        elif message.role == "assistant":
            sent += _answer(message, without_id)
        else:
            sent += _plain(message.role, _text(message), _attachments(message))
    return sent


def _plain(role: str, text: str, attachments: Sequence[Attachment]) -> Iterator[dict[str, Any]]:
    if attachments:
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        yield {"role": role, "content": [*parts, *map(_image, attachments)]}
    elif text:
        # Some servers accept only text here.
        yield {"role": role, "content": text}


def _answer(message: Message, without_id: deque[str]) -> Iterator[dict[str, Any]]:
    calls = []
    for part in message.parts:
        if isinstance(part, ToolCallPart) and not part.server_executed:
            id_ = part.tool_call_id
            if id_ is None:
                # Gemini's calls have none, but servers need one to match results to calls.
                id_ = f"call_{len(without_id)}_{part.name}"
                without_id.append(id_)
            arguments = json.dumps(part.arguments, ensure_ascii=False)
            function = {"name": part.name, "arguments": arguments}
            calls.append({"id": id_, "type": "function", "function": function})
    text = _text(message)
    if calls:
        # Templates of some models print None where this is null.
        yield {"role": "assistant", "content": text, "tool_calls": calls}
    elif text:
        yield {"role": "assistant", "content": text}


def _results(message: Message, without_id: deque[str]) -> Iterator[dict[str, Any]]:
    """The results of tools, and their attachments, which only a user's message can hold."""
    attached: list[Attachment] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart) and not part.server_executed:
            id_ = part.tool_call_id or (without_id.popleft() if without_id else part.name)
            yield {"role": "tool", "tool_call_id": id_, "content": part.output}
            attached += part.attachments
    yield from _plain("user", "", attached)


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _attachments(message: Message) -> list[llm.Attachment]:
    parts = (part for part in message.parts if isinstance(part, AttachmentPart))
    return [part.attachment for part in parts if part.attachment]


def _image(attachment: Attachment) -> dict[str, Any]:
    url = f"data:{attachment.resolve_type()};base64,{attachment.base64_content()}"
    return {"type": "image_url", "image_url": {"url": url}}
