"""Answers of `tiered`, logged by llm with their messages, without running a model."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import sqlite_utils

from tests.make_log import MODELS, attempt
from tests.stand_in import AS_TIERED, StandIn

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.stand_in import Action

ESCALATED = "escalated: the answer is empty"


class Options(llm.Options):
    """The option of `tiered` that matters here."""

    escalate: bool | None = None


def answering(attempts: list[dict[str, Any]]) -> StandIn:
    """A stand-in for `tiered` that records these attempts, the last of which answered."""

    def script(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield "It is so."
        response.set_resolved_model(attempts[-1]["model"])
        record = {"tier": attempts[0]["tier"], "attempts": attempts}
        response.response_json = {"tiered": record, "response": None}

    return StandIn("tiered", script, Options=Options, **AS_TIERED)


def log_answer(  # noqa: PLR0913 - the facts of an answer
    logs: Path,
    prompt: str | None = "Who wrote Hamlet?",
    tier: str = "small",
    *,
    escalated: tuple[str, ...] = (),
    attempts: list[dict[str, Any]] | None = None,
    to: llm.Conversation | None = None,
    **options: Any,
) -> str:
    """Log a prompt with an answer of a tier, after those it escalated from; return its id."""
    attempts = attempts or [
        *(attempt(name, MODELS[name], ESCALATED) for name in escalated),
        attempt(tier, MODELS[tier]),
    ]
    model = answering(attempts)
    if to is not None:
        to.model = model
    response = (to or model).prompt(prompt, **options)
    response.text()
    with closing(sqlite3.connect(logs)) as database:
        database.execute("pragma synchronous = off")
        response.log_to_db(sqlite_utils.Database(database))
    return str(response.id)
