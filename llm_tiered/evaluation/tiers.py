"""One tier at a time: which tiers to ask, with which options, and what a tier answered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..batch import asking
from ..config.settings import load_settings
from ..config.terms import WHOSE
from ..costs.charges import cost_of_response
from ..errors import AllTiersFailed, ModelUnavailable
from ..log.record import Record
from ..router.decision import named_tier
from ..router.request import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm.models import _BaseModel, _BaseResponse

    from ..config.tiers import Tier

# A tier answers alone: no other model in its place, no earlier answer.
_ALONE = {"fallback": "none", "cache": False, "escalate": False}

# The options that are set here and that a request can't choose.
FIXED_OPTIONS = ("tier", "complexity", "task", *_ALONE)


@dataclass(frozen=True)
class TierAnswer:
    """The answer of a model.

    `ms` is the time to the end of the answer and `ttft_ms` to its first output, in milliseconds.
    `cost` is in dollars. None means unknown.
    """

    model: str
    text: str
    ms: int
    ttft_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: Decimal | None

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens per second of the whole answer, including the time to first token."""
        return self.output_tokens * 1000 / self.ms if self.output_tokens and self.ms else None

    def to_json(self) -> dict[str, Any]:
        """The answer as a journal holds it."""
        return asdict(self) | {"cost": None if self.cost is None else str(self.cost)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> TierAnswer:
        """The answer in a journal's entry, which may have more fields."""
        fields = {name: entry[name] for name in cls.__dataclass_fields__}
        if fields["cost"] is not None:
            fields["cost"] = Decimal(fields["cost"])
        return cls(**fields)


def select_tiers(names: str | None) -> list[Tier]:
    """Return the tiers in a comma-separated list, lowest complexity first; without one, all.

    "embedded" is a tier only if the list names it. Raises RequestError for an unknown name, and
    ConfigError.
    """
    settings = load_settings()
    if names is None:
        return list(settings.tiers)
    tiers = {name: named_tier(name, settings) for name in map(str.strip, names.split(","))}
    return sorted(tiers.values(), key=lambda tier: tier.complexity)


def tier_options(tier: Tier, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `tiered` that make this tier answer, and no other."""
    own = {name: value for name, value in options.items() if name not in FIXED_OPTIONS}
    return own | _ALONE | {"tier": tier.name}


def check_route(response: _BaseResponse, tier: Tier) -> None:
    """Raise ModelUnavailable if privacy or a rollback sends the response to another tier."""
    decision = prepare(response).decision
    if decision.tier != tier.name:
        why = f"nothing may leave {WHOSE[decision.kept]}" if decision.kept else decision.reason
        raise ModelUnavailable(f"skipped: {why}")


def tier_answer(response: _BaseResponse, text: str, ms: int) -> TierAnswer:
    """Return the answer in a complete response."""
    record = Record.from_json(response.response_json)
    return TierAnswer(
        model=response.resolved_model or response.model.model_id,
        text=text,
        ms=ms,
        ttft_ms=record.ttft_ms if record else None,
        input_tokens=response.input_tokens,
        output_tokens=response.output_tokens,
        cost=cost_of_response(response),
    )


def broken_answer(tier: Tier, text: str, ms: int) -> TierAnswer:
    """Return an answer that its model broke off; llm has no token counts for it."""
    priced = tier.place == "cloud" or tier.answer_price
    free = None if priced else Decimal(0)
    return TierAnswer(tier.model_id, text, ms, None, None, None, free)


def reason(error: Exception, model: _BaseModel | None = None) -> str:
    """Return why a tier or a judge gave no answer, in one line, without its name and model."""
    if isinstance(error, AllTiersFailed):
        # The message lists the attempts: "  small (mlx/…) skipped: no key → …". Here it is one.
        return error.message.splitlines()[-1].partition(") ")[2]
    return asking.reason(error, model)
