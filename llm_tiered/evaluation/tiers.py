"""One tier asked by itself: which ones there are, what stands in the way, what came back."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..config.settings import load_settings
from ..costs.charges import cost_of_response
from ..errors import AllTiersFailed, ModelUnavailable, TieredError
from ..router.decision import named_tier
from ..router.failures import explain
from ..router.request import TieredRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import llm
    from llm.models import _BaseResponse

    from ..config.sections import Tier

# What a tier answers by itself: no other model in its place, no answer from earlier on.
_ALONE = {"fallback": "none", "cache": False, "escalate": False}

# What is decided here, and can't be said by whoever asks.
FIXED = ("tier", "complexity", "task", *_ALONE)


@dataclass(frozen=True)
class Answer:
    """What a model answered. `cost` is dollars, None if nobody knows; the times start with it."""

    model: str
    text: str
    ms: int
    ttft_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: Decimal | None

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens for each second of the whole answer, as `savings` counts them."""
        return self.output_tokens * 1000 / self.ms if self.output_tokens and self.ms else None


def find(names: str | None) -> list[Tier]:
    """The tiers in a list with commas, lowest complexity first; without a list, all of the config.

    The embedded model is a tier if it is named. Raises RequestError for an unknown name, and
    ConfigError.
    """
    settings = load_settings()
    if names is None:
        return list(settings.tiers)
    tiers = {name: named_tier(name, settings) for name in map(str.strip, names.split(","))}
    return sorted(tiers.values(), key=lambda tier: tier.complexity)


def options(tier: Tier, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `tiered` that make this tier answer, and nobody else."""
    return (
        {name: value for name, value in given.items() if name not in FIXED}
        | _ALONE
        | {"tier": tier.name}
    )


def check(prompt: llm.Prompt, tier: Tier) -> None:
    """Raise ModelUnavailable where a rule of privacy or rollback sends the prompt elsewhere."""
    decision = TieredRequest(prompt, None, None).decision
    if decision.tier != tier.name:
        why = "nothing may leave this machine" if decision.keep_local else decision.reason
        raise ModelUnavailable(f"skipped: {why}")


def describe(response: _BaseResponse, text: str, ms: int) -> Answer:
    """What came back, once it is there."""
    record: dict[str, Any] = (response.response_json or {}).get("tiered") or {}
    return Answer(
        model=response.resolved_model or response.model.model_id,
        text=text,
        ms=ms,
        ttft_ms=record.get("ttft_ms"),
        input_tokens=response.input_tokens,
        output_tokens=response.output_tokens,
        cost=cost_of_response(response),
    )


def describe_broken(tier: Tier, text: str, ms: int) -> Answer:
    """An answer that its model broke off, of which llm keeps nothing."""
    return Answer(tier.model, text, ms, None, None, None, Decimal(0) if tier.local else None)


def reason(error: Exception) -> str:
    """Why there is no answer, in one line."""
    if isinstance(error, AllTiersFailed):
        # It lists the attempts, of which there is one: "  small (mlx/…) skipped: no key → …".
        return error.message.splitlines()[-1].partition(") ")[2]
    return str(error) if isinstance(error, TieredError) else explain(error).reason
