"""A stand-in for `tiered` whose answers are logged with a cache key."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import sqlite_utils

from llm_tiered.cache.key import cache_key
from tests.stand_in import AS_TIERED, StandIn

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import llm
    import pytest
    from llm.parts import StreamEvent

    from tests.stand_in import Action

INNER = "mlx/toy-small"


def replying(
    *output: str | StreamEvent | llm.ToolCall, inner: Any = None, **record: Any
) -> StandIn:
    """A stand-in for `tiered` with this output, which it records with a key.

    `inner` is what the inner model recorded; `record` overrides fields of the record.
    """

    def script(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield from output
        response.set_resolved_model(INNER)
        key = cache_key(prompt, INNER, {})
        fields = {"tier": "small", "key": key, "cached_from": None} | record
        response.response_json = {"tiered": fields, "response": inner}

    return StandIn("tiered", script, **AS_TIERED)


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
    model = replying(*output, inner=inner, **record or {})
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
