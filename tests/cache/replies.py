"""A stand-in for `tiered` whose answers are logged with a cache key."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import sqlite_utils

from llm_tiered.cache.key import cache_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from llm.parts import StreamEvent

INNER = "mlx/toy-small"


class Replying(llm.Model):
    """A stand-in for `tiered` with these answers; `record` overrides fields of its record."""

    model_id = "tiered"
    can_stream = True
    supports_schema = True
    supports_tools = True

    def __init__(
        self, *output: str | StreamEvent | llm.ToolCall, inner: Any, **record: Any
    ) -> None:
        self.output = output
        self.inner = inner
        self.record = record

    def _validate_attachments(self, attachments: list[llm.Attachment] | None = None) -> None:
        """Accept any attachment, as `tiered` does."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[Any]:
        """Yield the answer."""
        for item in self.output:
            if isinstance(item, llm.ToolCall):
                response.add_tool_call(item)
            else:
                yield item
        response.set_resolved_model(INNER)
        key = cache_key(prompt, INNER, {})
        record = {"tier": "small", "key": key, "cached_from": None} | self.record
        response.response_json = {"tiered": record, "response": self.inner}


def reply(
    logs: Path,
    *output: str | StreamEvent | llm.ToolCall,
    prompt: str | None = "Hello",
    inner: Any = None,
    to: llm.Conversation | None = None,
    record: dict[str, Any] | None = None,
    **options: Any,
) -> llm.Response:
    """Return a response with this output, to a new prompt or in a conversation, logged by llm."""
    model = Replying(*output, inner=inner, **record or {})
    if to is not None:
        to.model = model
    response = (to or model).prompt(prompt, **options)
    response.text()
    log(logs, response)
    return response


def log(logs: Path, response: llm.Response) -> None:
    """Log a response as llm does."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("pragma synchronous = off")
        response.log_to_db(sqlite_utils.Database(database))


def key_of(response: llm.Response) -> str:
    """Return the recorded cache key."""
    response_json: Any = response.response_json
    return str(response_json["tiered"]["key"])


def change(logs: Path, statement: str, *values: Any) -> None:
    """Change the log with an SQL statement."""
    with closing(sqlite3.connect(logs, isolation_level=None)) as database:
        assert database.execute(statement, values).rowcount


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the cache."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "llm_tiered" and record.levelno >= logging.WARNING
    ]
