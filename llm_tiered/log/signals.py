"""What users do after an answer that was not good enough for them, read from the log."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from .database import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .answers import LoggedAnswer

Signal: TypeAlias = Literal["asked again", "regenerated", "moved up"]

AT_ONCE, SOON = timedelta(seconds=3), timedelta(minutes=30)
"""A person needs longer than the one to read an answer; after the other, it is something else."""

REPEATS = 2
"""Number of times that a person asks the same question; a program does so more often."""


def signals(answers: Iterable[LoggedAnswer], places: Mapping[str, int]) -> dict[str, Signal]:
    """Return, by the ids of answers, what the user did because they were not good enough.

    `places` are the positions of the tiers, from the lowest. The same question was asked again, or
    again in the place of the first (regenerated), or the next request, in the
    conversation or for the same question, named a higher tier. Answers of a tier that the user
    named tell nothing, as somebody compares models then, nor do repeated ones from the cache.
    """
    threads: dict[str, list[LoggedAnswer]] = defaultdict(list)
    questions: dict[str, list[LoggedAnswer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: answer.id):
        if answer.prompt.in_tool_loop:
            continue
        threads[answer.thread].append(answer)
        questions[" ".join(answer.prompt.text.casefold().split())].append(answer)
    found: dict[str, Signal] = {}
    for text, asked in questions.items():
        if text and len(asked) <= REPEATS:
            found |= _signals_of(asked, places, same_question=True)
    for turns in threads.values():
        found |= _signals_of(turns, places, same_question=False)
    return found


def _signals_of(
    answers: Sequence[LoggedAnswer], places: Mapping[str, int], *, same_question: bool
) -> dict[str, Signal]:
    pairs = [pair for pair in pairwise(answers) if _follows(*pair)]
    found: dict[str, Signal] = {}
    for before, after in pairs:
        if after.source == "tier":
            if places.get(after.tier or "", -1) > places.get(before.tier or "", len(places)):
                found[before.id] = "moved up"
        elif same_question:
            regenerated = (before.thread, before.asked) == (after.thread, after.asked)
            found[before.id] = "regenerated" if regenerated else "asked again"
    return found


def _follows(before: LoggedAnswer, after: LoggedAnswer) -> bool:
    """Whether the second request may be a reaction to the first answer."""
    if before.source == "tier" or before.cached or after.cached:
        return False
    try:
        return AT_ONCE <= parse_time(after.when) - parse_time(before.when) <= SOON
    except (ValueError, TypeError):
        return False
