"""Generate a log of conversations: `python -m tests.replay.conversations PATH --turns 100000`.

The same number of turns always gives the same log. Most conversations have one turn, the others up
to 20; four turns in five say nothing about where they go.
"""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
import llm
from llm.logs import message_hash

from tests.make_log import CLOUD, END, MODELS, YEAR, Row, add, attempt, empty_log, turn, ulid

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = (
    *("Explain", "Compare", "Summarise", "Translate into French:", "Prove that", "Why does"),
    *("Write a Python function for", "What is", "List three examples of", "Calculate"),
)
PHRASES = (
    *("the price of 12 apples", "a circle of fifths", "the French Revolution", "a hash table"),
    *("photosynthesis in leaves", "an interest rate of 3.5%", "every prime above 3", "my garden"),
    *("a recursive descent parser", "the speed of light", "and then", "because of", "step by step"),
    *("if x > 0", "the integral of x^2 dx", "in two sentences", "for a ten-year-old", "or not"),
)
HIGHEST = {"small": 4, "medium": 7, "cloud": 10}

Tables = dict[str, list[Row]]


def make_conversations(path: Path, turns: int) -> None:
    """Write a log with this many turns of `tiered` in a year."""
    rng = random.Random(turns)
    empty_log(path)
    conversations = _conversations(rng, turns)
    while chunk := list(islice(conversations, 2000)):
        for table in ("messages", "parts", "turns"):
            add(path, [row for tables in chunk for row in tables[table]], table=table)


def _conversations(rng: random.Random, turns: int) -> Iterator[Tables]:
    """Yield the rows of each conversation, by table."""
    written = 0
    while written < turns:
        length = 1 if rng.random() < 0.6 else min(2 + int(rng.expovariate(0.35)), 20)
        length = min(length, turns - written)
        yield _conversation(rng, END - YEAR * (1 - written / turns), length)
        written += length


def _conversation(rng: random.Random, when: datetime, length: int) -> Tables:
    tables: Tables = {"messages": [], "parts": [], "turns": []}
    thread, parent = ulid(when, rng.getrandbits(80)), None
    level = 5
    for place in range(length):
        when += timedelta(minutes=1)
        said = rng.random() < 0.2
        if said or not place:
            level = rng.randint(1, 10)
        prompt = _add_message(tables, "user", _text(rng, 15), parent)
        parent = _add_message(tables, "assistant", _text(rng, 40), prompt)
        row = _turn(rng, when, level, said=said)
        tables["turns"].append(
            {**row, "thread_id": thread, "parent_message_hash": prompt, "tip_message_hash": parent}
        )
    return tables


def _turn(rng: random.Random, when: datetime, level: int, *, said: bool) -> Row:
    tier = next(name for name, highest in HIGHEST.items() if level <= highest)
    model = MODELS[tier]
    tokens = int(rng.lognormvariate(6, 1)), int(rng.lognormvariate(5.3, 0.8))
    tried = [attempt(tier, model)]
    escalates = tier == "small" and rng.random() < 0.1
    if escalates and rng.random() < 0.3:
        model = MODELS["medium"]
        tried = [attempt(tier, MODELS[tier], "escalated: it repeats itself")]
        tried.append(attempt("medium", model))
    row = turn(
        when,
        id=ulid(when, rng.getrandbits(80)),
        model=model,
        tier=tier,
        input=tokens[0] if rng.random() < 0.99 else None,
        output=tokens[1],
        attempts=tried,
    )
    response = json.loads(row["response_json"])
    source = "option" if said else "estimate"
    response["tiered"] |= {"complexity": level, "source": source, "escalates": escalates}
    if model == CLOUD:
        response["response"] = {"modelVersion": "gemini-3-flash-preview"}
    options = {"complexity": level} if said else {}
    return {**row, "response_json": json.dumps(response), "options_json": json.dumps(options)}


def _text(rng: random.Random, phrases: int) -> str:
    """A text of about this many phrases of 20 characters, which no other message has."""
    number = max(1, int(rng.lognormvariate(0, 0.8) * phrases))
    words = ", ".join(rng.choices(PHRASES, k=number))
    return f"{rng.choice(STARTS)} {words} (see note {rng.getrandbits(64):x})."


def _add_message(tables: Tables, role: str, text: str, parent: str | None) -> str:
    message = llm.user(text) if role == "user" else llm.assistant(text)
    hash_ = message_hash(message, parent)
    tables["messages"].append({"hash": hash_, "parent_hash": parent, "role": role})
    tables["parts"].append({"message_hash": hash_, "position": 0, "type": "text", "text": text})
    return hash_


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--turns", default=1000, show_default=True, help="Number of turns")
def main(path: Path, turns: int) -> None:
    """Write a generated log to PATH, replacing the file."""
    make_conversations(path, turns)


if __name__ == "__main__":
    main()
