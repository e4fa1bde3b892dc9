"""Local answers that are checked before they are shown, and escalate if they are weak."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent

from llm_tiered.errors import AllTiersFailed
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

SMALL, MEDIUM = "mlx/toy-small", "mlx/toy-medium"
REFUSAL = "I'm sorry, but I can't help with that."


def attempts(response: Any) -> list[tuple[str, str, str | None]]:
    """Tier, outcome and reason of each attempt."""
    found = response.response_json["tiered"]["attempts"]
    return [(one["tier"], one["outcome"], one["reason"]) for one in found]


async def test_good_answer_stays(ask: Ask, toys: Toys) -> None:
    """A good answer is shown, from the tier that was decided."""
    response = await ask("Hello", complexity=2, escalate=True)
    assert response.text_or_raise() == "small answer"
    assert attempts(response) == [("small", "ok", None)]


async def test_weak_answer_goes_up(ask: Ask, toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is not shown: the next tier up answers, and the reason is reported and recorded."""
    toys.small.does = [REFUSAL]
    response = await ask("Hello", complexity=2, escalate=True)
    assert response.text_or_raise() == "medium answer"
    reason = "escalated: the answer is a refusal"
    assert attempts(response) == [("small", "failed", reason), ("medium", "ok", None)]
    [warning] = caplog.messages
    assert warning == f"{MEDIUM} answers for small. {SMALL} failed: {reason}"


