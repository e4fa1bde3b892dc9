"""Generate a log of llm of any size: `python -m tests.make_log PATH --turns 100000`.

The same number of turns always gives the same log. It has what reports use: attempts, fallbacks,
tiers, tasks, tokens and the models that answered, turns of other models, and responses that an
older llm logged. With `--messages` the turns have messages and cache keys too. The tables of
conversations and of the text search stay empty.
"""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

END = datetime(2026, 11, 22, 18, tzinfo=timezone.utc)
YEAR = timedelta(days=365)

CLOUD = "gemini/gemini-flash-latest"
MODELS = {
    "small": "mlx/Phi-3.5-mini-instruct-4bit",
    "medium": "mlx/Qwen2.5-7B-Instruct-4bit",
    "cloud": CLOUD,
    "embedded": "mlx/SmolLM2-135M-Instruct",
}
CHAINS = {
    "small": ("small", "cloud", "embedded"),
    "medium": ("medium", "small", "cloud", "embedded"),
    "cloud": ("cloud", "medium", "small", "embedded"),
}
# The words of prompts and answers, and the most characters that one of them has.
WORDS = ("tonic", "dominant", "cadence", "interval", "voicing", "rhythm", "scale", "mode", "chord")
LONGEST = 1000

# Output tokens per second.
SPEEDS = {"small": 86, "medium": 35, "cloud": 180, "embedded": 190}
# The versions behind gemini-flash-latest, oldest first; the price of the last one is unknown.
VERSIONS = ("gemini-3-flash-preview", "gemini-3.8-flash", "gemini-3.9-flash-experimental")
REASONS = {
    "small": ("can't do tools", "cooling down for 42 s more after: MLX failed"),
    "medium": ("needs 4.4 GB of memory, and models may use 2.0 GB", "can't do schemas"),
    "cloud": ("The model is overloaded. Please try again later.", "no key", "no answer in time"),
}
TASKS = {
    None: 5,
    "content_validation": 3,
    "exercise_generation": 4,
    "theory_analysis": 5,
    "tutorial_generation": 7,
    "curriculum_planning": 8,
}
OTHERS = (CLOUD, MODELS["medium"], "gpt-4o-mini")

Row = dict[str, Any]

_SERIAL = count()


