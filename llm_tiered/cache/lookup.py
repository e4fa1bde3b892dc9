"""A request that was answered before → its answer, from llm's log."""

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
from llm.parts import AttachmentPart, TextPart, ToolResultPart

from .. import paths
from ..errors import TieredError
from ..log import database as log_database
from . import answers as cache_answers
from .index import Index

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from .answers import Answer

logger = logging.getLogger("llm_tiered")

# A request whose key is made in another way is another request.
_FORMAT = 1

# Options that say how long to wait for an answer, not what it should be.
_UNSHAPING = {"timeout"}

# Turns that are read at once: as long as that takes, nobody can write to the log.
CHUNK = 5000


def key(prompt: llm.Prompt, model_id: str, options: Mapping[str, Any]) -> str | None:
    """The address of a request to the model of that id: 64 hex digits, the same everywhere.

    `options` are the inner model's; those that are None don't count. None means that the request
    can't be told apart from others, because an attachment can't be read, say.
    """
    try:
        messages = prompt.messages
        request = {
            "format": _FORMAT,
            "model": model_id,
            "options": {
                name: value
                for name, value in options.items()
                if value is not None and name not in _UNSHAPING
            },
            "messages": _messages(messages),
            # Later turns of a conversation have it only in the messages.
            "system": prompt.system or _system(messages),
            "schema": _in_order(prompt.schema),
            "tools": [_tool(tool) for tool in prompt.tools],
            "hide_reasoning": prompt.hide_reasoning,
        }
        return hashlib.sha256(_canonical(request)).hexdigest()
    except Exception as error:  # plugins bring parts, tools and options of any kind
        logger.debug("the cache does not know such a request: %r", error)
        return None


def find(
    key: str,
    *,
    newer_than: datetime | None = None,
    log_path: Path | None = None,
    index_path: Path | None = None,
) -> Answer | None:
    """The newest complete answer to the request with that key, or None.

    `newer_than` is aware. The log is only read. What is wrong with it or with the index is one
    warning, and there is no answer.
    """
    log_path = log_path or paths.log_path()
    try:
        if not log_path.exists():
            return None
        with (
            log_database.reading(log_path) as log,
            Index(index_path or paths.cache_index_path()) as index,
        ):
            _update(index, log)
            return _find(index, log, key, newer_than)
    except (TieredError, OSError) as error:
        logger.warning("no answer comes from the cache: %s", error)
        return None


def _find(
    index: Index, log: sqlite3.Connection, key: str, newer_than: datetime | None
) -> Answer | None:
    for turn_id in index.turns(key):
        answer = cache_answers.read(log, turn_id, key)
        if answer is None:
            index.forget(key, turn_id)
        elif newer_than is None or (answer.time and answer.time >= newer_than):
            return answer
    return None


def _update(index: Index, log: sqlite3.Connection) -> None:
    """Add what was logged since, by whomever; start over with a log that is not as it was."""
    if cache_answers.last(log) == index.mark():
        return
    full = True
    while full:
        with index.writing():
            # Another process may have been here in the meantime.
            mark = index.mark()
            if mark and not cache_answers.is_there(log, mark):
                index.clear()
                mark = None
            rows = cache_answers.after(log, mark, CHUNK)
            if rows:
                index.add([(row.key, row.turn_id) for row in rows if row.key], rows[-1].mark)
        full = len(rows) == CHUNK


def _messages(messages: Sequence[llm.Message]) -> list[dict[str, Any]]:
    # A model makes up new ids for the same calls: what matters is which result is whose.
    ids: dict[str, int] = {}
    found = []
    for message in messages:
        parts: list[Any] = [_part(part) for part in message.parts]
        for part in parts:
            if "tool_call_id" in part:
                part["tool_call_id"] = ids.setdefault(part["tool_call_id"], len(ids))
        found.append({**replace(message, parts=[]).to_dict(), "parts": parts})
    return found


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, AttachmentPart):
        attached = part.attachment and _attachment(part.attachment)
        return {**replace(part, attachment=None).to_dict(), "attachment": attached}
    if isinstance(part, ToolResultPart):
        attachments = [_attachment(attachment) for attachment in part.attachments]
        return {**replace(part, attachments=[]).to_dict(), "attachments": attachments}
    return dict(part.to_dict())


def _attachment(attachment: llm.Attachment) -> dict[str, Any]:
    """What an attachment holds: its bytes, or the address from which the model gets them."""
    content = attachment.content
    if not content and attachment.path:
        content = Path(attachment.path).read_bytes()
    if not content and attachment.url:
        return {"url": attachment.url}
    # llm asks the server for the type of what has an address, and no path.
    known = attachment.path or not attachment.url
    return {
        "type": attachment.resolve_type() if known else None,
        "sha256": hashlib.sha256(content or b"").hexdigest(),
    }


def _system(messages: Sequence[llm.Message]) -> str:
    """The system prompt as a nested request has it."""
    return "\n\n".join(
        part.text
        for message in messages
        if message.role == "system"
        for part in message.parts
        if isinstance(part, TextPart)
    )


def _tool(tool: llm.Tool | llm.ServerSideTool) -> dict[str, Any]:
    if isinstance(tool, llm.ServerSideTool):
        kind = f"{type(tool).__module__}.{type(tool).__qualname__}"
        return {"kind": kind, "name": tool.name, "config": tool._config}
    return {
        "name": tool.name,
        # Python 3.13 takes the indentation out of docstrings, earlier ones leave it.
        "description": cleandoc(tool.description or ""),
        "input_schema": _in_order(tool.input_schema),
    }


def _in_order(schema: Any) -> str:
    """A schema as text: models fill in the fields in their order."""
    return json.dumps(schema)


def _canonical(value: Any) -> bytes:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )
    return text.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON: {type(value).__name__}")
