"""A tier by itself: its name, what stands in its way, why it failed."""

from __future__ import annotations

import llm
import pytest

from llm_tiered.errors import AllTiersFailed, ModelUnavailable, RequestError
from llm_tiered.evaluation import tiers
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
def test_find(echoes: Echoes, names: str | None, expected: list[str]) -> None:
    """Tiers come in the order of their complexity, each of them once; without names, all."""
    assert [tier.name for tier in tiers.find(names)] == expected


@pytest.mark.parametrize(
    ("names", "hint"),
    [("smal", "did you mean small?"), ("", "known are small, medium, cloud, embedded")],
)
def test_find_nobody(echoes: Echoes, names: str, hint: str) -> None:
    """A name that is none is told with the nearest one."""
    with pytest.raises(RequestError) as raised:
        tiers.find(names)
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "name", "why"),
    [
        ("true", "cloud", "skipped: nothing may leave this machine"),
        ("false", "small", "FORCE_LOCAL_LLM=false"),
    ],
)
def test_sent_elsewhere(
    echoes: Echoes, monkeypatch: pytest.MonkeyPatch, variable: str, name: str, why: str
) -> None:
    """A prompt that would go to another tier's model is not asked."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", variable)
    [tier] = tiers.find(name)
    prompt = llm.get_model("tiered").prompt("a", options=tiers.options(tier, {})).prompt
    with pytest.raises(ModelUnavailable) as raised:
        tiers.check(prompt, tier)
    assert why in str(raised.value)


async def test_reason(echoes: Echoes) -> None:
    """Of a tier that failed, only why is told: who it was is known."""

    async def act(model: str, prompt: str) -> str:
        raise llm.ModelError("out (of) order")

    echoes.act = act
    [tier] = tiers.find("cloud")
    response = llm.get_async_model("tiered").prompt("a", options=tiers.options(tier, {}))
    with pytest.raises(AllTiersFailed) as raised:
        await response
    assert [model for model, _ in echoes.requests] == [CLOUD]
    assert tiers.reason(raised.value) == "failed: out (of) order"


def test_reason_of_other_errors() -> None:
    """Errors for people are told as they are, with what mends them."""
    assert tiers.reason(RequestError("no", fix="this")) == "no (this)"
    assert tiers.reason(ValueError("no")) == "ValueError: no"
