"""A log of llm with as many turns as wanted: `python -m tests.make_log PATH --turns 100000`.

The same number gives the same log. It has what the reports look at: turns of `tiered` with their
attempts, turns of other models, responses that an older llm logged. It has no messages.
"""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

END = datetime(2026, 11, 22, 18, tzinfo=timezone.utc)
DAYS = 365

MODELS = {
    "small": "mlx/Phi-3.5-mini-instruct-4bit",
    "medium": "mlx/Qwen2.5-7B-Instruct-4bit",
    "cloud": "gemini/gemini-flash-latest",
    "embedded": "mlx/SmolLM2-135M-Instruct",
}
CHAINS = {
    "small": ("small", "cloud", "embedded"),
    "medium": ("medium", "small", "cloud", "embedded"),
    "cloud": ("cloud", "medium", "small", "embedded"),
}
# Output tokens a second.
SPEEDS = {"small": 86, "medium": 35, "cloud": 180, "embedded": 190}
# What stands behind gemini-flash-latest, oldest first; nobody knows the price of the last one.
VERSIONS = ("gemini-3-flash-preview", "gemini-3.8-flash", "gemini-3.9-flash-experimental")
REASONS = {
    "cloud": ("The model is overloaded. Please try again later.", "no key", "no answer in time"),
    "small": (
        "not downloaded, and the hub can't be reached",
        "needs 2.3 GB of memory, 1.1 are free",
    ),
    "medium": ("needs 4.4 GB of memory, 2.0 are free", "can't do tools", "can't do schemas"),
}
TASKS = {
    None: 5,
    "content_validation": 3,
    "exercise_generation": 4,
    "theory_analysis": 5,
    "tutorial_generation": 7,
    "curriculum_planning": 8,
}
OTHERS = ("gemini/gemini-flash-latest", "mlx/Qwen2.5-7B-Instruct-4bit", "gpt-4o-mini")

_TURN = """
insert into turns (id, thread_id, model, resolved_model, options_json, input_tokens,
                   output_tokens, token_details, duration_ms, datetime_utc, response_json)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LEGACY = """
