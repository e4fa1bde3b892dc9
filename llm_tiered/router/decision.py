"""Request and settings → decision: which tier a request goes to, and why. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.terms import WHOSE, WITHIN, strictest
from ..config.tiers import Tier
from ..config.values import NO_COMPLEXITY
from ..errors import ConfigError, RequestError
from ..log.conversation import UNKNOWN, Past
from ..log.record import Overruled, Rollout
from ..mlx.catalog import EMBEDDED
from ..rules.ruling import NO_RULING, Ruling
from ..wording import unknown
from .raising import tier_above

if TYPE_CHECKING:
    from ..config.rules import Rule
    from ..config.settings import Settings
    from ..config.terms import Fallback, Kept, Place
    from ..estimator import Estimate
    from ..log.record import Source
    from .raising import Stuck

EMBEDDED_TIER = "embedded"
"""The name by which the embedded model is requested, logged and shown."""


@dataclass(frozen=True)
class DecisionInput:
    """Everything about a request that the decision depends on.

    `kept` is whether the request itself says that it stays on this machine or on the user's.
    `past` is the conversation so far. `estimate` is the estimated complexity; without one,
    `default_complexity` applies. `fallback` is None where the config decides. `text` is the user's
    last message: a rollout picks its share of requests by a hash of it. `ruling` is what the rules
    of the config say. `has_tool_results` is whether the request brings what tools returned; `stuck`
    is how the model that called them is stuck. `stay` is why a conversation does not go to the tier
    of its estimate.
    """

    complexity: int | None = None
    task: str | None = None
    tier: str | None = None
    kept: Kept | None = None
    fallback: Fallback | None = None
    past: Past = UNKNOWN
    estimate: Estimate | None = None
    text: str = ""
    ruling: Ruling = NO_RULING
    has_tool_results: bool = False
    stuck: Stuck | None = None
    stay: str | None = None

    @property
    def is_explicit(self) -> bool:
        """Whether the request itself says where it goes, or how hard it is."""
        return (self.tier, self.complexity, self.task) != (None, None, None)


@dataclass(frozen=True)
class Decision:
    """The tier that a request goes to, and why.

    `rollout` is None where none applies. With `kept` only models on this machine, or on the user's
    machines, may be asked, with `cloud_only` only others, and never those of the tiers in
    `forbidden`.
    `rules` are the names of the rules that had a say. `overruled` is the tier that the
    request would go to if it were allowed to. `stuck` is how the model of a lower tier is stuck, if
    this tier takes over now.
    """

    tier: str
    model: str
    complexity: int | None
    source: Source
    task: str | None
    reason: str
    fallback: Fallback
    rollout: Rollout | None = None
    kept: Kept | None = None
    cloud_only: bool = False
    forbidden: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()
    overruled: Overruled | None = None
    stuck: str | None = None

    @property
    def keep_local(self) -> bool:
        """Whether only models on this machine may be asked."""
        return self.kept == "here"

    @property
    def places(self) -> frozenset[Place]:
        """The places whose models may be asked."""
        return _places(self.kept, cloud_only=self.cloud_only)


@dataclass(frozen=True)
class _Choice:
    """The tier before any restriction, and why. `named` is whether it was chosen by name."""

    tier: Tier
    complexity: int | None
    source: Source
    reason: str
    task: str | None = None
    named: bool = False


def decide(request: DecisionInput, settings: Settings) -> Decision:
    """Decide where a request goes.

    By tier, complexity, task, conversation, rule, estimate or default: the first of them that says.

    Raises RequestError for an unknown tier or task, with the nearest names.
    """
    # Privacy only ever tightens: the option, the environment, the config, its rules and earlier
    # turns can each keep a request on this machine or on the user's, and none of them can undo
    # that. Earlier turns count because the next turn sends them along.
    ruling = request.ruling
    must_stay = strictest(request.kept, request.past.kept, settings.kept)
    kept = strictest(must_stay, ruling.keeps.place if ruling.keeps else None)
    forbidden = ruling.forbidden
    cloud_only = settings.force_local is False and kept is None
    if cloud_only and forbidden:
        # The rollback sends nothing where a rule forbids it, either.
        cloud = {tier.name for tier in settings.tiers if tier.place == "cloud"}
        cloud_only = not cloud or not cloud <= forbidden
    choice = _requested(request, settings)
    tier, reason = choice.tier, choice.reason
    rollout = _rollout(choice, request, settings)
    if rollout and not rollout.included:
        tier = settings.tiers[settings.tiers.index(tier) + 1]
        reason = (
            f"{reason}; {rollout.name} receives {rollout.share:.0%} so far, "
            f"so this request goes to {tier.name}"
        )
    limits = _Limits(_places(kept, cloud_only=cloud_only), forbidden)
    stuck = request.stuck
    raised = _raised(choice, tier, request, settings, limits) if stuck else None
    if stuck and raised:
        tier, rollout = raised, None
        reason = f"{reason}; the model is stuck ({stuck.reason}), so {tier.name} takes over"
    allowed = _allowed(tier, settings, limits)
    name, model = (
        (allowed.name, allowed.model_id) if allowed else (EMBEDDED_TIER, EMBEDDED.model_id)
    )
    overruled = None
    if name != tier.name:
        if must_stay and tier.place not in WITHIN[must_stay]:
            why = f"nothing may leave {WHOSE[must_stay]}"
        elif kept and ruling.keeps and tier.place not in WITHIN[kept]:
            why = f"{ruling.keeps.label} keeps it on {WHOSE[kept]}"
        elif rule := ruling.forbids(tier.name):
            why = f"{rule.label} forbids {tier.name}"
        else:
            why = "FORCE_LOCAL_LLM=false"
        reason = f"{reason}; {why}, so it goes to {name}"
        overruled = Overruled(tier.name, why)
        # The rollout did not decide this one, so it must not count for either side.
        rollout = None
    chose = (ruling.decides,) if ruling.decides and choice.source == "rule" else ()
    return Decision(
        tier=name,
        model=model,
        complexity=choice.complexity,
        source=choice.source,
        task=choice.task,
        reason=reason,
        fallback=request.fallback or settings.config.fallback,
        rollout=rollout,
        kept=kept,
        cloud_only=cloud_only,
        forbidden=forbidden,
        rules=tuple(dict.fromkeys([rule.name for rule in (*chose, *ruling.restricts)])),
        overruled=overruled,
        stuck=stuck.reason if stuck and raised and stuck.is_new else None,
    )


def rules_may_choose(request: DecisionInput, settings: Settings) -> bool:
    """Whether it is left to the rules where a request goes.

    It is not if the request says so itself, or did so earlier in the conversation, or if a model
    has begun to answer and called tools.
    """
    past = request.past
    continues = earlier_tier(past, settings) is not None
    if request.is_explicit or (continues and request.has_tool_results):
        return False
    return not continues or past.source in ("rule", "estimate", "default")


def needs_estimate(request: DecisionInput, settings: Settings) -> bool:
    """Whether it is left to an estimate where a request goes: its rules don't choose, either."""
    rule = request.ruling.decides
    if request.is_explicit or not settings.config.estimate or (rule and rule.chooses):
        return False
    continues = earlier_tier(request.past, settings) is not None
    return not continues or (request.past.source == "estimate" and not request.has_tool_results)


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


