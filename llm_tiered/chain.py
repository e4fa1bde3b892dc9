"""Decision → attempts → outcome: which models are tried, in what order, and when to give up.

The chain is a generator without I/O. It yields what is to be done next, and the driver, sync or
async, does it and sends back what went wrong, or None.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import AllTiersFailed
from .mlx.catalog import EMBEDDED
from .routing import EMBEDDED_TIER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from .config import Settings
    from .routing import Decision

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
    """

    reason: str
    fix: str | None = None
    transient: bool = False
    cools: bool = False


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
class Try:
    """Ask the candidate, up to its first output. Answer: a Problem, or None if there is one."""

    candidate: Candidate


@dataclass(frozen=True)
class Wait:
    """Let `seconds` pass."""

    seconds: float


Step: TypeAlias = "Check | Try | Wait"


def order(decision: Decision, settings: Settings) -> tuple[Candidate, ...]:
    """The models to attempt for a decision, best first, none of them twice.

    The decision's tier; smaller local tiers, largest first; the cloud; the embedded model.
    After a cloud tier come all local ones. `fallback` shortens it: `local` leaves the cloud
    out, `none` everything but the first.
    """
    embedded = Candidate(EMBEDDED_TIER, EMBEDDED.model_id, local=True)
    tiers = settings.tiers
    first = settings.tier(decision.tier)
    if first is None:
        return (embedded,)
    below = tiers[: tiers.index(first)] if first.local else tiers
    local = [tier for tier in reversed(below) if tier.local]
    cloud = [tier for tier in tiers if not tier.local]
    rest = local + cloud if first.local else cloud[::-1] + local
    candidates = [
        Candidate(tier.name, tier.model, tier.local, tier.options) for tier in (first, *rest)
    ]
    candidates.append(embedded)
    kept = candidates[:1] + [
        candidate
        for candidate in candidates[1:]
        if decision.fallback == "any" or (decision.fallback == "local" and candidate.local)
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


def run(
    candidates: Sequence[Candidate],
    cooldowns: Cooldowns,
    attempts: list[Attempt],
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[Step, Problem | None, Candidate]:
    """Attempt one model after the other until one puts out something; return that one.

    Each attempt is appended to `attempts` as it ends. Raises AllTiersFailed, which lists them
    all with the commands that mend them, if nothing answers.
    """
    fixes: list[str | None] = []
    for candidate in candidates:
        started = clock()
        outcome: Literal["ok", "skipped", "failed"] = "skipped"
        problem = cooldowns.check(candidate.model) or (yield Check(candidate))
        if problem is None:
            problem = yield from _try(candidate)
            outcome = "failed" if problem else "ok"
        reason = problem.reason if problem else None
        ms = round((clock() - started) * 1000)
        attempts.append(Attempt(candidate.tier, candidate.model, outcome, reason, ms))
        fixes.append(problem.fix if problem else None)
        if problem is None:
            return candidate
        if outcome == "failed" and problem.cools:
            cooldowns.start(candidate.model, problem.reason)
    raise AllTiersFailed(_epitaph(attempts, fixes))


def _try(candidate: Candidate) -> Generator[Step, Problem | None, Problem | None]:
    problem = yield Try(candidate)
    for delay in RETRY_DELAYS:
        if problem is None or not problem.transient:
            break
        yield Wait(delay)
        problem = yield Try(candidate)
    return problem


def _epitaph(attempts: Sequence[Attempt], fixes: Sequence[str | None]) -> str:
    lines = [
        f"  {attempt.tier} ({attempt.model}) {attempt.outcome}: {attempt.reason}"
        + (f" → {fix}" if fix else "")
        for attempt, fix in zip(attempts, fixes, strict=True)
    ]
    return "\n".join(["no model could answer:", *lines])
