"""The same prompt through several tiers, once or several times each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from ..errors import AllTiersFailed
from ..evaluation.scoring import schema_mistake
from ..evaluation.tiers import TierAnswer, check_route, reason, tier_answer, tier_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..config.tiers import Tier
    from ..router.model import TieredModel


@dataclass(frozen=True)
class CompareRequest:
    """The prompt for every tier, what is sent with it, and the number of runs."""

    prompt: str
    system: str | None
    schema: Mapping[str, Any] | None
    options: Mapping[str, Any]
    runs: int = 1


@dataclass(frozen=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """The results of one tier. `failures` says why runs have no answer.

    `schema_mistakes` has an entry for each answer: why it is not JSON that fits the schema, or
    None. It is empty if there is no schema.
    """

    tier: str
    model: str
    answers: list[TierAnswer]
    failures: list[str]
    schema_mistakes: list[str | None]

    def spread(self, name: str) -> Spread | None:
        """Return a figure of the answers by its name, or None if one answer does not have it."""
        values = [getattr(answer, name) for answer in self.answers]
        if not values or None in values:
            return None
        return Spread(*(float(value) for value in (median(values), min(values), max(values))))

    @property
    def cost(self) -> Decimal | None:
        """The median price of an answer in dollars, or None if one is unknown."""
        costs = [answer.cost for answer in self.answers]
        known = [cost for cost in costs if cost is not None]
        return Decimal(median(known)) if known and len(known) == len(costs) else None

    def as_dict(self) -> dict[str, Any]:
        """The results as JSON values."""
        spreads = {name: self.spread(name) for name in FIGURES}
        mistakes = self.schema_mistakes
        return {
            "tier": self.tier,
            "model": self.model,
            "answers": [answer.text for answer in self.answers],
            "failures": self.failures,
            "valid": [mistake is None for mistake in mistakes] if mistakes else None,
            "misfits": mistakes or None,
            "figures": {name: spread and vars(spread) for name, spread in spreads.items()},
        }


# Attributes of an answer.
FIGURES = ("ms", "ttft_ms", "tokens_per_second", "input_tokens", "output_tokens", "cost")


def compare(model: TieredModel, tiers: Sequence[Tier], request: CompareRequest) -> Iterator[Column]:
    """Ask one tier after another, so that none slows another down; yield their columns."""
    for tier in tiers:
        yield _column(model, tier, request)


def _column(model: TieredModel, tier: Tier, request: CompareRequest) -> Column:
    answers, failures = [], []
    for _ in range(request.runs):
        try:
            answers.append(_ask(model, tier, request))
        except Exception as error:
            failures.append(reason(error, model))
    schema = request.schema
    mistakes = [] if schema is None else [schema_mistake(answer.text, schema) for answer in answers]
    name = answers[0].model if answers else tier.model_id
    return Column(tier.name, name, answers, failures, mistakes)


def _ask(model: TieredModel, tier: Tier, request: CompareRequest) -> TierAnswer:
    schema: Any = request.schema
    response = model.prompt(
        request.prompt,
        system=request.system,
        schema=schema,
        options=tier_options(tier, request.options),
    )
    check_route(response, tier)
    started = time.perf_counter()
    try:
        return tier_answer(response, response.text(), response.duration_ms())
    except AllTiersFailed as error:
        if not error.rejected:
            raise
        ms = round((time.perf_counter() - started) * 1000)
        return tier_answer(response, error.rejected, ms)
