"""A request of OpenAI's Responses API → the same request for a chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..log import writer
from . import stored
from .failure import bad_request
from .fields import Chat

if TYPE_CHECKING:
    from collections.abc import Mapping

# What clients send by default, with the values that ask for nothing more than there is.
_NOTHING: dict[str, Any] = {
    "background": False,
    "truncation": "disabled",
    "stream_options": {},
}
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_OF_ITEMS = {"type", "id", "status"}
_OWN = {
    *("input", "instructions", "max_output_tokens", "text", "tools", "tool_choice", "include"),
    *("top_logprobs", "previous_response_id", "store"),
}

# What else the fields of a chat completion are called here.
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
}

LOGPROBS = "message.output_text.logprobs"


def to_chat(body: Mapping[str, Any]) -> Chat:
    """Return the same request for a chat completion. Raises ApiError."""
    if body.get("conversation") is not None:
        message = "conversation: use previous_response_id, or send the messages in the input"
        raise bad_request(message, "conversation", "unsupported")
    if body.get("background"):
        raise bad_request("background: answers are given at once", "background", "unsupported")
    chat = {
        name: value
        for name, value in body.items()
        if name not in _OWN and _NOTHING.get(name, ...) != value
    }
    instructions = body.get("instructions")
    if not isinstance(instructions, (str, type(None))):
        raise bad_request("instructions must be a text", "instructions")
    previous_id = body.get("previous_response_id")
    previous = stored.previous(previous_id) if previous_id is not None else []
    kept = previous
    if instructions:
        # They take the place of those before.
        first = next((at for at, each in enumerate(previous) if each.role != "system"), 0)
        kept = previous[first:]
    messages: list[tuple[str, Any]] = [("previous_response_id", each) for each in kept]
    if instructions:
        messages.insert(0, ("instructions", {"role": "system", "content": instructions}))
    messages += _messages(body.get("input"))
    chat["messages"] = [message for _, message in messages]
    chat["max_completion_tokens"] = body.get("max_output_tokens")
    chat |= _format(body.get("text"))
    chat |= _included(body)
    chat["tools"] = _tools(body.get("tools"))
    chat["tool_choice"] = _tool_choice(body.get("tool_choice"))
    store = body.get("store")
    if not isinstance(store, (bool, type(None))):
        raise bad_request("store: expected true or false", "store")
    return Chat(
        chat,
        previous,
        previous_id,
        store=store is not False and writer.must_log(log_api=load_settings().config.log_api),
        names=_NAMES,
        places=[place for place, _ in messages],
    )


def _messages(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """The messages that the items of an input are, and where each of them begins."""
    if isinstance(given, str):
        return [("input", {"role": "user", "content": given})]
    if not isinstance(given, list):
        raise bad_request("input must be a text or a list of items", "input")
    messages: list[tuple[str, dict[str, Any]]] = []
    for at, each in enumerate(given):
        place = f"input[{at}]"
        if not isinstance(each, dict):
            raise bad_request(f"{place} is not an object", place)
        is_reference = each.get("type") == "item_reference"
        item = stored.item(each.get("id"), f"{place}.id") if is_reference else each
        kind = item.get("type") or "message"
        if kind == "message":
            content = _content(item.get("content"), f"{place}.content")
            kept = {name: value for name, value in item.items() if name not in _OF_ITEMS}
            messages.append((place, kept | {"role": item.get("role"), "content": content}))
        elif kind == "function_call":
            # The calls of an answer are one message, with what the model said before them.
            if not messages or messages[-1][1]["role"] != "assistant":
                messages.append((place, {"role": "assistant"}))
            messages[-1][1].setdefault("tool_calls", []).append(_call(item))
        elif kind == "function_call_output":
            output = _content(item.get("output"), f"{place}.output")
            result = {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
            messages.append((place, result))
        elif kind != "reasoning":
            raise bad_request(f"{place}.type is not known here", f"{place}.type", "unknown_item")
    return messages


def _content(content: Any, place: str) -> Any:
    if not isinstance(content, list):
        return content
    parts = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "input_image" and part.get("image_url"):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        elif isinstance(kind, str) and kind in _PARTS:
            name = _PARTS[kind]
            parts.append({"type": name, name: part.get(name)})
        else:
            raise bad_request(
                f"{place}[{at}] must be a text or the URL of an image",
                f"{place}[{at}]",
                "unknown_part",
            )
    return parts


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _format(text: Any) -> dict[str, Any]:
    """The form of the answer; what else there is keeps its name, so that it can be reported."""
    if text is None:
        return {}
    if not isinstance(text, dict):
        raise bad_request("text must be an object", "text")
    form = text.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
    others = {f"text.{name}": value for name, value in text.items() if name != "format"}
    return others | {"response_format": form}


def _included(body: Mapping[str, Any]) -> dict[str, Any]:
    """What else is to be in the answer; what there is not keeps its name here, too."""
    include = body.get("include")
    if include is not None and not _is_list_of_texts(include):
        raise bad_request("include must be a list of names", "include")
    wanted = {f"include.{name}": True for name in include or []}
    logprobs = wanted.pop(f"include.{LOGPROBS}", None)
    # Without that, a number of alternatives asks for nothing.
    return wanted | {
        "logprobs": logprobs,
        "top_logprobs": body.get("top_logprobs") if logprobs else None,
    }


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _tools(tools: Any) -> Any:
    if not isinstance(tools, list):
        return tools
    return [
        {"type": tool.get("type"), "function": tool} if isinstance(tool, dict) else tool
        for tool in tools
    ]


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    return {"type": choice.get("type"), "function": {"name": choice.get("name")}}
