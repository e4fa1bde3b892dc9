"""Candidates → attempts → an answer: each model is tried until one answers.

This is a generator without I/O. It yields what is to be done next, and the driver, sync or
async, does it and sends back what went wrong, or None.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..errors import AllTiersFailed
from ..log.record import Attempt
from .failures import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..log.record import Outcome
    from .candidates import Candidate

# Seconds before the first and the second retry of an error that passes by itself.
RETRY_DELAYS = (1.0, 4.0)

# Seconds for which a model that keeps failing is not asked again by this process.
COOLDOWN = 60.0


@dataclass(frozen=True)
class Check:
    """Find out whether the candidate is known not to work. Answer: a Problem or None."""

    candidate: Candidate


@dataclass(frozen=True)
class Recall:
    """Look for an answer that the candidate gave before. Answer: None, or a Problem if none is."""

    candidate: Candidate


@dataclass(frozen=True)
class Try:
    """Ask the candidate, up to its first output. Answer: a Problem, or None if there is one.

    With a `correction` it is asked again, and told that about the answer it gave.
    """

    candidate: Candidate
    correction: str | None = None


@dataclass(frozen=True)
class Wait:
    """Let `seconds` pass."""

    seconds: float


Step: TypeAlias = "Recall | Check | Try | Wait"


class Cooldowns:
    """Which models failed lately, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, tuple[float, str]] = {}

    def check(self, model: str) -> Problem | None:
        """Why the model is left alone for now, or None."""
        until, reason = self._until.get(model, (0.0, ""))
        left = until - self._clock()
        if left <= 0:
            return None
        return Problem(f"cooling down for {left:.0f} s more after: {reason}")

    def start(self, model: str, reason: str) -> None:
        """Leave the model alone for a while."""
        self._until[model] = (self._clock() + COOLDOWN, reason)


def run(  # noqa: PLR0913 - what there is to know, and what differs in tests
    candidates: Sequence[Candidate],
    cooldowns: Cooldowns,
    attempts: list[Attempt],
    clock: Callable[[], float] = time.perf_counter,
    *,
    ladder: Sequence[Candidate] = (),
    recall: bool = False,
) -> Generator[Step, Problem | None, Candidate]:
    """Attempt one model after the other until one puts out something; return that one.

    After a weak answer come the models above it on the `ladder`, and if none of them answers, it
    is the answer after all, where it is usable. With `recall` each model's earlier answers are
    looked through first.
    Each attempt is appended to `attempts` as it ends. Raises AllTiersFailed, which lists them
    all with the commands that mend them, if nothing answers.
    """
    queue = list(candidates)
    fixes: list[str | None] = []
    weak: Candidate | None = None
    while queue:
        candidate = queue.pop(0)
        started = clock()
        outcome: Outcome = "skipped"
        if recall and (yield Recall(candidate)) is None:
            problem = None
        else:
            problem = cooldowns.check(candidate.model) or (yield Check(candidate))
            if problem is None:
                problem = yield from _try(candidate)
                outcome = "failed"
        if problem is None:
            outcome = "ok"
        reason = problem.reason if problem else None
        ms = round((clock() - started) * 1000)
        attempts.append(Attempt(candidate.tier, candidate.model, outcome, reason, ms))
        if problem is None:
            return candidate
        fixes.append(problem.fix)
        if outcome == "failed" and problem.cools:
            cooldowns.start(candidate.model, problem.reason)
        if problem.rises:
            above = _above(candidate, ladder, attempts)
            weak = candidate if problem.usable else weak
            queue = above if weak else above + [other for other in queue if other not in above]
    if weak is None:
        raise AllTiersFailed(_epitaph(attempts, fixes))
    attempts.append(Attempt(weak.tier, weak.model, "ok", "nothing above it answered", 0))
    return weak


def _try(candidate: Candidate) -> Generator[Step, Problem | None, Problem | None]:
    problem = yield Try(candidate)
    for delay in RETRY_DELAYS:
        if problem is None or not problem.transient:
            break
        yield Wait(delay)
        problem = yield Try(candidate)
    if problem and problem.rises and problem.correction:
        problem = yield Try(candidate, problem.correction)
    return problem


def _above(
    candidate: Candidate, ladder: Sequence[Candidate], attempts: Sequence[Attempt]
) -> list[Candidate]:
    """The models above the candidate that were not attempted yet, the nearest first."""
    models = [other.model for other in ladder]
    start = models.index(candidate.model) + 1 if candidate.model in models else 0
    attempted = {attempt.model for attempt in attempts}
    return [other for other in ladder[start:] if other.model not in attempted]


def _epitaph(attempts: Sequence[Attempt], fixes: Sequence[str | None]) -> str:
    lines = [
        f"  {attempt.tier} ({attempt.model}) {attempt.outcome}: {attempt.reason}"
        + (f" → {fix}" if fix else "")
        for attempt, fix in zip(attempts, fixes, strict=True)
    ]
    return "\n".join(["no model could answer:", *lines])
