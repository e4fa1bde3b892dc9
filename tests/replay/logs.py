"""Logs to replay: requests with prompts and records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.dashboard.texts import add_messages, message
from tests.make_log import END, MODELS, Row, add, attempt, turn

if TYPE_CHECKING:
    from pathlib import Path

EASY, HARD = (
    "Spell 'accommodate'",
    "Prove that there are infinitely many primes congruent to 3 mod 4, and why.",
)


def add_request(  # noqa: PLR0913 - what a request may have
    log: Path,
    id: str,
    prompt: str = EASY,
    *,
    tier: str = "small",
    complexity: int | None = 4,
    source: str = "estimate",
    options: Row | None = None,
    thread: str | None = None,
    attempts: list[Row] | None = None,
    record: Row | None = None,
    **columns: Any,
) -> None:
    """Add a request to `tiered` that a tier has answered."""
    answered = attempts[-1]["model"] if attempts else MODELS.get(tier)
    model = columns.pop("model", answered)
    row = turn(
        columns.pop("when", END),
        id=id,
        model=model,
        tier=tier,
        attempts=attempts or [attempt(tier, model)],
        **columns,
    )
    response = json.loads(row["response_json"])
    response["tiered"] |= {"complexity": complexity, "source": source, **(record or {})}
    row |= {"response_json": json.dumps(response), "options_json": json.dumps(options or {})}
    add(log, [{**row, "thread_id": thread}])
    add_messages(log, id, [message("user", prompt)], [message("assistant", "So it is.")])


def said(tier: str, complexity: int) -> Row:
    """What a request has that says its own complexity."""
    return {
        "tier": tier,
        "complexity": complexity,
        "source": "option",
        "options": {"complexity": complexity},
    }