def make_log(path: Path, turns: int, *, end: datetime = END, messages: bool = False) -> None:
    """Write a log with turns spread over the year before `end`, and some older responses."""
    rng = random.Random(turns)
    empty_log(path)
    first = end - YEAR
    rows = _turns(rng, _times(rng, first, end, turns), turns)
    if messages:
        add_with_messages(path, rows, random.Random(turns))
    else:
        add(path, rows)
    older = _times(rng, first - YEAR, first, turns // 20)
    add(path, (_other(rng, when, id_) for when, id_ in older), table="responses")


def empty_log(path: Path) -> None:
    """Write a log of llm as it is before the first prompt."""
    path.write_bytes(_empty())


def add(path: Path, rows: Iterable[Row], *, table: str = "turns") -> None:
    """Add rows, which all have the same columns."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    places = ", ".join(f":{name}" for name in first)
    insert = f"insert into {table} ({', '.join(first)}) values ({places})"
    with closing(sqlite3.connect(path)) as database, database:
        # Nobody needs a generated log after a crash, so there is no need to wait for the disk.
        database.execute("pragma synchronous = off")
        database.execute(insert, first)
        database.executemany(insert, rows)


def turn(  # noqa: PLR0913 - the columns of a turn
    when: datetime = END,
    *,
    id: str | None = None,
    model: str | None = MODELS["medium"],
    tier: str = "medium",
    task: str | None = None,
    input: int | None = 1000,
    output: int | None = 100,
    details: Row | None = None,
    ms: int | None = 2000,
    ttft: int | None = 200,
    attempts: list[Row] | None = None,
    cached_from: str | None = None,
    response: Row | None = None,
    more: Row | None = None,
) -> Row:
    """Return a turn of `tiered` as a row of the log; `more` is what else its record has."""
    record = {
        "complexity": 5,
        "source": "task" if task else "default",
        "task": task,
        "tier": tier,
        "attempts": attempts or [attempt(tier, model)],
        "ttft_ms": ttft,
        "cached_from": cached_from,
    } | (more or {})
    return {
        "id": id or ulid(when, next(_SERIAL)),
        "model": "tiered",
        "resolved_model": model,
        "options_json": json.dumps({"task": task} if task else {}),
        "input_tokens": input,
        "output_tokens": output,
        "token_details": json.dumps(details) if details else None,
        "duration_ms": ms,
        "datetime_utc": when.isoformat(),
        "response_json": json.dumps({"tiered": record, "response": response}),
    }


def attempt(tier: str, model: str | None, reason: str | None = None) -> Row:
    """Return an attempt that succeeded, or that failed for a reason."""
    outcome = "failed" if reason else "ok"
    return {"tier": tier, "model": model, "outcome": outcome, "reason": reason, "ms": 12}


def gemini_response(version: str) -> Row:
    """Return the part of Google's reply that llm-gemini logs."""
    return {
        "candidates": [{"finishReason": "STOP", "index": 0}],
        "modelVersion": version,
        "responseId": "r-1",
    }


def ulid(when: datetime, randomness: int = 0) -> str:
    """Return an id that llm would give to a response at that time."""
    from ulid import ULID

    milliseconds = int(when.timestamp() * 1000)
    return str(ULID.from_int((milliseconds << 80) | randomness)).lower()


@cache
def _empty() -> bytes:
    """Return the file of an empty log, which takes half a second to create."""
    import sqlite_utils
    from llm.logs import LogStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logs.db"
        with closing(sqlite3.connect(path)) as database:
            database.execute("pragma synchronous = off")
            LogStore(sqlite_utils.Database(database))
        return path.read_bytes()


def _times(
    rng: random.Random, first: datetime, end: datetime, number: int
) -> Iterator[tuple[datetime, str]]:
    """Yield moments in order, each with an id."""
    step = (end - first) / max(number, 1)
    for index in range(number):
        when = first + step * (index + rng.random())
        yield when, ulid(when, rng.getrandbits(80))


def _turns(rng: random.Random, times: Iterable[tuple[datetime, str]], total: int) -> Iterator[Row]:
    """Yield turns; one in ten is of another model, one in a hundred of an unknown version."""
    earlier = None
    for number, (when, id_) in enumerate(times):
        if number % 10 == 9:
            yield _other(rng, when, id_)
            continue
        version = VERSIONS[2 if number % 100 == 0 else int(number > total / 2)]
        yield _tiered(rng, when, id_, version, earlier)
        earlier = id_


def _tiered(rng: random.Random, when: datetime, id_: str, version: str, earlier: str | None) -> Row:
    task = rng.choice(list(TASKS))
    complexity = TASKS[task] if task else rng.randint(1, 10)
    tier = "small" if complexity <= 4 else "medium" if complexity <= 7 else "cloud"
    answered, attempts = _attempt(rng, tier)
    inputs, outputs = int(rng.lognormvariate(6, 1)), int(rng.lognormvariate(5.3, 0.8))
    cached = earlier is not None and rng.random() < 0.08
    ttft = 3 if cached else rng.randint(80, 900)
    in_cloud = answered == "cloud"
    return turn(
        when,
        id=id_,
        model=MODELS[answered],
        tier=tier,
        task=task,
        input=inputs,
        output=outputs,
        details=_details(rng, inputs, outputs) if in_cloud else None,
        ms=5 if cached else ttft + outputs * 1000 // SPEEDS[answered],
        ttft=ttft,
        attempts=attempts,
        cached_from=earlier if cached else None,
        response=gemini_response(version) if in_cloud else _local_response(rng, SPEEDS[answered]),
    )


def _attempt(rng: random.Random, tier: str) -> tuple[str, list[Row]]:
    """Return the tier that answered and the attempts; the embedded model never fails."""
    attempts = []
    for name in CHAINS[tier]:
        fails = name != "embedded" and rng.random() < 0.06
        reason = rng.choice(REASONS[name]) if fails else None
        attempts.append(attempt(name, MODELS[name], reason))
        if not fails:
            break
    return name, attempts


def _details(rng: random.Random, inputs: int, outputs: int) -> Row:
    """Return the part of Google's usageMetadata that llm-gemini logs."""
    reasoning = int(outputs * rng.random() * 0.6)
    details: Row = {
        "candidatesTokenCount": outputs - reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": inputs}],
        "thoughtsTokenCount": reasoning,
    }
    if rng.random() < 0.2:
        cached = int(inputs * 0.7)
        details["cachedContentTokenCount"] = cached
        details["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    return details


def _local_response(rng: random.Random, speed: int) -> Row:
    return {
        "finish_reason": "stop",
        "prompt_tps": rng.uniform(200, 900),
        "generation_tps": speed * rng.uniform(0.9, 1.1),
        "peak_memory": 4_700_000_000,
    }


def _other(rng: random.Random, when: datetime, id_: str) -> Row:
    """Return a turn of another model."""
    model = rng.choice(OTHERS)
    outputs = rng.randint(1, 500)
    columns: Row = {
        "model": model,
        "resolved_model": VERSIONS[0] if model == CLOUD else None,
        "response_json": json.dumps(gemini_response(VERSIONS[0])) if model == CLOUD else None,
    }
    inputs = rng.randint(5, 2000)
    return turn(when, id=id_, input=inputs, output=outputs, ms=outputs * 10) | columns


@dataclass(frozen=True)
class _Exchange:
    """A prompt and its answer, with the hashes that llm gives them, and the cache key."""

    texts: tuple[str, str]
    hashes: tuple[str, str]
    key: str

    @property
    def messages(self) -> list[Row]:
        """The rows of `messages`."""
        prompt, answer = self.hashes
        return [
            {"hash": prompt, "parent_hash": None, "role": "user"},
            {"hash": answer, "parent_hash": prompt, "role": "assistant"},
        ]

    @property
    def parts(self) -> list[Row]:
        """The rows of `parts`."""
        return [
            {"message_hash": hash_, "position": 0, "type": "text", "text": text}
            for hash_, text in zip(self.hashes, self.texts, strict=True)
        ]


def add_with_messages(path: Path, rows: Iterator[Row], rng: random.Random) -> None:
    """Add turns with a prompt and an answer each, and cache keys."""
    prose = " ".join(rng.choices(WORDS, k=20_000))
    last: _Exchange | None = None
    while chunk := list(islice(rows, 5000)):
        exchanges, turns = [], []
        for row in chunk:
            response_json = json.loads(row["response_json"] or "{}")
            record = response_json.get("tiered", {})
            repeated = last if record.get("cached_from") else None
            exchange = repeated or _exchange(rng, prose, row)
            if not repeated:
                exchanges.append(exchange)
            if record:
                # An answer from the cache repeats the turn of `tiered` before it.
                last = exchange
                record["key"] = exchange.key
                row["response_json"] = json.dumps(response_json)
            prompt, answer = exchange.hashes
            turns.append(row | {"parent_message_hash": prompt, "tip_message_hash": answer})
        add(path, (row for exchange in exchanges for row in exchange.messages), table="messages")
        add(path, (row for exchange in exchanges for row in exchange.parts), table="parts")
        add(path, turns)


def _exchange(rng: random.Random, prose: str, row: Row) -> _Exchange:
    import llm
    from llm.logs import message_hash

    def text(tokens: int) -> str:
        start = rng.randrange(len(prose) - LONGEST)
        return f"{rng.getrandbits(64):x}: {prose[start : start + min(4 * tokens, LONGEST)]}"

    prompt, answer = text(row["input_tokens"]), text(row["output_tokens"])
    prompt_hash = message_hash(llm.user(prompt), None)
    answer_hash = message_hash(llm.assistant(answer), prompt_hash)
    return _Exchange((prompt, answer), (prompt_hash, answer_hash), rng.randbytes(32).hex())


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--turns", default=1000, show_default=True, help="Number of turns")
@click.option("--messages", is_flag=True, help="With messages and cache keys")
def main(path: Path, turns: int, messages: bool) -> None:
    """Write a generated log to PATH, replacing the file."""
    make_log(path, turns, messages=messages)


if __name__ == "__main__":
    main()
