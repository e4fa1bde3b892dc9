"""One tier at a time: selection, routing, and the reason for a failure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import llm
import pytest

from llm_tiered.errors import AllTiersFailed, ModelUnavailable, RequestError
from llm_tiered.evaluation.tiers import (
    TierAnswer,
    check_route,
    reason,
    select_tiers,
    tier_options,
)
from tests.batch.echo import CLOUD, Echoes


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["small", "medium", "cloud"]),
        ("cloud, small", ["small", "cloud"]),
        ("small,small", ["small"]),
        ("cloud,embedded,small", ["embedded", "small", "cloud"]),
    ],
)
def test_select(echoes: Echoes, names: str | None, expected: list[str]) -> None:
    """Tiers are sorted by complexity, each of them once; without names, all are selected."""
    assert [tier.name for tier in select_tiers(names)] == expected


@pytest.mark.parametrize(
    ("names", "hint"),
    [("smal", "did you mean small?"), ("", "known are small, medium, cloud, embedded")],
)
def test_select_unknown(echoes: Echoes, names: str, hint: str) -> None:
    """An unknown name is reported with the nearest one, or with all."""
    with pytest.raises(RequestError) as raised:
        select_tiers(names)
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "name", "why"),
    [
        ("true", "cloud", "skipped: nothing may leave this machine"),
        ("false", "small", "FORCE_LOCAL_LLM=false"),
    ],
)
def test_route_to_another_tier(
    echoes: Echoes, monkeypatch: pytest.MonkeyPatch, variable: str, name: str, why: str
) -> None:
    """A response that would go to another tier is refused."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", variable)
    [tier] = select_tiers(name)
    model: Any = llm.get_model("tiered")
    response = model.prompt("a", options=tier_options(tier, {}))
    with pytest.raises(ModelUnavailable) as raised:
        check_route(response, tier)
    assert why in str(raised.value)


async def test_reason(echoes: Echoes) -> None:
    """The reason for a tier's failure leaves out its name and model, which are known."""

    async def act(model: str, prompt: str) -> str:
        raise llm.ModelError("out (of) order")

    echoes.act = act
    [tier] = select_tiers("cloud")
    response = llm.get_async_model("tiered").prompt("a", options=tier_options(tier, {}))
    with pytest.raises(AllTiersFailed) as raised:
        await response
    assert [model for model, _ in echoes.requests] == [CLOUD]
    assert reason(raised.value) == "failed: out (of) order"


def test_reason_of_other_errors() -> None:
    """Errors of this package keep their message and fix; other errors get their type."""
    assert reason(RequestError("no", fix="this")) == "no (this)"
    assert reason(ValueError("no")) == "ValueError: no"


@pytest.mark.parametrize("cost", [Decimal("0.00155"), Decimal(0), None])
def test_json(cost: Decimal | None) -> None:
    """An answer comes back from a journal exactly as it was, whatever else the entry holds."""
    answer = TierAnswer("mlx/a", "Hello", 1000, 250, 5, 20, cost)
    assert TierAnswer.from_json(answer.to_json() | {"line": 3}) == answer
