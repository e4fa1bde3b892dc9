"""Request → cache key, under which its answer can be found again."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import AttachmentPart, ToolResultPart

from .. import instructions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("llm_tiered")

# Part of every key: raise it when keys are made in a different way, so that all of them change.
_FORMAT = 1

# Options that affect how long the caller waits, or what is reported besides, but not the answer.
_IGNORED_OPTIONS = {"timeout", "judged"}


def cache_key(prompt: llm.Prompt, model_id: str, options: Mapping[str, Any]) -> str | None:
    """Return the key of a request to a model: 64 hex digits, the same in every process.

    `options` are the inner model's options; those that are None are ignored. Return None if the
    request can't be told apart from others, for example because an attachment can't be read.
    """
    try:
        messages = instructions.messages_of(prompt)
        request = {
            "format": _FORMAT,
            "model": model_id,
            "options": {
                name: value
                for name, value in options.items()
                if value is not None and name not in _IGNORED_OPTIONS
            },
            "messages": _messages(messages),
            "system": instructions.in_force(messages),
            "schema": _ordered(prompt.schema),
            "tools": [_tool(tool) for tool in prompt.tools],
            "hide_reasoning": prompt.hide_reasoning,
        }
        return hashlib.sha256(_canonical(request)).hexdigest()
    except Exception as error:  # plugins add parts, tools and options of any kind
        logger.debug("the request has no cache key: %r", error)
        return None


def _messages(messages: Sequence[llm.Message]) -> list[dict[str, Any]]:
    # A model makes up new ids for the same tool calls. All that matters is which result is whose.
    numbers: dict[str, int] = {}
    dictionaries = []
    for message in messages:
        parts: list[Any] = [_part(part) for part in message.parts]
        for part in parts:
            if "tool_call_id" in part:
                part["tool_call_id"] = numbers.setdefault(part["tool_call_id"], len(numbers))
        dictionaries.append({**replace(message, parts=[]).to_dict(), "parts": parts})
    return dictionaries


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, AttachmentPart):
        attachment = part.attachment and _attachment(part.attachment)
        return {**replace(part, attachment=None).to_dict(), "attachment": attachment}
    if isinstance(part, ToolResultPart):
        attachments = [_attachment(attachment) for attachment in part.attachments]
        return {**replace(part, attachments=[]).to_dict(), "attachments": attachments}
    return dict(part.to_dict())


def _attachment(attachment: llm.Attachment) -> dict[str, Any]:
    """Return the hash of an attachment's bytes, or the URL from which the model fetches them."""
    content = attachment.content
    if not content and attachment.path:
        content = Path(attachment.path).read_bytes()
    if not content and attachment.url:
        return {"url": attachment.url}
    # For an attachment with a URL and no path, llm would ask the server for the type.
    type_is_local = attachment.path or not attachment.url
    return {
        "type": attachment.resolve_type() if type_is_local else None,
        "sha256": hashlib.sha256(content or b"").hexdigest(),
    }


def _tool(tool: llm.Tool | llm.ServerSideTool) -> dict[str, Any]:
    if isinstance(tool, llm.ServerSideTool):
        kind = f"{type(tool).__module__}.{type(tool).__qualname__}"
        return {"kind": kind, "name": tool.name, "config": tool._config}
    return {
        "name": tool.name,
        # Python 3.13 removes the indentation of docstrings, earlier versions keep it.
        "description": cleandoc(tool.description or ""),
        "input_schema": _ordered(tool.input_schema),
    }


def _ordered(schema: Any) -> str:
    """Return a schema as text, in its own order, because models fill in fields in that order."""
    return json.dumps(schema)


def _canonical(value: Any) -> bytes:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"not JSON serialisable: {type(value).__name__}")
