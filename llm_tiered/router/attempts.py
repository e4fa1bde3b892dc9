"""Candidates → attempts → an answer: models are tried in turn until one answers.

`run` is a generator without I/O. It yields what to do next; its driver does that, and sends back
the problem, or None if there was none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ..errors import AllTiersFailed
from ..log.record import Attempt
from .cooldowns import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..log.record import Outcome
    from .candidates import Candidate
    from .cooldowns import Cooldowns, KeyInUse
    from .problem import Problem

# Seconds before the first and the second retry of a transient error.
RETRY_DELAYS = (1.0, 4.0)


@dataclass(frozen=True)
class Check:
    """Find out whether the candidate is known not to work. Reply: a Problem or None."""

    candidate: Candidate


@dataclass(frozen=True)
class Recall:
    """Look for an earlier answer of the candidate. Reply: None if there is one, else a Problem."""

    candidate: Candidate


@dataclass(frozen=True)
class Try:
    """Ask the candidate and wait for its first output. Reply: None if there is any, or a Problem.

    With a `correction` it is asked a second time, and shown its first answer and the correction.
    """

    candidate: Candidate
    correction: str | None = None


@dataclass(frozen=True)
class Wait:
    """Let `seconds` pass. They are longer than usual where the model asks for it."""

    seconds: float
    asked_by: Candidate | None = None


Step: TypeAlias = "Recall | Check | Try | Wait"


def run(  # noqa: PLR0913 - the inputs of a chain, and a clock for tests
    candidates: Sequence[Candidate],
    cooldowns: Cooldowns,
    attempts: list[Attempt],
    clock: Callable[[], float] = time.perf_counter,
    *,
    ladder: Sequence[Candidate] = (),
    recall: bool = False,
    key_in_use: KeyInUse = lambda _: None,
) -> Generator[Step, Problem | None, Candidate]:
    """Try one model after the other until one produces output, and return that one.

    After a weak answer the models above it on the `ladder` are tried; if none of them answers, the
    weak one is used after all, provided it is usable. With `recall`, each model's earlier answers
    are searched first. `key_in_use` tells the key that a model would use from others. Each attempt
    is appended to `attempts` as it ends. If nothing answers, raises AllTiersFailed, which lists all
    attempts with the commands that fix them.
    """
    queue = list(candidates)
    fixes: list[str | None] = []
    weak: Candidate | None = None
    while queue:
        candidate = queue.pop(0)
        started = clock()
        outcome, problem = yield from _attempt(candidate, cooldowns, key_in_use, recall=recall)
        reason = problem.reason if problem else None
        ms = round((clock() - started) * 1000)
        attempts.append(Attempt(candidate.tier, candidate.model, outcome, reason, ms))
        if problem is None:
            return candidate
        fixes.append(problem.fix)
        if problem.escalates:
            above = _above(candidate, ladder, attempts)
            weak = candidate if problem.usable else weak
            queue = above if weak else above + [other for other in queue if other not in above]
    if weak is None:
        raise AllTiersFailed(_summary(attempts, fixes))
    attempts.append(Attempt(weak.tier, weak.model, "ok", "no higher tier answered", 0))
    return weak


def _attempt(
    candidate: Candidate,
    cooldowns: Cooldowns,
    key_in_use: KeyInUse,
    *,
    recall: bool,
) -> Generator[Step, Problem | None, tuple[Outcome, Problem | None]]:
    """Try one model: its outcome, and the problem unless it answered. It may have to cool down."""
    if recall and (yield Recall(candidate)) is None:
        return "ok", None
    problem = cooldowns.check(candidate.model, key_in_use) or (yield Check(candidate))
    if problem:
        return "skipped", problem
    began = cooldowns.now()
    problem = yield from _try(candidate)
    if problem is None:
        cooldowns.answered(candidate.model)
        return "ok", None
    if problem.cools_down:
        cooldowns.start(candidate.model, problem, key_in_use, since=began)
    return "failed", problem


def _try(candidate: Candidate) -> Generator[Step, Problem | None, Problem | None]:
    problem = yield Try(candidate)
    patience = PATIENCE
    for delay in RETRY_DELAYS:
        if problem is None or not problem.transient or problem.retried:
            break
        seconds = max(delay, problem.retry_after or 0.0)
        patience -= seconds
        if patience < 0:
            break
        yield Wait(seconds, candidate if seconds > delay else None)
        problem = yield Try(candidate)
    if problem and problem.correction:
        problem = yield Try(candidate, problem.correction)
    return problem


def _above(
    candidate: Candidate, ladder: Sequence[Candidate], attempts: Sequence[Attempt]
) -> list[Candidate]:
    """The models above the candidate that have not been tried yet, the nearest first."""
    models = [other.model for other in ladder]
    start = models.index(candidate.model) + 1 if candidate.model in models else 0
    tried = {attempt.model for attempt in attempts}
    return [other for other in ladder[start:] if other.model not in tried]


def _summary(attempts: Sequence[Attempt], fixes: Sequence[str | None]) -> str:
    lines = [
        f"  {attempt.tier} ({attempt.model}) {attempt.outcome}: {attempt.reason}"
        + (f" → {fix}" if fix else "")
        for attempt, fix in zip(attempts, fixes, strict=True)
    ]
    return "\n".join(["no model could answer:", *lines])
