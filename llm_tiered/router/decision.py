"""Request and settings → decision: which tier a request goes to, and why. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.sections import Tier
from ..config.values import NO_COMPLEXITY
from ..errors import ConfigError, RequestError
from ..log.conversation import UNKNOWN, Past
from ..log.record import Rollout
from ..mlx.catalog import EMBEDDED
from ..wording import unknown

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..config.terms import Fallback
    from ..estimator import Estimate
    from ..log.record import Source

EMBEDDED_TIER = "embedded"
"""The name by which the embedded model is requested, logged and shown."""


@dataclass(frozen=True)
class DecisionInput:
    """Everything about a request that the decision depends on.

    `past` is the conversation so far. `estimate` is the estimated complexity; without one,
    `default_complexity` applies. `fallback` is None where the config decides. `text` is the user's
    last message: a rollout picks its share of requests by a hash of it.
    """

    complexity: int | None = None
    task: str | None = None
    tier: str | None = None
    local_only: bool = False
    fallback: Fallback | None = None
    past: Past = UNKNOWN
    estimate: Estimate | None = None
    text: str = ""


@dataclass(frozen=True)
class Decision:
    """The tier that a request goes to, and why.

    `rollout` is None where none applies. With `keep_local` only models on this machine may be
    asked, with `cloud_only` only models elsewhere.
    """

    tier: str
    model: str
    complexity: int | None
    source: Source
    task: str | None
    reason: str
    fallback: Fallback
    rollout: Rollout | None = None
    keep_local: bool = False
    cloud_only: bool = False


def decide(request: DecisionInput, settings: Settings) -> Decision:
    """Decide where a request goes: by tier, complexity, task, conversation, estimate or default.

    Raises RequestError for an unknown tier or task, with the nearest names.
    """
    # Privacy only ever tightens: the option, the environment, the config and earlier turns can
    # each keep a request on this machine, and none of them can undo that. Earlier turns count
    # because the next turn sends them along.
    kept_local = request.local_only or request.past.kept_local
    keep_local = kept_local or settings.local_only
    cloud_only = settings.force_local is False and not keep_local
    tier, complexity, source, reason = _requested(request, settings)
    rollout = _rollout(tier, source, request, settings)
    if rollout and not rollout.included:
        tier = settings.tiers[settings.tiers.index(tier) + 1]
        reason = (
            f"{reason}; {rollout.name} receives {rollout.share:.0%} so far, "
            f"so this request goes to {tier.name}"
        )
    allowed = _allowed(tier, settings, keep_local=keep_local, cloud_only=cloud_only)
    name, model = (allowed.name, allowed.model) if allowed else (EMBEDDED_TIER, EMBEDDED.model_id)
    if name != tier.name:
        why = "nothing may leave this machine" if keep_local else "FORCE_LOCAL_LLM=false"
        reason = f"{reason}; {why}, so it goes to {name}"
        # The rollout did not decide this one, so it must not count for either side.
        rollout = None
    return Decision(
        tier=name,
        model=model,
        complexity=complexity,
        source=source,
        task=request.task,
        reason=reason,
        fallback=request.fallback or settings.config.fallback,
        rollout=rollout,
        keep_local=keep_local,
        cloud_only=cloud_only,
    )


def named_tier(name: str, settings: Settings) -> Tier:
    """The tier of that name: one of the config's, or the embedded model as a tier of its own.

    Raises RequestError with the nearest names.
    """
    tier = settings.tier(name)
    if tier is not None:
        return tier
    if name != EMBEDDED_TIER:
        names = [tier.name for tier in settings.tiers]
        raise RequestError(unknown("tier", name, [*names, EMBEDDED_TIER]))
    return Tier(name=EMBEDDED_TIER, complexity=NO_COMPLEXITY, model=EMBEDDED.model_id)


def _requested(request: DecisionInput, settings: Settings) -> tuple[Tier, int | None, Source, str]:
    """The tier before any rule of privacy or rollback, with complexity, source and reason."""
    tasks = settings.config.tasks
    if request.task is not None and request.task not in tasks:
        raise RequestError(unknown("task", request.task, sorted(tasks)))
    if request.tier is not None:
        named = named_tier(request.tier, settings)
        return named, request.complexity, "tier", f"the request names the tier {named.name}"
    if request.complexity is not None:
        reason = f"complexity {request.complexity}"
        return _covering(request.complexity, "option", reason, settings)
    if request.task is not None:
        complexity = tasks[request.task].complexity
        reason = f"the task {request.task} has complexity {complexity}"
        return _covering(complexity, "task", reason, settings)
    past = request.past
    tier = settings.tier(past.tier or "")
    if request.estimate is not None and (tier is None or past.source == "estimate"):
        return _estimated(request.estimate, past, settings)
    if tier is not None:
        return tier, past.complexity, "conversation", f"this conversation is on {tier.name}"
    complexity = settings.config.default_complexity
    reason = f"no complexity given; using default_complexity {complexity}"
    return _covering(complexity, "default", reason, settings)


def _covering(
    complexity: int, source: Source, reason: str, settings: Settings
) -> tuple[Tier, int, Source, str]:
    tier = _tier_for(complexity, settings)
    return tier, complexity, source, f"{reason}, and {tier.name} covers {tier.complexity}"


def _tier_for(complexity: int, settings: Settings) -> Tier:
    return next(tier for tier in settings.tiers if tier.covers(complexity))


def _estimated(estimate: Estimate, past: Past, settings: Settings) -> tuple[Tier, int, Source, str]:
    """The tier of an estimate; a conversation stays where it is while its estimates agree."""
    because = f" ({', '.join(estimate.reasons)})" if estimate.reasons else ""
    reason = f"estimated complexity {estimate.complexity}{because}"
    tier = _settled(estimate, past, settings)
    if tier is not None:
        reason = f"{reason}, as before, and this conversation is on {tier.name}"
        return tier, estimate.complexity, "estimate", reason
    return _covering(estimate.complexity, "estimate", reason, settings)


def _settled(estimate: Estimate, past: Past, settings: Settings) -> Tier | None:
    """The conversation's tier, if its last estimate and this one belong to the same tier."""
    if past.source != "estimate" or past.complexity is None:
        return None
    covering = _tier_for(estimate.complexity, settings)
    return settings.tier(past.tier or "") if covering.covers(past.complexity) else None