async def test_up_to_the_cloud(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """If every local tier is weak, the cloud answers, and its answer is not judged."""
    toys.small.does = toys.medium.does = [REFUSAL]
    gemini.answer(httpx_mock, *gemini.says(REFUSAL))
    response = await ask("Hello", complexity=2, escalate=True)
    assert response.text_or_raise() == REFUSAL
    assert [tier for tier, *_ in attempts(response)] == ["small", "medium", "cloud"]
    assert response.resolved_model == gemini.MODEL


@pytest.mark.parametrize("stop", [{"fallback": "none"}, {"local_only": True, "complexity": 6}])
async def test_nothing_above(
    ask: Ask, toys: Toys, stop: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """If no larger model may answer, the weak answer is shown after all, and that is said."""
    toys.small.does = toys.medium.does = [REFUSAL]
    response = await ask("Hello", **({"complexity": 2, "escalate": True} | stop))
    assert response.text_or_raise() == REFUSAL
    *_, last = attempts(response)
    assert last[1:] == ("ok", "no higher tier answered")
    model = response.resolved_model
    beginning = f"No higher tier answered, so {model} does after all. {model} failed: escalated: "
    assert caplog.messages[-1].startswith(beginning)
    assert response.response_json["tiered"]["key"] is None


async def test_no_key_above(ask: Ask, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cloud can't be asked, the largest local model's answer is shown."""
    monkeypatch.delenv("LLM_GEMINI_KEY")
    toys.small.does = [REFUSAL]
    toys.medium.does = ["As an AI language model, I have no opinion."]
    response = await ask("Hello", complexity=2, escalate=True)
    assert response.text_or_raise().startswith("As an AI")
    assert [(tier, outcome) for tier, outcome, _ in attempts(response)] == [
        ("small", "failed"),
        ("medium", "failed"),
        ("cloud", "skipped"),
        ("medium", "ok"),
    ]


async def test_empty_answer_goes_up(ask: Ask, toys: Toys) -> None:
    """An empty answer goes up, not down."""
    toys.small.does = [""]
    response = await ask("Hello", complexity=2, escalate=True)
    assert response.text_or_raise() == "medium answer"
    assert "answered with nothing" in (attempts(response)[0][2] or "")


async def test_tool_call_is_an_answer(ask: Ask, toys: Toys) -> None:
    """A tool call without text is not judged."""
    toys.small.tools = True
    toys.small.does = [llm.ToolCall("clock", {}, tool_call_id="1")]

    def clock() -> str:
        """The current time."""
        return "noon"

    response = await ask("Hello", complexity=2, escalate=True, tools=[clock])
    assert attempts(response) == [("small", "ok", None)]


async def test_nothing_is_shown_before_it_is_judged(ask: Ask, toys: Toys) -> None:
    """Not a single event of an answer that escalates is shown."""
    toys.small.does = ["I am ", "sorry, but ", "I can't help."]
    events = await ask.events(ask.model.prompt("Hello", complexity=2, escalate=True))
    assert "".join(event.chunk for event in events) == "medium answer"


@pytest.mark.parametrize(
    ("config", "said", "up"),
    [
        ({}, {}, False),
        ({}, {"escalate": True}, True),
        ({"tasks": {"haiku": {"complexity": 2, "escalate": True}}}, {"task": "haiku"}, True),
        (
            {"tasks": {"haiku": {"complexity": 2, "escalate": True}}},
            {"task": "haiku", "escalate": False},
            False,
        ),
    ],
)
async def test_who_asks_for_it(
    ask: Ask, toys: Toys, config: dict[str, Any], said: dict[str, Any], up: bool
) -> None:
    """The request decides whether weak answers escalate, else its task; the default is no."""
    toys.configure(**config)
    toys.small.does = [REFUSAL]
    response = await ask("Hello", **({} if "task" in said else {"complexity": 2}), **said)
    assert (response.resolved_model == MEDIUM) == up


async def test_tier_asks_for_it(ask: Ask, toys: Toys) -> None:
    """A tier can have its answers checked."""
    toys.configure(tiers=[toys.keys["tiers"][0] | {"escalate": True}, *toys.keys["tiers"][1:]])
    toys.small.does = toys.medium.does = [REFUSAL]
    assert (await ask("Hello", complexity=6)).resolved_model == MEDIUM
    toys.medium.does = ["fine"]
    assert (await ask("Hello", complexity=2)).resolved_model == MEDIUM


async def test_broken_model_still_falls_back_down(
    ask: Ask, toys: Toys, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that fails has not given a weak answer: the usual order applies."""
    toys.medium.does = [ValueError("broken")]
    response = await ask("Hello", complexity=6, escalate=True)
    assert response.resolved_model == SMALL
    assert caplog.record_tuples[0][1] == logging.WARNING


async def test_cached_answer_is_judged(
    ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """A cached answer that would escalate today is not reused."""
    toys.small.does = [REFUSAL]
    await ask("Hello", complexity=2)
    response = await ask("Hello", complexity=2, escalate=True, cache=True)
    assert response.text_or_raise() == "medium answer"
    again = await ask("Hello", complexity=2, escalate=True, cache=True)
    assert again.response_json["tiered"]["cached_from"] == logged()[1]["id"]
    assert len(toys.medium.prompts) == 1


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.fixture
def schemas(toys: Toys) -> None:
    """Let the toys accept schemas, without a grammar."""
    toys.small.schemas = toys.medium.schemas = True


@pytest.mark.usefixtures("schemas")
async def test_schema_error_is_given_back_once(ask: Ask, toys: Toys) -> None:
    """The model is shown its answer and what does not fit, once; the second answer counts."""
    toys.small.does = ['{"age": "old"}']
    toys.small.then = ['{"age": 7}']
    response = await ask("How old?", complexity=2, escalate=True, schema=SCHEMA)
    assert json.loads(response.text_or_raise()) == {"age": 7}
    assert attempts(response) == [("small", "ok", None)]
    first, second = toys.small.prompts
    said = [message.role for message in second.messages[len(first.messages) :]]
    assert said == ["assistant", "user"]
    assert "$.age" in str(second.messages[-1].to_dict())


@pytest.mark.usefixtures("schemas")
async def test_schema_error_twice_goes_up(ask: Ask, toys: Toys) -> None:
    """A model whose second answer does not fit either is followed by the next tier up."""
    toys.small.does = ["no JSON"]
    toys.medium.does = ['{"age": 7}']
    response = await ask("How old?", complexity=2, escalate=True, schema=SCHEMA)
    assert response.resolved_model == MEDIUM
    assert len(toys.small.prompts) == 2
    assert "is not JSON" in (attempts(response)[0][2] or "")


@pytest.mark.usefixtures("schemas")
async def test_json_that_does_not_fit_is_never_shown(ask: Ask, toys: Toys) -> None:
    """If no model's JSON fits the schema, there is an error and no weak answer."""
    toys.small.does = toys.medium.does = ['{"age": "old"}']
    with pytest.raises(AllTiersFailed, match=r"\$.age"):
        await ask("How old?", complexity=2, escalate=True, fallback="local", schema=SCHEMA)


async def test_thoughts_alone_go_up(ask: Ask, toys: Toys) -> None:
    """Thoughts and then nothing go up like an empty answer, and are not shown."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="Let me see.")]
    events = await ask.events(ask.model.prompt("Hello", complexity=2, escalate=True))
    assert [event.type for event in events] == ["text", "text"]
    assert "".join(event.chunk for event in events) == "medium answer"
