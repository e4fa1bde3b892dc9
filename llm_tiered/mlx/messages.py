"""llm's messages → the tokens that a model reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm.parts import TextPart, ToolCallPart, ToolResultPart

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm import Message

ChatMessage = dict[str, str]


def to_chat(messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The messages as chat templates take them: a role and a text each.

    Reasoning is left out, as the templates want it. Tool calls and their results, which another
    model may have made earlier in the conversation, become text. Raises RequestError if there
    is nothing to answer.
    """
    chat: list[ChatMessage] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        text = "\n".join(filter(None, (_text(part) for part in message.parts)))
        if not text:
            continue
        if chat and chat[-1]["role"] == role:
            chat[-1]["content"] += f"\n\n{text}"
        else:
            chat.append({"role": role, "content": text})
    if not any(message["role"] != "system" for message in chat):
        raise RequestError("the prompt is empty")
    return tuple(chat)


def _text(part: Any) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ToolCallPart):
        return f"[called {part.name} with {json.dumps(part.arguments, ensure_ascii=False)}]"
    if isinstance(part, ToolResultPart):
        return f"[{part.name} returned {part.output}]"
    return ""


def encode(tokenizer: Any, chat: Sequence[ChatMessage]) -> list[int]:
    """The tokens of a chat, ready for the model's answer, in its own template's form.

    A template that knows no system role gets the system prompt in front of the first message.
    """
    if not tokenizer.has_chat_template:
        text = "\n\n".join(message["content"] for message in chat)
        return list(tokenizer.encode(text))
    from jinja2 import TemplateError

    try:
        return _apply(tokenizer, chat)
    except TemplateError:
        return _apply(tokenizer, _without_system(chat))


def _apply(tokenizer: Any, chat: Sequence[ChatMessage]) -> list[int]:
    return list(tokenizer.apply_chat_template(list(chat), add_generation_prompt=True))


def _without_system(chat: Sequence[ChatMessage]) -> list[ChatMessage]:
    system = [message["content"] for message in chat if message["role"] == "system"]
    rest = [dict(message) for message in chat if message["role"] != "system"]
    if rest:
        rest[0]["content"] = "\n\n".join([*system, rest[0]["content"]])
    return rest
