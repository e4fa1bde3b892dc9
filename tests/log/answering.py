"""Answers of `tiered`, logged by llm with their messages, without running a model."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import sqlite_utils

from tests.make_log import MODELS, attempt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ESCALATED = "escalated: the answer is empty"


class Answering(llm.Model):
    """A stand-in for `tiered` that records these attempts; the last one gave the answer."""

    model_id = "tiered"
    supports_schema = True
    supports_tools = True

    class Options(llm.Options):
        """The options of `tiered` that matter here."""

        escalate: bool | None = None

    def __init__(self, attempts: list[dict[str, Any]]) -> None:
        self.attempts = attempts

    def _validate_attachments(self, attachments: list[llm.Attachment] | None = None) -> None:
        """Accept any attachment, as `tiered` does."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """Yield an answer, and record who gave it."""
        yield "It is so."
        last = self.attempts[-1]
        response.set_resolved_model(last["model"])
        record = {"tier": self.attempts[0]["tier"], "attempts": self.attempts}
        response.response_json = {"tiered": record, "response": None}


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
    model = Answering(attempts)
    if to is not None:
        to.model = model
    response = (to or model).prompt(prompt, **options)
    response.text()
    with closing(sqlite3.connect(logs)) as database:
        database.execute("pragma synchronous = off")
        response.log_to_db(sqlite_utils.Database(database))
    return str(response.id)
