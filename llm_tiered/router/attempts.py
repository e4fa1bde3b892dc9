"""Decision → attempts → outcome: which models are tried, in what order, and when to give up.

The chain is a generator without I/O. It yields what is to be done next, and the driver, sync or
async, does it and sends back what went wrong, or None.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import AllTiersFailed
from ..mlx.catalog import EMBEDDED
from .decision import EMBEDDED_TIER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ..config.settings import Settings, Tier
    from .decision import Decision

# Seconds before the first and the second retry of an error that passes by itself.
RETRY_DELAYS = (1.0, 4.0)

# Seconds for which a model that keeps failing is not asked again by this process.
COOLDOWN = 60.0


@dataclass(frozen=True)
class Candidate:
    """A model that may answer, in the name of a tier; `options` are the tier's."""

    tier: str
    model: str
    local: bool
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Why a model can't answer, or did not.

    `fix` is the command that mends it. A `transient` problem passes by itself: it is worth a
    retry. One that `cools` will meet the next call too: the model is left alone for a while.
    One that `rises` is an answer not good enough: larger models are asked instead, after the same
    one was told the `correction`, if there is one. It is `usable` where none of them answers.
    """

    reason: str
    fix: str | None = None
    transient: bool = False
    cools: bool = False
    rises: bool = False
    usable: bool = False
    correction: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One try of one model; `ms` is how long it took, all retries included."""

    tier: str
    model: str
    outcome: Literal["ok", "skipped", "failed"]
    reason: str | None
    ms: int

    def as_dict(self) -> dict[str, Any]:
        """The attempt as it stands in the log."""
        return asdict(self)


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


_EMBEDDED = Candidate(EMBEDDED_TIER, EMBEDDED.model_id, local=True)

Step: TypeAlias = "Recall | Check | Try | Wait"


def order(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """The models to attempt for a decision, best first, none of them twice.

    The decision's tier; smaller local tiers, largest first; the cloud; the embedded model.
    After a cloud tier come all local ones. `fallback` shortens it: `local` leaves the cloud
    out, `none` everything but the first.
    """
    tiers = settings.tiers
    first = settings.tier(decision.tier)
    if first is None:
        return (_EMBEDDED,)
    below = tiers[: tiers.index(first)] if first.local else tiers
    local = [tier for tier in reversed(below) if tier.local]
    cloud = [tier for tier in tiers if not tier.local]
    rest = local + cloud if first.local else cloud[::-1] + local
    return _permitted([*map(_candidate, (first, *rest)), _EMBEDDED], decision)


def ladder(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """All models that may answer, smallest first: where a weak answer rises.

    The decision's own is among them also where `fallback` leaves its kind out.
    """
    candidates = [_EMBEDDED, *map(_candidate, settings.tiers)]
    first = order(decision, settings)[0]
    permitted = _permitted([first, *candidates], decision)
    return tuple(candidate for candidate in candidates if candidate in permitted)


def _candidate(tier: Tier) -> Candidate:
    return Candidate(tier.name, tier.model, tier.local, tier.options)


def _permitted(candidates: Sequence[Candidate], decision: Decision) -> tuple[Candidate, ...]:
    """Those that the request lets be asked, none of them twice; the first one always may."""
    kept = [
        *candidates[:1],
        *(
            candidate
            for candidate in candidates[1:]
            if decision.fallback == "any" or (decision.fallback == "local" and candidate.local)
        ),
    ]
    if decision.keep_local:
        kept = [candidate for candidate in kept if candidate.local]
    if decision.cloud_only:
        kept = [candidate for candidate in kept if not candidate.local]
    unique: dict[str, Candidate] = {}
    for candidate in kept:
        unique.setdefault(candidate.model, candidate)
    return tuple(unique.values())


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
        outcome: Literal["ok", "skipped", "failed"] = "skipped"
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
