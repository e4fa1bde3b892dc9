"""What llm's own plugin for OpenAI keeps of replies that are not complete."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from llm.default_plugins import openai_models

from llm_tiered.endings import attentive, ending
from llm_tiered.openai_plugin import FailedReply, raise_for_failure, without_retries
from llm_tiered.router.failures import explain
from llm_tiered.router.problem import Problem
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Events:
    """The events of a streamed reply, which has to be closed."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.is_closed = False

    def __iter__(self) -> Iterator[Any]:
        """The events."""
        return iter(self.events)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The events."""
        for event in self.events:
            yield event

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    async def __aenter__(self) -> Events:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_closed = True


def reply(status: str | None) -> Events:
    """Text, and the end of the reply if there is one."""
    text = SimpleNamespace(type="response.output_text.delta", delta="Hello")
    if status is None:
        return Events(text)
    reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
    usage = {"input_tokens": 7, "output_tokens": 5}
    dump = {"object": "response", "status": status, "incomplete_details": reason, "usage": usage}
    response = SimpleNamespace(output=[], model_dump=lambda **_: dump)
    return Events(text, SimpleNamespace(type=f"response.{status}", response=response))


def model(events: Events, *, asynchronous: bool) -> Any:
    """A model of the plugin whose client answers with these events."""

    async def create_async(**_: Any) -> Events:
        return events

    create = create_async if asynchronous else lambda **_: events
    client = SimpleNamespace(responses=SimpleNamespace(create=create))
    kind = openai_models.AsyncResponses if asynchronous else openai_models.Responses

    class Model(kind):  # type: ignore[valid-type, misc]  # one of two classes
        def get_client(self, *_: Any, **__: Any) -> Any:
            return client

    return Model("gpt", key="k")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("status", "how"),
    [("completed", "whole"), ("incomplete", "limit"), ("failed", "broken"), (None, None)],
)
async def test_replies(status: str | None, how: str | None, asynchronous: bool) -> None:
    """Every reply is kept, with its status and its tokens; a lost one stays unknown."""
    events = reply(status)
    response = attentive(model(events, asynchronous=asynchronous)).prompt("Go")
    assert (await response.text() if asynchronous else response.text()) == "Hello"
    ended = ending(response.response_json)
    assert (ended.how if ended else None) == how
    assert response.output_tokens == (5 if status else None)
    assert events.is_closed


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_error_in_a_stream(asynchronous: bool) -> None:
    """An event with an error is not overlooked, and its words are those of the service."""
    said = SimpleNamespace(type="error", code="rate_limit_exceeded", message="Try again in 2s.")
    response = attentive(model(Events(said), asynchronous=asynchronous)).prompt("Go")
    with pytest.raises(FailedReply) as error:
        await response.text() if asynchronous else response.text()
    problem = explain(error.value)
    assert (problem.reason, problem.retry_after) == ("Try again in 2s.", 2.0)
    assert problem.at_limit


def test_reply_that_failed() -> None:
    """A reply may hold an error in place of an answer."""
    error = {"code": "server_error", "message": "The model failed"}
    for reply in (None, {}, {"status": "completed", "error": error}, {"status": "failed"}):
        raise_for_failure(reply)
    with pytest.raises(FailedReply) as raised:
        raise_for_failure({"status": "failed", "error": error})
    assert explain(raised.value) == Problem("The model failed", transient=True, cools_down=True)


def completion(**fields: Any) -> Any:
    """A chat completion that is not streamed."""
    message = SimpleNamespace(content="Hello", tool_calls=None)
    choices = [SimpleNamespace(message=message)]
    reply = {"choices": choices, "usage": None, "model_dump": lambda: {"object": "x"}}
    return SimpleNamespace(**reply | fields)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("error", [None, {"code": 502, "message": "Provider disconnected"}])
async def test_completions(error: Any, asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion needs no usage, and one that is an error is none."""
    usage = SimpleNamespace(model_construct=lambda: SimpleNamespace(model_dump=dict))
    monkeypatch.setitem(sys.modules, "openai.types", SimpleNamespace(CompletionUsage=usage))

    async def create_async(**_: Any) -> Any:
        return completion(error=error)

    create = create_async if asynchronous else lambda **_: completion(error=error)
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    kind: Any = openai_models.AsyncChat if asynchronous else openai_models.Chat

    class Model(kind):  # type: ignore[misc]  # one of two classes
        def get_client(self, *_: Any, **__: Any) -> Any:
            return client

    response = attentive(Model("gpt", key="k")).prompt("Go", stream=False)
    if error is None:
        assert (await response.text() if asynchronous else response.text()) == "Hello"
        assert response.output_tokens is None
        return
    with pytest.raises(FailedReply) as raised:
        await response.text() if asynchronous else response.text()
    assert explain(raised.value).transient


@pytest.mark.parametrize("kind", [openai_models.Chat, openai_models.AsyncResponses])
def test_requests_are_made_once(kind: Any) -> None:
    """The client of a model in a chain makes no request again."""
    create = SimpleNamespace(create=None)
    chat = SimpleNamespace(completions=create)
    client = SimpleNamespace(max_retries=2, responses=create, chat=chat)

    class Model(kind):  # type: ignore[misc]  # one of two classes
        def get_client(self, *_: Any, **__: Any) -> Any:
            return client

    once = without_retries(attentive(Model("gpt", key="k")))
    assert once.get_client("k").max_retries == 0


def test_others_are_left_alone() -> None:
    """Models of other plugins need nothing."""
    plain: Any = StandIn("toy")
    assert attentive(plain) is plain
    assert without_retries(plain) is plain
    once = attentive(model(reply(None), asynchronous=False))
    assert attentive(once) is once
