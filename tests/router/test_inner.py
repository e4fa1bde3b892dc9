"""The inner request: option names, the system prompt, a conversation of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent
from pydantic import ValidationError

from llm_tiered.mlx.catalog import EMBEDDED
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from llm_tiered.router.inner import finish, inner_options, inner_response, usage_details
from llm_tiered.router.thinking import MOST_THOUGHTS
from tests import gemini
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.stand_in import Action, Script


class ContextOptions(llm.Options):
    """The options of OpenAI and Anthropic that change the price."""

    service_tier: str | None = None
    fast: bool | None = None


class NewOptions(llm.Options):
    """OpenAI's newest name for the token limit."""

    max_completion_tokens: int | None = None


def repeat(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Repeat the prompt and the number of turns before it."""
    response.set_usage(input=3, output=2, details={"cached": 1})
    before = response.conversation.responses if response.conversation else []
    yield f"{prompt.prompt} after {len(before)}"


def toy_model(model_id: str = "toy", **features: Any) -> StandIn:
    """A model that can do everything, without options."""
    everything: dict[str, Any] = {"supports_schema": True, "supports_tools": True}
    everything |= {"attachment_types": {"image/png"}, "Options": llm.Options}
    return StandIn(model_id, repeat, **everything | features)


def outer_model() -> StandIn:
    """The model that the caller sees."""
    return toy_model("outer")


def inner_prompt(prompt: llm.Prompt, **fields: Any) -> llm.Prompt:
    """The prompt that the inner model gets."""
    model = toy_model()
    said: dict[str, Any] = {"stream": True, "conversation": None, "key": None} | fields
    response: llm.Response = inner_response(model, model.Options(), prompt=prompt, **said)
    return response.prompt


def local() -> MlxModel:
    """A local model, whether or not it is on disk."""
    return MlxModel(EMBEDDED, Limits, lambda _: None)


def test_names_of_options() -> None:
    """The request's sampling options reach the model under the model's own names."""
    requested = {"temperature": 0.5, "max_tokens": 50, "top_p": 0.9}
    options: Any = inner_options(llm.get_model(gemini.MODEL), {}, requested)
    assert options.model_dump(exclude_none=True) == {
        "temperature": 0.5,
        "max_output_tokens": 50 + MOST_THOUGHTS,
        "top_p": 0.9,
    }
    options = inner_options(toy_model(Options=NewOptions), {}, requested)
    assert options.model_dump(exclude_none=True) == {"max_completion_tokens": 50}


def test_all_options_of_a_local_model() -> None:
    """A local model has all sampling options."""
    requested = {"temperature": 0.5, "max_tokens": 50, "top_p": 0.9, "seed": 7}
    options = inner_options(local(), {}, requested)
    assert options.model_dump(exclude_none=True) == requested


def test_option_that_the_model_lacks() -> None:
    """Sampling options that the model lacks are left out, whoever set them."""
    model = llm.get_model(gemini.MODEL)
    options = inner_options(model, {"seed": 1}, {"seed": 7})
    assert options.model_dump(exclude_none=True) == {}


@pytest.mark.parametrize("name", ["max_tokens", "max_output_tokens"])
def test_request_beats_tier(name: str) -> None:
    """The request overrides the tier, whichever name the tier's options use."""
    options = inner_options(
        llm.get_model(gemini.MODEL), {name: 900, "top_k": 3}, {"max_tokens": 50}
    )
    limit = 50 + MOST_THOUGHTS
    assert options.model_dump(exclude_none=True) == {"max_output_tokens": limit, "top_k": 3}


def test_zero_is_a_value() -> None:
    """A temperature of 0 counts as set."""
    options: Any = inner_options(local(), {"temperature": 0.7}, {"temperature": 0})
    assert options.temperature == 0


@pytest.mark.parametrize("tier_options", [{"max_tokenz": 5}, {"temperature": "hot"}])
def test_wrong_tier_options(tier_options: dict[str, Any]) -> None:
    """Tier options that the model does not know, or can't parse, are an error."""
    with pytest.raises(ValidationError):
        inner_options(local(), tier_options, {})


def test_prompt_is_the_same() -> None:
    """The inner prompt has every part of the outer one, and the same messages."""
    attachment = llm.Attachment(type="image/png", content=b"x")
    tool = llm.Tool("double", "Twice the number.", {"type": "object"})
    result = llm.ToolResult("double", "4", tool_call_id="c-1")
    outer = llm.Prompt(
        "Hello",
        model=outer_model(),
        fragments=["A text."],
        attachments=[attachment],
        schema={"type": "object"},
        tools=[tool],
        tool_results=[result],
        hide_reasoning=True,
    )
    inner = inner_prompt(outer)
    assert inner.prompt == "A text.\nHello"
    assert inner.attachments == [attachment]
    assert inner.schema == {"type": "object"}
    assert inner.tools == [tool]
    assert inner.tool_results == [result]
    assert inner.hide_reasoning
    assert inner.messages == outer.messages
    assert inner.model.model_id == "toy"


@pytest.mark.parametrize(
    ("fields", "system"),
    [
        ({}, ""),
        ({"system": "Be brief."}, "Be brief."),
        ({"system": "Be brief.", "system_fragments": ["A."]}, "A.\n\nBe brief."),
        ({"messages": [llm.system("Be brief."), llm.user("Hello")]}, "Be brief."),
        ({"messages": [llm.system("A."), llm.system("B."), llm.user("Hello")]}, "A.\n\nB."),
        ({"messages": [llm.user("Hello")], "system": "Be brief."}, "Be brief."),
        ({"messages": [llm.system("Old."), llm.user("Hello")], "system": "New."}, "New."),
    ],
)
def test_system_prompt(fields: dict[str, Any], system: str) -> None:
    """The system prompt is the request's own, else the one in the messages."""
    assert inner_prompt(llm.Prompt("Hello", model=outer_model(), **fields)).system == system


def test_prompt_without_text() -> None:
    """A prompt that consists only of messages gets no text of its own."""
    outer = llm.Prompt(None, model=outer_model(), messages=[llm.user("Hello")])
    inner = inner_prompt(outer)
    assert inner.prompt == ""
    assert inner.messages == [llm.user("Hello")]


def test_outer_conversation_is_left_alone() -> None:
    """The inner response sees the turns so far and adds none to the outer conversation."""
    conversation = outer_model().conversation()
    conversation.prompt("One").text()
    turns = list(conversation.responses)
    prompt = llm.Prompt("Two", model=conversation.model)
    model = toy_model()
    response = inner_response(
        model, model.Options(), prompt=prompt, stream=True, conversation=conversation, key=None
    )
    assert response.text() == "Two after 1"
    assert conversation.responses == turns
    assert conversation.model.model_id == "outer"
    assert response.conversation is not conversation
    assert response.conversation
    assert response.conversation.id == conversation.id
    assert response.conversation.model is model


def test_no_conversation() -> None:
    """Without an outer conversation there is no inner one."""
    model = toy_model()
    response = inner_response(
        model,
        model.Options(),
        prompt=llm.Prompt("One", model=outer_model()),
        stream=False,
        conversation=None,
        key=None,
    )
    assert response.text() == "One after 0"
    assert response.conversation is None
    assert response.stream is False


def test_finish() -> None:
    """The outer response takes over the inner one's usage, tool calls and model."""
    prompt = llm.Prompt("One", model=outer_model())
    outer = llm.Response(prompt, outer_model(), stream=True)
    model = toy_model()
    inner = inner_response(
        model, model.Options(), prompt=prompt, stream=True, conversation=None, key=None
    )
    inner.text()
    call = llm.ToolCall("double", {"number": 2}, "c-1")
    finish(outer, inner, [call])
    assert (outer.input_tokens, outer.output_tokens) == (3, 2)
    assert outer.token_details == {"cached": 1}
    assert outer.resolved_model == "toy"
    assert outer._tool_calls == [call]
    assert outer.model.model_id == "outer"


@pytest.mark.parametrize("details", [None, {"input_tokens_details": {"cached_tokens": 1}}])
def test_tools_that_the_service_ran(details: dict[str, Any] | None) -> None:
    """Searches are counted in the token details, beside what the service says there."""
    response = StandIn("gpt-5-mini", searching(details)).prompt("Hello")
    response.text()
    counted = {"web_search_requests": 2, "code_interpreter_requests": 1}
    assert usage_details(response) == (details or {}) | {"server_tool_use": counted}


def test_tools_that_the_service_counts() -> None:
    """Where the service counts searches itself, its number is kept."""
    details = {"server_tool_use": {"web_search_requests": 5}}
    response = StandIn("anthropic/claude-sonnet-4-5", searching(details)).prompt("Hello")
    response.text()
    assert usage_details(response) == details


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"fast": True}, {"speed": "fast"}),
        ({"fast": False, "service_tier": None}, None),
    ],
)
def test_context_of_the_price(options: dict[str, Any], expected: dict[str, str] | None) -> None:
    """How fast the service was asked to be is kept, since the price depends on it."""
    model = StandIn("gpt-5-mini", Options=ContextOptions)
    response = model.prompt("Hello", **options)
    response.text()
    assert usage_details(response) == expected


def searching(details: dict[str, Any] | None) -> Script:
    """Run tools of the service, and call one of the user's."""

    def script(_: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        for tool in ("web_search", "web_search", "code_interpreter"):
            yield StreamEvent(type="tool_call_name", chunk=tool, server_executed=True)
        yield StreamEvent(type="tool_call_name", chunk="web_search")
        response.set_usage(input=1, output=1, details=details)

    return script
