"""A conversation that changes its tier → what it costs that the new model reads everything again.

The prompts of a conversation begin like the one before, and models keep that in their prompt cache.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..costs import prices
from ..log.record import Switch
from ..wording import dollars
from .budget import ANSWER_TOKENS, tokens_of_messages
from .decision import decide, earlier_tier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import llm

    from ..config.settings import Settings
    from ..config.tiers import Tier
    from .decision import Decision, DecisionInput

CACHE_SECONDS = 300.0
"""How long services keep a prompt cache at least, by their documentation, when nothing uses it."""


class _Tokens(NamedTuple):
    """The tokens that both models have read or written, and those of the new turn."""

    earlier: int
    new: int


def switch_of(  # noqa: PLR0913, PLR0917 - all that the cost depends on
    decision: Decision,
    request: DecisionInput,
    settings: Settings,
    messages: Sequence[llm.Message],
    last_asked: datetime | None,
    answered_by: str | None = None,
    now: datetime | None = None,
) -> Switch | None:
    """Return what a decision to change the tier of a conversation costs, or None if it stays.

    `messages` are those of the request. `last_asked` is when the conversation was last
    continued, and `answered_by` the tier that answered then, which may be a fallback. `now` is
    when the request is made. The change is not `made` if that would cost more than it saves. That
    can be so only if it is left to an estimate, and for a smaller tier: a larger one is not chosen
    to save money.
    """
    target = settings.tier(decision.tier)
    origin = settings.tier(answered_by or "") or earlier_tier(request.past, settings)
    if origin is None or target is None or origin.model_id == target.model_id:
        return None
    tokens = _tokens(messages)
    cost = _cost(target, fresh=tokens.earlier)
    voluntary = decision.source == "estimate" and not decision.stuck
    made = not (voluntary and _is_smaller(target, origin, settings)) or _saves(
        origin, target, tokens, cached=_is_cached(last_asked, now or datetime.now(timezone.utc))
    )
    return Switch(
        origin.name, target.name, tokens.earlier, None if cost is None else float(cost), made
    )


def settled(
    decision: Decision, switch: Switch | None, request: DecisionInput, settings: Settings
) -> tuple[Decision, Switch | None]:
    """Return the decision that holds, given what leaving the tier of the conversation costs."""
    if switch and not switch.made:
        staying = decide(replace(request, stay=why_not(switch)), settings)
        if staying.tier == switch.origin:
            return staying, switch
        switch = replace(switch, made=True)
    return decision, switch


def why_not(switch: Switch) -> str:
    """Return why a change that is not made does not pay."""
    cost = dollars(Decimal(str(switch.dollars or 0)))
    return f"{switch.target} would have to read {switch.tokens:,} tokens again, for {cost}"


def _saves(origin: Tier, target: Tier, tokens: _Tokens, *, cached: bool) -> bool:
    """Whether the next answer of the new tier costs less, or as much, as far as it is known."""
    fresh = tokens.new if cached else tokens.earlier + tokens.new
    stay = _cost(origin, fresh=fresh, cached=tokens.earlier if cached else 0, output=ANSWER_TOKENS)
    move = _cost(target, fresh=tokens.earlier + tokens.new, output=ANSWER_TOKENS)
    return stay is None or move is None or move <= stay


def _cost(tier: Tier, *, fresh: int, cached: int = 0, output: int = 0) -> Decimal | None:
    """The dollars for a request to a tier; cached tokens of a server cost as much as others."""
    if tier.answer_price:
        return tier.answer_price.cost(fresh + cached, output, None)
    if tier.place != "cloud":
        return Decimal(0)
    return prices.cost_of_reading(tier.model_id, fresh=fresh, cached=cached, output=output)


def _is_smaller(one: Tier, other: Tier, settings: Settings) -> bool:
    names = [tier.name for tier in settings.tiers]
    return (
        one.name in names
        and other.name in names
        and names.index(one.name) < names.index(other.name)
    )


def _tokens(messages: Sequence[llm.Message]) -> _Tokens:
    end = max((at for at, each in enumerate(messages, 1) if each.role == "assistant"), default=0)
    return _Tokens(tokens_of_messages(messages[:end]), tokens_of_messages(messages[end:]))


def _is_cached(last_asked: datetime | None, now: datetime) -> bool:
    return last_asked is not None and (now - last_asked).total_seconds() < CACHE_SECONDS
