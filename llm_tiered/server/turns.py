"""The messages of a client → llm's: the conversation so far, and what is new in this turn."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import mimetypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

import llm
from llm.parts import TextPart, ToolCallPart, ToolResultPart

from . import privacy
from .failure import bad_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_MESSAGES = 2_000

# What each role's messages may have beside these is named as ignored.
_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "refusal", "function_call", "audio"},
    "tool": {"role", "content", "tool_call_id"},
}

# An image whose address does not say what it is.
_IMAGE = "image/jpeg"


@dataclass
class Turns:
    """The messages before the new ones, and the new ones as llm's `prompt()` takes them.

    `ignored` are the names of fields that have no meaning here.
    """

    history: list[llm.Message] = field(default_factory=list)
    text: str | None = None
    attachments: list[llm.Attachment] = field(default_factory=list)
    tool_results: list[llm.ToolResult] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)


def read(messages: Any, name: str = "messages", places: Sequence[str] = ()) -> Turns:
    """Return the turns that messages are, a client's or llm's. Raises ApiError.

    `name` is what the client calls them, and `places` are where it has each of them.
    """
    if not isinstance(messages, list) or not messages:
        raise bad_request(f"{name} must be a list with at least one message", name)
    if len(messages) > MOST_MESSAGES:
        raise bad_request(
            f"{len(messages)} messages are more than {MOST_MESSAGES}", name, "too_many"
        )
    turns = Turns()
    names: dict[str, str] = {}
    where = places or [f"{name}[{at}]" for at in range(len(messages))]
    read_messages = [
        _message(message, place, names, turns.ignored)
        for message, place in zip(messages, where, strict=True)
    ]
    for message in read_messages:
        # llm keeps all results of a turn in one message.
        last = turns.history[-1] if turns.history else None
        if message.role == "tool" and last and last.role == "tool":
            last.parts += message.parts
        else:
            turns.history.append(message)
    return _split(turns, name)


def _split(turns: Turns, name: str) -> Turns:
    """Take the last message out of the history: llm and its hooks get it in words of its own."""
    asked = [at for at, message in enumerate(turns.history) if message.role != "system"]
    if not asked:
        # Models are asked the instructions themselves where there is nothing else.
        return turns
    last = turns.history.pop(asked[-1])
    if last.role == "assistant":
        raise bad_request("the last message is an answer, so nothing is asked", name)
    if last.role == "tool":
        turns.tool_results = [
            llm.ToolResult(name=part.name, output=part.output, tool_call_id=part.tool_call_id)
            for part in last.parts
            if isinstance(part, ToolResultPart)
        ]
        return turns
    turns.text = "".join(part.text for part in last.parts if isinstance(part, TextPart))
    turns.attachments = [part.attachment for part in last.parts if hasattr(part, "attachment")]
    if not turns.text.strip() and not turns.attachments:
        raise bad_request("the last message is empty", name)
    return turns


def _message(message: Any, place: str, names: dict[str, str], ignored: set[str]) -> llm.Message:
    """One message; `names` gets the names of the tools that it calls, by the ids of the calls."""
    if isinstance(message, llm.Message):
        calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
        names |= {call.tool_call_id: call.name for call in calls if call.tool_call_id}
        return message
    if not isinstance(message, dict):
        raise bad_request(f"{place} is not an object", place)
    role = "system" if message.get("role") == "developer" else message.get("role")
    if not isinstance(role, str) or role not in _FIELDS:
        known = ", ".join((*_FIELDS, "developer"))
        raise bad_request(f"{place}.role must be one of {known}", f"{place}.role")
    for name in message.keys() - _FIELDS[role]:
        privacy.check(name, message[name])
        if message[name] is not None:
            ignored.add(f"messages.{name}")
    texts, attachments = _content(message.get("content"), f"{place}.content")
    text = "\n".join(texts)
    if attachments and role != "user":
        raise bad_request(f"{place}: only users can attach something", f"{place}.content")
    if role == "tool":
        id_ = message.get("tool_call_id")
        if not isinstance(id_, str) or id_ not in names:
            message = f"{place} has not the id of a tool call before it"
            raise bad_request(message, f"{place}.tool_call_id")
        return llm.tool_message(ToolResultPart(names[id_], text, tool_call_id=id_))
    if role != "assistant":
        return llm.Message(role, [*llm.user(*([text] if text else []), *attachments).parts])
    if message.get("function_call") or message.get("audio"):
        raise bad_request(f"{place}: use tool_calls, and text", place)
    calls = list(_calls(message.get("tool_calls"), f"{place}.tool_calls"))
    names |= {call.tool_call_id: call.name for call in calls if call.tool_call_id}
    return llm.assistant(*([text] if text else []), *calls)


def _content(content: Any, place: str) -> tuple[list[str], list[llm.Attachment]]:
    if content is None:
        return [], []
    if isinstance(content, str):
        return [content], []
    if not isinstance(content, list):
        raise bad_request(f"{place} must be a text or a list of parts", place)
    texts: list[str] = []
    attachments: list[llm.Attachment] = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal") and isinstance(part.get(kind), str):
            texts.append(part[kind])
        elif kind == "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            attachments.append(_image(url, f"{place}[{at}]"))
        else:
            raise bad_request(
                f"{place}[{at}] must be a text or an image_url", f"{place}[{at}]", "unknown_part"
            )
    return texts, attachments


def _image(url: Any, place: str) -> llm.Attachment:
    if not isinstance(url, str):
        raise bad_request(f"{place}.image_url has no url", place)
    if url[:5].lower() == "data:":
        head, comma, data = url[5:].partition(",")
        kind, *parameters = head.split(";")
        try:
            raw = unquote_to_bytes(data)
            content = base64.b64decode(raw, validate=True) if "base64" in parameters else raw
        except (binascii.Error, ValueError):
            content = b""
        if not comma or not kind or not content:
            raise bad_request(f"{place}: the data URL is damaged", place)
        return llm.Attachment(type=kind.lower(), content=content)
    try:
        address = urlsplit(url)
        host = address.hostname
    except ValueError:
        host = None
    if not host or address.scheme not in ("http", "https"):
        raise bad_request(f"{place}: expected an http, https or data URL", place)
    if _is_internal(host):
        raise bad_request(f"{place}: addresses of this network are not fetched", place)
    # The type is guessed, because llm would ask the server for it, whoever gets the prompt.
    return llm.Attachment(type=mimetypes.guess_type(address.path)[0] or _IMAGE, url=url)


def _is_internal(host: str) -> bool:
    """Whether only this machine or its network can read from there; names are not looked up."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host.rstrip(".") or host.endswith((".localhost", ".local", ".internal"))


def _calls(calls: Any, place: str) -> Iterable[ToolCallPart]:
    if calls is not None and not isinstance(calls, list):
        raise bad_request(f"{place} must be a list", place)
    for at, call in enumerate(calls or []):
        function = call.get("function") if isinstance(call, dict) else None
        id_ = call.get("id") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise bad_request(f"{place}[{at}] must be the call of a function", f"{place}[{at}]")
        if not isinstance(id_, str) or not id_:
            raise bad_request(f"{place}[{at}] has no id", f"{place}[{at}].id")
        yield ToolCallPart(function["name"], _arguments(function, f"{place}[{at}]"), id_)


def _arguments(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise bad_request(f"{place}: the arguments are not a JSON object", place)
    return arguments
