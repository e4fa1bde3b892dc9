"""What it costs that a conversation changes its tier, and whether that pays."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.config.sections import Config
from llm_tiered.config.settings import Settings
from llm_tiered.estimator import Estimate
from llm_tiered.log.conversation import Past
from llm_tiered.router.decision import DecisionInput, decide
from llm_tiered.router.raising import Stuck
from llm_tiered.router.request import prepare
from llm_tiered.router.switching import CACHE_SECONDS, switch_of, why_not
from tests import gemini
from tests.toys import SMALL

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

    from llm_tiered.log.record import Switch
    from tests.toys import Ask, Toys

CHEAP, DEAR, UNKNOWN = "gemini/gemini-flash-latest", "gemini/gemini-2.5-pro", "gemini/nobody"
NOW, LONG_AGO = timedelta(seconds=5), timedelta(seconds=CACHE_SECONDS + 5)
PROOF = "Prove that there are infinitely many primes."


def settings(cheap: str = CHEAP, dear: str = DEAR) -> Settings:
    """Return settings with a local tier and two in the cloud."""
    tiers = [
        {"name": "small", "complexity": "1-3", "model": SMALL},
        {"name": "cheap", "complexity": "4-7", "model": cheap},
        {"name": "dear", "complexity": "8-10", "model": dear},
    ]
    return Settings(Config(tiers=tiers))  # type: ignore[arg-type]  # pydantic makes tiers of them


def conversation(tokens: int) -> list[llm.Message]:
    """Return messages with about this many tokens before the last one."""
    return [llm.user("Why?"), llm.assistant("x" * 4 * tokens), llm.user("And how?")]


def switch(  # noqa: PLR0913, PLR0917 - the facts of a conversation
    origin: str,
    complexity: int,
    tokens: int = 50_000,
    ago: timedelta | None = NOW,
    config: Settings | None = None,
    answered_by: str | None = None,
    **fields: Any,
) -> Switch | None:
    """Return the switch of a conversation on a tier, now estimated to be so complex."""
    config = config or settings()
    estimate = Estimate(0.5, complexity, 1.0, ())
    past = Past(origin, {"small": 2, "cheap": 5, "dear": 9}[origin], "estimate")
    values: dict[str, Any] = {"past": past, "estimate": estimate} | fields
    request = DecisionInput(**values)
    last = datetime.now(timezone.utc) - ago if ago else None
    return switch_of(
        decide(request, config), request, config, conversation(tokens), last, answered_by
    )


def test_no_switch() -> None:
    """A conversation that stays on its tier, or begins, costs nothing more."""
    assert switch("cheap", 6) is None
    assert switch("cheap", 9, past=Past()) is None


def test_fallback() -> None:
    """What counts is the tier that answered last, which may not be the one that was decided."""
    assert switch("small", 5, answered_by="cheap") is None
    change = switch("small", 9, answered_by="cheap")
    assert change is not None
    assert change.origin == "cheap"


def test_counted() -> None:
    """The tokens of earlier turns are counted, and what the new model takes for them."""
    up = switch("cheap", 9)
    assert up is not None
    assert (up.origin, up.target, up.made) == ("cheap", "dear", True)
    assert up.tokens == pytest.approx(50_000, rel=0.01)
    assert up.dollars == pytest.approx(50_000 * 1.25e-6, rel=0.01)


def test_dearer_than_the_cache() -> None:
    """A smaller tier that would read a long conversation again for more is not chosen."""
    same_price = settings(cheap=DEAR, dear="gemini/gemini-2.5-pro-preview-05-06")
    down = switch("dear", 5, config=same_price)
    assert down is not None
    assert not down.made
    assert why_not(down).startswith(f"cheap would have to read {down.tokens:,} tokens again, for $")


@pytest.mark.parametrize(
    ("origin", "complexity", "fields"),
    [
        ("dear", 2, {}),
        ("small", 9, {}),
        ("dear", 5, {"ago": LONG_AGO}),
        ("dear", 5, {"ago": None}),
        ("dear", 5, {"task": "theory_analysis"}),
        ("dear", 5, {"tier": "cheap"}),
        ("cheap", 5, {"stuck": Stuck("3 of 6 failed")}),
    ],
    ids=["here", "up", "cold", "unknown age", "task", "tier", "stuck"],
)
def test_made(origin: str, complexity: int, fields: dict[str, Any]) -> None:
    """What saves money, goes up or is asked for is done, however long the conversation is."""
    same_price = settings(cheap=DEAR, dear="gemini/gemini-2.5-pro-preview-05-06")
    change = switch(origin, complexity, config=same_price, **fields)
    assert change is not None
    assert change.made


def test_unknown_price() -> None:
    """Where a price is unknown, the dollars are, and the estimate decides."""
    change = switch("dear", 5, config=settings(cheap=UNKNOWN))
    assert change is not None
    assert (change.dollars, change.made) == (None, True)


def test_cheaper_by_far() -> None:
    """A much cheaper model may read everything again."""
    change = switch("dear", 5, tokens=1_000)
    assert change is not None
    assert change.made


async def test_logged(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """The record of a turn says what it costs that the conversation has changed its tier."""
    gemini.answer(httpx_mock, *gemini.says("Here it is."))
    chat = ask.model.conversation()
    first = await ask("What is a prime?", to=chat)
    second = await ask(PROOF, to=chat)
    assert "switch" not in first.response_json["tiered"]
    logged = second.response_json["tiered"]["switch"]
    assert (logged["origin"], logged["target"], logged["made"]) == ("small", "cloud", True)
    assert 0 < logged["tokens"] < 100
    assert 0 < logged["dollars"] < 0.001


async def test_stays(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A conversation stays where its long history is cached, and the record says why."""
    config = settings(cheap="gemini/gemini-2.5-flash", dear=gemini.MODEL)
    toys.configure(tiers=[tier.model_dump(mode="json") for tier in config.tiers])
    chat = ask.model.conversation()
    answers = []
    for prompt in (PROOF, "Is a tomato a fruit?", "Who wrote Hamlet?"):
        gemini.answer(httpx_mock, *gemini.says("word " * 8_000))
        answers.append(await ask(prompt, to=chat))
    records = [answer.response_json["tiered"] for answer in answers]
    assert [record["tier"] for record in records] == ["dear"] * 3
    switch = records[-1]["switch"]
    assert (switch["origin"], switch["target"], switch["made"]) == ("dear", "cheap", False)
    assert "but this conversation stays on dear: cheap would have" in _reason(answers[-1])


def _reason(response: Any) -> str:
    """Return the reason of a decision that is made again."""
    response.conversation.responses.pop()
    return prepare(response).decision.reason