def earlier_tier(past: Past, settings: Settings) -> Tier | None:
    """The tier that the conversation is on, or None. The embedded model has to have been named."""
    if past.tier == EMBEDDED_TIER and past.source == "tier":
        return named_tier(EMBEDDED_TIER, settings)
    return settings.tier(past.tier or "")


def _requested(request: DecisionInput, settings: Settings) -> _Choice:
    """The tier before any restriction of privacy, rules or rollback, and why."""
    tasks = settings.config.tasks
    if request.task is not None and request.task not in tasks:
        raise RequestError(unknown("task", request.task, sorted(tasks)))
    if request.is_explicit:
        return _explicit(request, settings)
    past = request.past
    tier = earlier_tier(past, settings)
    rule = request.ruling.decides
    if rule and rule.chooses and rules_may_choose(request, settings):
        return _ruled(rule, settings)
    if request.estimate is not None and (tier is None or past.source == "estimate"):
        return _estimated(request.estimate, request, settings)
    if tier is not None:
        reason = f"this conversation is on {tier.name}"
        return _Choice(tier, past.complexity, "conversation", reason)
    complexity = settings.config.default_complexity
    reason = f"no complexity given; using default_complexity {complexity}"
    return _covering(complexity, "default", reason, settings)


def _explicit(request: DecisionInput, settings: Settings) -> _Choice:
    task = request.task
    if request.tier is not None:
        tier = named_tier(request.tier, settings)
        reason = f"the request names the tier {tier.name}"
        return _Choice(tier, request.complexity, "tier", reason, task, named=True)
    if request.complexity is not None:
        reason = f"complexity {request.complexity}"
        return _covering(request.complexity, "option", reason, settings, task=task)
    complexity = settings.config.tasks[task or ""].complexity
    reason = f"the task {task} has complexity {complexity}"
    return _covering(complexity, "task", reason, settings, task=task)