insert into responses (id, conversation_id, model, resolved_model, options_json, input_tokens,
                       output_tokens, token_details, duration_ms, datetime_utc, response_json)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def make_log(path: Path, turns: int, *, end: datetime = END) -> None:
    """Write a log whose turns are spread over the year up to `end`, and some older responses."""
    rng = random.Random(turns)
    with closing(sqlite3.connect(path)) as database:
        _create_tables(database)
        with database:
            first = end - timedelta(days=DAYS)
            database.executemany(_TURN, _turns(rng, first, end, turns))
            before = first - timedelta(days=DAYS)
            database.executemany(_LEGACY, _responses(rng, before, first, turns // 20))


def ulid(when: datetime, randomness: int) -> str:
    """The id that llm gives a response at that time."""
    from ulid import ULID

    milliseconds = round(when.timestamp() * 1000)
    return str(ULID.from_int((milliseconds << 80) | randomness)).lower()


def _create_tables(database: sqlite3.Connection) -> None:
    import sqlite_utils
    from llm.logs import LogStore

    LogStore(sqlite_utils.Database(database))


def _times(
    rng: random.Random, first: datetime, end: datetime, count: int
) -> Iterator[tuple[datetime, str]]:
    """Moments in order, with an id each."""
    step = (end - first) / max(count, 1)
    for number in range(count):
        when = first + step * (number + rng.random())
        yield when, ulid(when, rng.getrandbits(80))


def _turns(rng: random.Random, first: datetime, end: datetime, count: int) -> Iterator[Any]:
    earlier = None
    for number, (when, turn_id) in enumerate(_times(rng, first, end, count)):
        if number % 10 == 9:
            yield _other(rng, when, turn_id)
            continue
        yield _tiered(rng, when, turn_id, VERSIONS[_age(number, count)], earlier)
        earlier = turn_id


def _responses(rng: random.Random, first: datetime, end: datetime, count: int) -> Iterator[Any]:
    for when, response_id in _times(rng, first, end, count):
        yield _other(rng, when, response_id)


def _age(number: int, count: int) -> int:
    """The version of that turn: the first for half the time, the last for one turn in a hundred."""
    return 2 if number % 100 == 0 else int(number > count / 2)


def _tiered(
    rng: random.Random, when: datetime, turn_id: str, version: str, earlier: str | None
) -> tuple[Any, ...]:
    task = rng.choice(list(TASKS))
    complexity = TASKS[task] if task else rng.randint(1, 10)
    tier = "small" if complexity <= 4 else "medium" if complexity <= 7 else "cloud"
    answered, attempts = _attempt(rng, tier)
    input_tokens, output_tokens = int(rng.lognormvariate(6, 1)), int(rng.lognormvariate(5.3, 0.8))
    cached_from = earlier if rng.random() < 0.08 else None
    ttft = 3 if cached_from else rng.randint(80, 900)
    took = 5 if cached_from else ttft + int(output_tokens / SPEEDS[answered] * 1000)
    details, inner = None, _local_response(rng, SPEEDS[answered])
    if answered == "cloud":
        details = _details(rng, input_tokens, output_tokens)
        inner = _gemini_response(version, turn_id)
    record = {
        "complexity": complexity,
        "source": "task" if task else "option",
        "task": task,
        "tier": tier,
        "attempts": attempts,
        "ttft_ms": ttft,
        "cached_from": cached_from,
    }
    return (
        turn_id,
        turn_id,
        "tiered",
        MODELS[answered],
        json.dumps({"task": task} if task else {"complexity": complexity}),
        input_tokens,
        output_tokens,
        details and json.dumps(details),
        took,
        when.isoformat(),
        json.dumps({"tiered": record, "response": inner}),
    )


def _attempt(rng: random.Random, tier: str) -> tuple[str, list[dict[str, Any]]]:
    """Who answered, and the attempts; the embedded model always can."""
    attempts = []
    for name in CHAINS[tier]:
        failed = name != "embedded" and rng.random() < 0.06
        attempts.append(
            {
                "tier": name,
                "model": MODELS[name],
                "outcome": "failed" if failed else "ok",
                "reason": rng.choice(REASONS[name]) if failed else None,
                "ms": rng.randint(1, 5000),
            }
        )
        if not failed:
            break
    return name, attempts


def _details(rng: random.Random, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """What llm-gemini keeps of Google's usageMetadata."""
    thoughts = int(output_tokens * rng.random() * 0.6)
    cached = int(input_tokens * 0.7) if rng.random() < 0.2 else 0
    details: dict[str, Any] = {
        "candidatesTokenCount": output_tokens - thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": input_tokens}],
        "thoughtsTokenCount": thoughts,
    }
    if cached:
        details["cachedContentTokenCount"] = cached
        details["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    return details


def _gemini_response(version: str, turn_id: str) -> dict[str, Any]:
    return {
        "candidates": [{"finishReason": "STOP", "index": 0}],
        "modelVersion": version,
        "responseId": turn_id[:22],
    }


def _local_response(rng: random.Random, speed: int) -> dict[str, Any]:
    return {
        "finish_reason": "stop",
        "prompt_tps": rng.uniform(200, 900),
        "generation_tps": speed * rng.uniform(0.9, 1.1),
        "peak_memory": 4_700_000_000,
    }


def _other(rng: random.Random, when: datetime, turn_id: str) -> tuple[Any, ...]:
    model = rng.choice(OTHERS)
    output_tokens = rng.randint(1, 500)
    gemini = model.startswith("gemini/")
    return (
        turn_id,
        turn_id,
        model,
        VERSIONS[0] if gemini else None,
        "{}",
        rng.randint(5, 2000),
        output_tokens,
        None,
        output_tokens * 10,
        when.isoformat(),
        json.dumps(_gemini_response(VERSIONS[0], turn_id) if gemini else {"id": turn_id}),
    )


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--turns", default=1000, show_default=True, help="How many turns")
def main(path: Path, turns: int) -> None:
    """Write a log with so many turns to PATH."""
    path.unlink(missing_ok=True)
    make_log(path, turns)


if __name__ == "__main__":
    main()
