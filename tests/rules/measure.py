"""How long 200 rules take for a prompt of 400 characters, when none of them holds.

    python -m tests.rules.measure

prints milliseconds (the median of 200 prompts, and the 95th percentile), with all that is done for
a request: the facts of llm's prompt, and every rule on them.
"""

from __future__ import annotations

import time
from itertools import islice
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import click
import llm

from llm_tiered.config.rules import parse
from llm_tiered.router.facts import facts_of
from llm_tiered.rules.ruling import ruling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RULES = 200
LENGTH = 400
PROMPTS = 200

TEXT = (
    "Please read the report of our team on the new office and sum up what was decided on Tuesday: "
    "who moves when, what of the 12,000 for furniture is left, and which of the open questions "
    "(parking, keys, the lift on the second floor) have an owner and a date. Write it as a short "
    "letter to everybody, in three paragraphs, without the names of suppliers, and put the dates "
    "into a table at the end, the earliest one first."
)


def words() -> Iterator[dict[str, Any]]:
    """Rules on three words each."""
    for number in range(RULES):
        yield {"words": [f"contract{number}", f"term {number}", f"liability {number}"]}


def patterns() -> Iterator[dict[str, Any]]:
    """Rules on a pattern each, of the kinds that people write."""
    kinds = (
        r"\bCASE-{}\d+\b",
        r"(?i)\b(?:merger|takeover|audit) {}\b",
        r"https?://host{}\.example/\S+",
        r"^\s*def \w+_{}\(",
        r"\b\d{{3}}-\d{{4}}-{}\b",
        r"\bprove\b.*\btheorem {}\b",
    )
    for number in range(RULES):
        yield {"regex": kinds[number % len(kinds)].format(number)}


def restrictions() -> Iterator[dict[str, Any]]:
    """Rules on secrets, words and patterns that keep a prompt here."""
    for one, other in zip(words(), patterns(), strict=True):
        yield from (
            {**one, "place": "here"},
            {**other, "place": "here"},
            {"secrets": True, "place": "here"},
        )


def mixed() -> Iterator[dict[str, Any]]:
    """A bit of everything."""
    for number, (one, other) in enumerate(zip(words(), patterns(), strict=True)):
        yield one
        yield other
        yield {"secrets": True, "place": "here"}
        yield {"script": ["han", "hangul"]}
        yield {"length": f"{500 + number}+"}
        yield {"system": f"translator {number}", "attachments": "image", "schema": False}
        yield {"tools": f"tool_{number}"}
        yield {"time": "3:00-3:01", "words": "nightly"}


def main() -> None:
    """Measure and print."""
    llm_model = llm.get_model("tiered")
    for kind in (words, patterns, restrictions, mixed):
        rules = parse([_whole(entry) for entry in islice(kind(), RULES)])
        times = []
        for number in range(PROMPTS + 1):
            prompt = llm.Prompt(f"{number:03} {TEXT}"[:LENGTH], model=llm_model, system="Be brief")
            started = time.perf_counter()
            result = ruling(rules, facts_of(prompt, None, rules))
            times.append((time.perf_counter() - started) * 1000)
            assert result.decides is None, result
        # The first one compiles the patterns.
        first, *others = times
        cuts = quantiles(others, n=20)
        click.echo(
            f"{kind.__name__:12} {len(rules)} rules: p50 {cuts[9]:.3f} ms, p95 {cuts[18]:.3f} ms, "
            f"first {first:.1f} ms"
        )


def _whole(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry} if "place" in entry else {**entry, "complexity": 5}


if __name__ == "__main__":
    main()