def _ruled(rule: Rule, settings: Settings) -> _Choice:
    if rule.tier is not None:
        reason = f"{rule.label} names the tier {rule.tier}"
        return _Choice(named_tier(rule.tier, settings), None, "rule", reason, named=True)
    if rule.task is not None:
        complexity = settings.config.tasks[rule.task].complexity
        reason = f"{rule.label} gives the task {rule.task} with complexity {complexity}"
        return _covering(complexity, "rule", reason, settings, task=rule.task)
    complexity = rule.complexity or settings.config.default_complexity
    return _covering(complexity, "rule", f"{rule.label} gives complexity {complexity}", settings)


def _covering(
    complexity: int, source: Source, reason: str, settings: Settings, *, task: str | None = None
) -> _Choice:
    tier = _tier_for(complexity, settings)
    reason = f"{reason}, and {tier.name} covers {tier.complexity}"
    return _Choice(tier, complexity, source, reason, task)


def _tier_for(complexity: int, settings: Settings) -> Tier:
    return next(tier for tier in settings.tiers if tier.covers(complexity))


def _estimated(estimate: Estimate, request: DecisionInput, settings: Settings) -> _Choice:
    """The tier of an estimate; a conversation stays where it is while its estimates agree."""
    because = f" ({', '.join(estimate.reasons)})" if estimate.reasons else ""
    reason = f"estimated complexity {estimate.complexity}{because}"
    past = request.past
    if request.stay and (tier := settings.tier(past.tier or "")):
        reason = f"{reason}, but this conversation stays on {tier.name}: {request.stay}"
        return _Choice(tier, past.complexity, "estimate", reason)
    tier = _settled(estimate, past, settings)
    if tier is not None:
        reason = f"{reason}, as before, and this conversation is on {tier.name}"
        return _Choice(tier, estimate.complexity, "estimate", reason)
    return _covering(estimate.complexity, "estimate", reason, settings)


def _settled(estimate: Estimate, past: Past, settings: Settings) -> Tier | None:
    """The conversation's tier, if its last estimate and this one belong to the same tier."""
    if past.source != "estimate" or past.complexity is None:
        return None
    covering = _tier_for(estimate.complexity, settings)
    return settings.tier(past.tier or "") if covering.covers(past.complexity) else None


def _rollout(choice: _Choice, request: DecisionInput, settings: Settings) -> Rollout | None:
    """The rollout that applies: the task's, else the tier's.

    A request that names its tier always gets it, and a conversation stays where it began.
    """
    tier = choice.tier
    if choice.named or choice.source == "conversation" or tier == settings.tiers[-1]:
        return None
    estimate = request.estimate if choice.source == "estimate" else None
    if estimate and (request.stay or _settled(estimate, request.past, settings)):
        return None
    shares = settings.config.rollout
    by_task = choice.source in ("task", "rule") and choice.task in shares
    name = choice.task if by_task else tier.name
    if name is None or name not in shares:
        return None
    return Rollout(name, shares[name], _position(request.text) < shares[name])


def _position(text: str) -> float:
    """A number from 0 to 1 from the text's hash, so that the same text always goes the same way."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class _Limits:
    places: frozenset[Place]
    forbidden: frozenset[str]

    def permit(self, tier: Tier) -> bool:
        return tier.place in self.places and tier.name not in self.forbidden


def _places(kept: Kept | None, *, cloud_only: bool) -> frozenset[Place]:
    """The places whose models may be asked."""
    if kept:
        return WITHIN[kept]
    return frozenset(["cloud"] if cloud_only else ["here", "own", "cloud"])


def _raised(
    choice: _Choice, tier: Tier, request: DecisionInput, settings: Settings, limits: _Limits
) -> Tier | None:
    """The tier that takes over from a model that is stuck, unless somebody named the tier."""
    past = request.past
    # A rule that names a tier gives no complexity.
    was_named = past.source == "tier" or (past.source == "rule" and past.complexity is None)
    if request.stuck is None or choice.named or was_named:
        return None
    fallback = request.fallback or settings.config.fallback

    def permits(other: Tier) -> bool:
        near = fallback == "local" and other.place != "cloud"
        return limits.permit(other) and (fallback == "any" or near)

    return tier_above(tier, request.stuck, settings.tiers, permits)


def _allowed(tier: Tier, settings: Settings, limits: _Limits) -> Tier | None:
    """The tier itself if it is allowed, else the nearest one that is; None means embedded."""
    if limits.permit(tier):
        return tier
    others = [other for other in settings.tiers if limits.permit(other)]
    if tier.place not in limits.places and "cloud" in limits.places:
        if not others:
            raise ConfigError(
                "FORCE_LOCAL_LLM=false sends everything to the cloud, but there is no cloud tier",
                fix="add a tier with a cloud model to the config, or unset the variable",
            )
        return others[0]
    if tier.place not in limits.places:
        return others[-1] if others else None
    # The next one up can do what a forbidden tier can.
    above = [other for other in others if other.complexity > tier.complexity]
    return next(iter(above or others[::-1]), None)
