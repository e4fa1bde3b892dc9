"""Models without an async version, asked in a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.parts import StreamEvent

from llm_tiered.router.threads import ThreadedModel, get_async_model
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.router.conftest import OtherPlugin
    from tests.stand_in import Action
    from tests.toys import Ask

EVENTS = [
    StreamEvent(type="reasoning", chunk="Let me see."),
    *(StreamEvent(type="text", chunk=f"{number} ") for number in range(50)),
]
CALL = llm.ToolCall(name="double", arguments={"number": 2}, tool_call_id="c-1")


def talk(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Put out all events, and call a tool."""
    yield from EVENTS
    response.set_usage(input=5, output=50)
    response.response_json = {"finish_reason": "tool_calls"}
    yield CALL


async def test_events() -> None:
    """Events come in order, and the tool calls, the usage and the reply are kept."""
    response = ThreadedModel(StandIn("x", talk)).prompt("Hello")
    events = [(event.type, event.chunk) async for event in response.astream_events()]
    assert events == [(event.type, event.chunk) for event in EVENTS]
    assert await response.tool_calls() == [CALL]
    assert (response.input_tokens, response.output_tokens) == (5, 50)
    assert response.response_json == {"finish_reason": "tool_calls"}


async def test_it_streams_and_does_not_block() -> None:
    """The first piece is there before the model goes on, and the loop runs meanwhile."""
    go_on = threading.Event()

    def wait(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield "first "
        assert go_on.wait(10)
        yield "second"

    pieces = ThreadedModel(StandIn("x", wait)).prompt("Hello").__aiter__()
    assert await anext(pieces) == "first "
    go_on.set()
    assert await anext(pieces) == "second"


async def test_error() -> None:
    """An error is the very one that the model raised, after what came before it."""
    error = ConnectionResetError("reset")

    def fail(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield "half "
        yield error

    pieces = ThreadedModel(StandIn("x", fail)).prompt("Hello").__aiter__()
    assert await anext(pieces) == "half "
    with pytest.raises(ConnectionResetError) as caught:
        await anext(pieces)
    assert caught.value is error


async def test_given_up() -> None:
    """A request that is cancelled closes the model's stream with its next piece."""
    asked, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def wait(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        try:
            asked.set()
            assert go_on.wait(10)
            yield "too late"
        finally:
            closed.set()

    task = asyncio.ensure_future(ThreadedModel(StandIn("x", wait)).prompt("Hello").text())
    assert await asyncio.to_thread(asked.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 10)


class Keyed(llm.KeyModel):
    """A model behind a key, that says what it was given."""

    model_id = "keyed"
    needs_key = "keyed"
    attachment_types = frozenset({"image/png"})

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[str]:
        """Say the key and the texts of the conversation."""
        before: list[Any] = conversation.responses if conversation else []
        yield " ".join([str(key), *(each.text() for each in before)])


async def test_key_and_conversation() -> None:
    """The model gets its key, and earlier answers in a form that it can read."""
    model = ThreadedModel(Keyed())
    assert (model.needs_key, model.attachment_types) == ("keyed", {"image/png"})
    conversation = model.conversation()
    assert await conversation.prompt("Hello", key="k1").text() == "k1"
    assert await conversation.prompt("Hello", key="k2").text() == "k2 k1"


@pytest.mark.parametrize(("needs_key", "most"), [(None, 1), ("keyed", 3)])
async def test_at_the_same_time(needs_key: str | None, most: int) -> None:
    """A service answers several at once; a model without a key, which computes here, does not."""
    running, peak, met = 0, 0, threading.Barrier(3)

    def count(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if most > 1:
            met.wait(10)
        yield "x"
        running -= 1

    model = ThreadedModel(StandIn(f"x-{most}", count, needs_key=needs_key, key="k"))
    await asyncio.gather(*(model.prompt("Hello").text() for _ in range(3)))
    assert peak == most


async def test_tier(ask: Ask, other: OtherPlugin) -> None:
    """A tier whose model has no async version answers either way."""
    other.add("x", talk, sync_only=True)
    response = await ask("Hello", tier="cloud")
    assert response.text_or_raise() == "".join(event.chunk for event in EVENTS[1:])
    assert response.resolved_model == "x"


def test_get_async_model(other: OtherPlugin) -> None:
    """By its name, a model is async in its own way if it can be, and unknown if llm says so."""
    other.add("x", sync_only=True, aliases=("ex",))
    assert isinstance(get_async_model("ex"), ThreadedModel)
    assert not isinstance(get_async_model("tiered"), ThreadedModel)
    with pytest.raises(llm.UnknownModelError):
        get_async_model("nobody")
