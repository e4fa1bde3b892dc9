"""One prompt through the tiers, once or several times each."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from ..evaluation import scoring, tiers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..config.sections import Tier
    from ..evaluation.tiers import Answer
    from ..router.model import TieredModel


@dataclass(frozen=True)
class Question:
    """What every tier is asked, and how often."""

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
    """What came of one tier. `failures` are the reasons of the runs without an answer.

    `misfits` says for each answer why it is no JSON of the schema, or None; it is empty where
    there is no schema.
    """

    tier: str
    model: str
    answers: list[Answer]
    failures: list[str]
    misfits: list[str | None]

    def spread(self, name: str) -> Spread | None:
        """A figure of the answers, by its name; None where nobody knows it for each of them."""
        values = [getattr(answer, name) for answer in self.answers]
        if not values or None in values:
            return None
        return Spread(*(float(value) for value in (median(values), min(values), max(values))))

    @property
    def cost(self) -> Decimal | None:
        """Dollars for an answer: the median, or None if nobody knows."""
        costs = [answer.cost for answer in self.answers]
        known = [cost for cost in costs if cost is not None]
        return Decimal(median(known)) if known and len(known) == len(costs) else None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        spreads = {name: self.spread(name) for name in FIGURES}
        return {
            "tier": self.tier,
            "model": self.model,
            "answers": [answer.text for answer in self.answers],
            "failures": self.failures,
            "valid": [misfit is None for misfit in self.misfits] if self.misfits else None,
            "misfits": self.misfits or None,
            "figures": {name: spread and vars(spread) for name, spread in spreads.items()},
        }


# What is measured, by its name in an answer.
FIGURES = ("ms", "ttft_ms", "tokens_per_second", "input_tokens", "output_tokens", "cost")


def compare(model: TieredModel, wanted: Sequence[Tier], question: Question) -> Iterator[Column]:
    """Ask one tier after the other, so that none slows another down."""
    for tier in wanted:
        yield _column(model, tier, question)


def _column(model: TieredModel, tier: Tier, question: Question) -> Column:
    answers, failures = [], []
    for _ in range(question.runs):
        try:
            answers.append(_ask(model, tier, question))
        except Exception as error:
            failures.append(tiers.reason(error))
    schema = question.schema
    misfits = [] if schema is None else [scoring.misfit(answer.text, schema) for answer in answers]
    name = answers[0].model if answers else tier.model
    return Column(tier.name, name, answers, failures, misfits)


def _ask(model: TieredModel, tier: Tier, question: Question) -> Answer:
    schema: Any = question.schema
    response = model.prompt(
        question.prompt,
        system=question.system,
        schema=schema,
        options=tiers.options(tier, question.options),
    )
    tiers.check(response.prompt, tier)
    text = response.text()
    return tiers.describe(response, text, response.duration_ms())