def _rollout(
    tier: Tier, source: Source, request: DecisionInput, settings: Settings
) -> Rollout | None:
    """The rollout that applies: the task's, else the tier's.

    A request that names its tier always gets it, and a conversation stays where it began.
    """
    if source in ("tier", "conversation") or tier == settings.tiers[-1]:
        return None
    if request.estimate and _settled(request.estimate, request.past, settings):
        return None
    shares = settings.config.rollout
    name = request.task if source == "task" and request.task in shares else tier.name
    if name is None or name not in shares:
        return None
    return Rollout(name, shares[name], _position(request.text) < shares[name])


def _position(text: str) -> float:
    """A number from 0 to 1 from the text's hash, so that the same text always goes the same way."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _allowed(tier: Tier, settings: Settings, *, keep_local: bool, cloud_only: bool) -> Tier | None:
    """The tier itself if it is allowed, else the nearest one that is; None means embedded."""
    if keep_local and not tier.local:
        return next((other for other in reversed(settings.tiers) if other.local), None)
    if cloud_only and tier.local:
        cloud = next((other for other in settings.tiers if not other.local), None)
        if cloud is None:
            raise ConfigError(
                "FORCE_LOCAL_LLM=false sends everything to the cloud, but there is no cloud tier",
                fix="add a tier with a cloud model to the config, or unset the variable",
            )
        return cloud
    return tier
