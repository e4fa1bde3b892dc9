"""A stand-in for `tiered` that says what it is told to, and records it with a key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import sqlite_utils

from llm_tiered.cache.key import cache_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm.parts import StreamEvent

INNER = "mlx/toy-small"


class Replying(llm.Model):
    """Says what it is told to; `record` goes over what is recorded of the request."""

    model_id = "tiered"
    can_stream = True
    supports_schema = True
    supports_tools = True

    def __init__(self, *says: str | StreamEvent | llm.ToolCall, inner: Any, **record: Any) -> None:
        self.says = says
        self.inner = inner
        self.record = record

    def _validate_attachments(self, attachments: list[llm.Attachment] | None = None) -> None:
        """Take any, as `tiered` does."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[Any]:
        """Say it."""
        for said in self.says:
            if isinstance(said, llm.ToolCall):
                response.add_tool_call(said)
            else:
                yield said
        response.set_resolved_model(INNER)
        key = cache_key(prompt, INNER, {})
        record = {"tier": "small", "key": key, "cached_from": None} | self.record
        response.response_json = {"tiered": record, "response": self.inner}


def reply(
    logs: Path,
    *says: str | StreamEvent | llm.ToolCall,
    prompt: str | None = "Hello",
    inner: Any = None,
    to: llm.Conversation | None = None,
    record: dict[str, Any] | None = None,
    **said: Any,
) -> llm.Response:
    """A response with that content, to a new prompt or in a conversation, logged by llm."""
    model = Replying(*says, inner=inner, **record or {})
    if to is not None:
        to.model = model
    response = (to or model).prompt(prompt, **said)
    response.text()
    log(logs, response)
    return response


def log(logs: Path, response: llm.Response) -> None:
    """Log a response as llm does."""
    with closing(sqlite3.connect(logs)) as database:
        response.log_to_db(sqlite_utils.Database(database))


def key_of(response: llm.Response) -> str:
    """The key that was recorded."""
    recorded: Any = response.response_json
    return str(recorded["tiered"]["key"])


def change(logs: Path, statement: str, *values: Any) -> None:
    """Change the log from outside."""
    with closing(sqlite3.connect(logs, isolation_level=None)) as database:
        assert database.execute(statement, values).rowcount
