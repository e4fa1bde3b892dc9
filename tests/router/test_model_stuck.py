"""A model that is stuck in a tool loop: the next tier up takes over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import ToolResultPart

from llm_tiered.router.request import prepare
from tests import gemini
from tests.router.recorded_loops import STUCK
from tests.router.test_loops import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

AGAIN = "called double again with the same arguments and the same result"


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@pytest.fixture(autouse=True)
def _stuck(toys: Toys) -> None:
    """The small toy calls the same tool whenever it is asked; the medium one answers."""
    toys.small.tools = toys.medium.tools = True
    toys.small.does = [llm.ToolCall("double", {"number": 2}, tool_call_id="c-1")]


async def loop(ask: Ask, *, to: Any = None, **options: Any) -> list[Any]:
    """Return the responses of a tool loop of at most five answers."""
    conversation = to or ask.model.conversation()
    chain = conversation.chain("2 * 2?", tools=[double], options=options, chain_limit=5)
    responses: list[Any] = await ask.finish(chain)
    return responses


def tiers(responses: list[Any]) -> list[str]:
    """Return the tiers of the responses."""
    return [response.response_json["tiered"]["tier"] for response in responses]


async def test_takes_over(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """After the same call again, the next tier up answers; one warning and the record say so."""
    with caplog.at_level(logging.WARNING, logger="llm_tiered"):
        responses = await loop(ask, complexity=2)
    assert tiers(responses) == ["small", "small", "medium"]
    assert responses[-1].text_or_raise() == "medium answer"
    assert [each.getMessage() for each in caplog.records] == [
        f"the model is stuck ({AGAIN}): medium takes over"
    ]
    recorded = [response.response_json["tiered"].get("stuck") for response in responses]
    assert recorded == [None, None, AGAIN]


async def test_reason(ask: Ask) -> None:
    """The reason of the decision says what happened."""
    responses = await loop(ask, complexity=2)
    decision = prepare(responses[-1]).decision
    assert decision.reason.endswith("so medium takes over")


@pytest.mark.parametrize("options", [{"complexity": 2}, {}])
async def test_once(
    ask: Ask, toys: Toys, options: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The tier that takes over goes on to the end, and is not replaced in its turn."""
    toys.configure(estimate=False, default_complexity=2)
    toys.medium.does = list(toys.small.does)
    with caplog.at_level(logging.WARNING, logger="llm_tiered"), pytest.raises(ValueError):  # noqa: PT011 - llm's limit of the chain
        await loop(ask, **options)
    answered = [len(toy.prompts) for toy in (toys.small, toys.medium)]
    assert answered == [2, 3]
    assert len(caplog.records) == 1


async def test_next_message(ask: Ask) -> None:
    """With the user's next message, what the request says about its complexity counts again."""
    conversation = ask.model.conversation(tools=[double])
    await loop(ask, to=conversation, complexity=2)
    response = conversation.prompt("And 3 * 2?", options={"complexity": 2})
    assert prepare(response).decision.tier == "small"


async def test_later_turns(ask: Ask, toys: Toys) -> None:
    """Without such a word, the conversation stays with the tier that took over."""
    toys.configure(estimate=False, default_complexity=2)
    conversation = ask.model.conversation(tools=[double])
    await loop(ask, to=conversation)
    assert prepare(conversation.prompt("And 3 * 2?")).decision.tier == "medium"


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"escalate_stuck": False}, {"complexity": 2}),
        ({}, {"tier": "small"}),
        ({}, {"complexity": 2, "fallback": "none"}),
        ({"rules": [{"words": ["2 * 2"], "tier": "small"}], "estimate": False}, {}),
        ({"rules": [{"words": ["2 * 2"], "forbid": ["medium", "cloud"]}]}, {"complexity": 2}),
    ],
    ids=["opt-out", "tier", "fallback", "rule", "forbidden"],
)
async def test_stays(ask: Ask, toys: Toys, config: dict[str, Any], options: dict[str, Any]) -> None:
    """No other tier takes over if that is switched off, or if the tier was named."""
    toys.configure(**config)
    with pytest.raises(ValueError):  # noqa: PT011 - llm's limit of the chain
        await loop(ask, **options)
    assert (len(toys.small.prompts), toys.medium.prompts) == (5, [])


async def test_local_only(ask: Ask, toys: Toys) -> None:
    """What has to stay on this machine does not go to the cloud."""
    toys.medium.does = list(toys.small.does)
    with pytest.raises(ValueError):  # noqa: PT011 - llm's limit of the chain
        await loop(ask, complexity=6, local_only=1)
    assert len(toys.medium.prompts) == 5


async def test_above_the_fallback(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """The tier that takes over is above the one that answered, which may be a fallback."""
    toys.small.tools = False
    toys.medium.does = list(toys.small.does)
    gemini.answer(httpx_mock, *gemini.says("Four"))
    responses = await loop(ask, complexity=2)
    assert tiers(responses) == ["small", "small", "cloud"]


@pytest.mark.parametrize("end", ["stuck", "goes on"])
def test_messages_alone(toys: Toys, end: str) -> None:
    """If only the messages are known, another tier takes over as well, and goes on."""
    more = [[("double", {"number": 1}, "2")]] if end == "goes on" else []
    *history, results = messages([*STUCK["the same sum again"], *more])
    response = llm.get_model("tiered").prompt(
        messages=history,
        tool_results=[
            llm.ToolResult(name=part.name, output=part.output, tool_call_id=part.tool_call_id)
            for part in results.parts
            if isinstance(part, ToolResultPart)
        ],
        complexity=2,
    )
    decision = prepare(response).decision
    assert decision.tier == "medium"
    # It is told once.
    assert (decision.stuck is None) == (end == "goes on")


async def test_logged(ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """The log has the tier that took over, and why."""
    await loop(ask, complexity=2)
    *_, last = logged()
    assert f'"stuck": "{AGAIN}"' in last["response_json"]
    assert last["resolved_model"] == toys.keys["tiers"][1]["model"]
