"""llm's messages → a chat → the prompt's tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart

from ...errors import RequestError
from ..weights.templates import DEFAULT, TOOL_USE
from .control_tokens import encode_chat, strings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llm import Message

ChatMessage = dict[str, Any]


def to_chat(messages: Sequence[Message], *, tools: bool = False) -> tuple[ChatMessage, ...]:
    """Return the messages in the form that chat templates expect.

    Reasoning is left out, as templates require, except between the tool calls that the last
    question led to. `tools` says whether the template supports tool calls and their results.
    Otherwise they become text: another model may have made them earlier in the conversation.
    Raises RequestError if there is nothing to answer or a text is not valid Unicode.
    """
    chat: list[ChatMessage] = []
    for message in messages:
        if message.role == "user":
            for earlier in chat:
                earlier.pop("reasoning_content", None)
        for entry in _with_tools(message) if tools else _as_text(message):
            _append(chat, entry)
    for text in strings(chat):
        _check_text(text)
    if not any(message["role"] != "system" for message in chat):
        raise RequestError("the prompt is empty")
    return tuple(chat)


def are_texts(messages: Sequence[Message]) -> bool:
    """Return whether each message is a text and nothing else, so that `tools` doesn't matter."""
    return all(
        len(message.parts) == 1 and isinstance(message.parts[0], TextPart) for message in messages
    )


def _append(chat: list[ChatMessage], entry: ChatMessage) -> None:
    """Append a message, or merge it into the last one if both are plain text of the same role."""
    plain = entry.keys() == {"role", "content"} and entry["role"] != "tool"
    if plain and chat and chat[-1].keys() == entry.keys() and chat[-1]["role"] == entry["role"]:
        chat[-1]["content"] += f"\n\n{entry['content']}"
    else:
        chat.append(entry)


def _check_text(text: str) -> None:
    """Raise RequestError for lone surrogates, which Python reads from input that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = f"character {error.start + 1} of {len(text)} is {text[error.start]!a}"
        raise RequestError(
            f"the prompt is not valid Unicode: {position}", fix="convert it to UTF-8"
        ) from None


def _as_text(message: Message) -> list[ChatMessage]:
    role = "user" if message.role == "tool" else message.role
    text = "\n".join(filter(None, (_text(part) for part in message.parts)))
    return [{"role": role, "content": text}] if text else []


def _text(part: Any) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ToolCallPart):
        return f"[called {part.name} with {json.dumps(part.arguments, ensure_ascii=False)}]"
    if isinstance(part, ToolResultPart):
        return f"[{part.name} returned {part.output}]"
    return ""


def _with_tools(message: Message) -> list[ChatMessage]:
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    if results:
        return [
            {"role": "tool", "name": result.name, "content": result.output} for result in results
        ]
    text = "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
    calls = [
        tool_call(part.name, part.arguments)
        for part in message.parts
        if isinstance(part, ToolCallPart) and not part.server_executed
    ]
    if calls:
        thoughts = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
        reasoning = {"reasoning_content": thoughts} if thoughts else {}
        return [{"role": message.role, "content": text, "tool_calls": calls} | reasoning]
    return [{"role": message.role, "content": text}] if text else []


def tool_call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool call in the form that chat templates expect."""
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def encode(
    tokenizer: Any,
    chat: Sequence[ChatMessage],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
) -> list[int]:
    """Return the prompt's token ids: the chat in the model's own template, ready for the answer.

    If the template rejects the chat, as those without a system role do, the system prompt is put
    in front of the first message. `thinking` None leaves the choice to the template. Without a
    template the texts are the whole prompt, and may contain control tokens.
    """
    if not tokenizer.has_chat_template:
        text = "\n\n".join(message["content"] for message in chat)
        return list(tokenizer.encode(text))
    return render(tokenizer, chat, tools=tools, thinking=thinking)


def render(
    tokenizer: Any,
    chat: Sequence[ChatMessage],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: bool | None = None,
    opened: bool = True,
) -> list[int]:
    """Return the chat in the model's template; `opened` adds what opens the answer."""
    from jinja2 import TemplateError

    options: dict[str, Any] = _template(tokenizer, chat, tools)
    if tools:
        options["tools"] = list(tools)
    if thinking is not None:
        options["enable_thinking"] = thinking
    options["add_generation_prompt"] = opened
    if tokenizer.has_thinking:
        # Otherwise a template takes what comes before </think> for thoughts, and leaves it out.
        chat = [_with_thoughts(message) for message in chat]
    try:
        return encode_chat(tokenizer, chat, options)
    except TemplateError:
        return encode_chat(tokenizer, _without_system(chat), options)


def _template(
    tokenizer: Any, chat: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return the option that chooses among a model's chat templates, if there are several."""
    templates = tokenizer.chat_template
    if not isinstance(templates, dict):
        return {}
    called = any(message["role"] == "tool" or "tool_calls" in message for message in chat)
    names = [TOOL_USE, DEFAULT] if tools or called else [DEFAULT]
    name = next((name for name in names if name in templates), None)
    return {"chat_template": name or next(iter(templates))}


def _with_thoughts(message: ChatMessage) -> ChatMessage:
    return {"reasoning_content": "", **message} if message["role"] == "assistant" else message


def _without_system(chat: Sequence[ChatMessage]) -> list[ChatMessage]:
    system = [message["content"] for message in chat if message["role"] == "system"]
    rest = [dict(message) for message in chat if message["role"] != "system"]
    if rest:
        rest[0]["content"] = "\n\n".join([*system, rest[0]["content"]])
    return rest
