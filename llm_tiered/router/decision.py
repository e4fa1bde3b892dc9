"""Request and settings → decision: which tier a request goes to, and why. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..errors import ConfigError, RequestError
from ..log.record import Rollout
from ..mlx.catalog import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config.sections import Tier
    from ..config.settings import Settings
    from ..config.terms import Fallback
    from ..estimator import Estimate
    from ..log.record import Source

EMBEDDED_TIER = "embedded"


@dataclass(frozen=True)
class Request:
    """What a request says about where it wants to go.

    `conversation_tier` and `conversation_complexity` are those of the conversation's last turn, and
    `conversation_source` is how it came to them; `conversation_kept_local` says that some turn of
    it was not to leave this machine. `estimate` is what the text and what comes with it say of the
    complexity; without one, `default_complexity` holds. `fallback` is None where the config
    decides. `text` is what the user said last: a rollout goes by it.
    """

    complexity: int | None = None
    task: str | None = None
    tier: str | None = None
    local_only: bool = False
    fallback: Fallback | None = None
    conversation_tier: str | None = None
    conversation_complexity: int | None = None
    conversation_source: str | None = None
    conversation_kept_local: bool = False
    estimate: Estimate | None = None
    text: str = ""


@dataclass(frozen=True)
class Decision:
    """The tier that a request goes to, and why.

    `rollout` is None where none applies. `keep_local` means that no model off this machine may
    be asked, `cloud_only` that no model on it may.
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


def decide(request: Request, settings: Settings) -> Decision:
    """Where a request goes: by tier, complexity, task, conversation, estimate or the default.

    Raises RequestError for an unknown tier or task, with the nearest names.
    """
    # Privacy only ever tightens: the option, the environment and the config can each keep a
    # request on this machine, and none of them can take that back: a later turn would send what
    # an earlier one has kept here.
    kept_local = request.local_only or request.conversation_kept_local
    keep_local = kept_local or settings.local_only
    cloud_only = settings.force_local is False and not keep_local
    tier, complexity, source, reason = _wanted(request, settings)
    rollout = _rollout(tier, source, request, settings)
    if rollout and not rollout.included:
        tier = settings.tiers[settings.tiers.index(tier) + 1]
        reason = (
            f"{reason}; {rollout.name} gets {rollout.share:.0%} so far, so {tier.name} takes it"
        )
    moved = _moved(tier, settings, keep_local=keep_local, cloud_only=cloud_only)
    name, model = (moved.name, moved.model) if moved else (EMBEDDED_TIER, EMBEDDED.model_id)
    if name != tier.name:
        why = "nothing may leave this machine" if keep_local else "FORCE_LOCAL_LLM=false"
        reason = f"{reason}; {why}, so {name} takes it"
        # Where the lots don't decide, the request says nothing of either side.
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


def _wanted(request: Request, settings: Settings) -> tuple[Tier, int | None, Source, str]:
    """The tier before any rule of privacy or rollback, with complexity, source and reason."""
    tasks = settings.config.tasks
    if request.task is not None and request.task not in tasks:
        raise RequestError(_unknown("task", request.task, tasks))
    if request.tier is not None:
        tier = settings.tier(request.tier)
        if tier is None:
            names = [tier.name for tier in settings.tiers]
            raise RequestError(_unknown("tier", request.tier, names))
        return tier, request.complexity, "tier", f"the request asks for {tier.name}"
    if request.complexity is not None:
        reason = f"complexity {request.complexity}"
        return _covering(request.complexity, "option", reason, settings)
    if request.task is not None:
        complexity = tasks[request.task].complexity
        reason = f"the task {request.task} has complexity {complexity}"
        return _covering(complexity, "task", reason, settings)
    tier = settings.tier(request.conversation_tier or "")
    if request.estimate is not None and (tier is None or request.conversation_source == "estimate"):
        return _estimated(request.estimate, request, settings)
    if tier is not None:
        reason = f"the conversation so far is with {tier.name}"
        return tier, request.conversation_complexity, "conversation", reason
    complexity = settings.config.default_complexity
    reason = f"nothing says how hard it is, and default_complexity is {complexity}"
    return _covering(complexity, "default", reason, settings)


def _covering(
    complexity: int, source: Source, reason: str, settings: Settings
) -> tuple[Tier, int, Source, str]:
    tier = next(tier for tier in settings.tiers if tier.covers(complexity))
    return tier, complexity, source, f"{reason}, and {tier.name} covers {tier.complexity}"


def _estimated(
    estimate: Estimate, request: Request, settings: Settings
) -> tuple[Tier, int, Source, str]:
    """The tier of an estimate; a conversation stays where it is while its estimates agree."""
    because = f" ({', '.join(estimate.reasons)})" if estimate.reasons else ""
    reason = f"complexity {estimate.complexity} is estimated{because}"
    tier = _settled(estimate, request, settings)
    if tier is not None:
        reason = f"{reason}, as before, and the conversation is with {tier.name}"
        return tier, estimate.complexity, "estimate", reason
    return _covering(estimate.complexity, "estimate", reason, settings)


def _settled(estimate: Estimate, request: Request, settings: Settings) -> Tier | None:
    """The conversation's tier, if its last estimate and this one belong to one and the same."""
    before = request.conversation_complexity
    if request.conversation_source != "estimate" or before is None:
        return None
    covering = next(tier for tier in settings.tiers if tier.covers(estimate.complexity))
    return settings.tier(request.conversation_tier or "") if covering.covers(before) else None


def _rollout(tier: Tier, source: Source, request: Request, settings: Settings) -> Rollout | None:
    """The rollout that applies: the task's, else the tier's.

    Who names a tier gets it, and a conversation stays where it began.
    """
    if source in ("tier", "conversation") or tier == settings.tiers[-1]:
        return None
    if request.estimate and _settled(request.estimate, request, settings):
        return None
    shares = settings.config.rollout
    name = request.task if source == "task" and request.task in shares else tier.name
    if name is None or name not in shares:
        return None
    return Rollout(name, shares[name], _position(request.text) < shares[name])


def _position(text: str) -> float:
    """Where a text stands between 0 and 1, by its hash: always at the same place."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _moved(tier: Tier, settings: Settings, *, keep_local: bool, cloud_only: bool) -> Tier | None:
    """The tier itself where it is allowed, else the nearest one that is; None is embedded."""
    if keep_local and not tier.local:
        return next((other for other in reversed(settings.tiers) if other.local), None)
    if cloud_only and tier.local:
        cloud = next((other for other in settings.tiers if not other.local), None)
        if cloud is None:
            raise ConfigError(
                "FORCE_LOCAL_LLM=false sends everything to the cloud, and no tier is there",
                fix="add a tier with a cloud model to the config, or unset the variable",
            )
        return cloud
    return tier


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, n=2)
    if near:
        return f"unknown {kind} {name!r}: did you mean {' or '.join(near)}?"
    return f"unknown {kind} {name!r}: known are {', '.join(names)}"
