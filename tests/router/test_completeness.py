"""Answers of all kinds of models: whole, or what they lack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.default_plugins import openai_models
from llm.parts import StreamEvent

from llm_tiered.errors import RequestError, TieredError
from llm_tiered.openai_plugin import FailedReply
from llm_tiered.router.completeness import check, cut_off_call
from tests.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.stand_in import Action

SCHEMA = {"type": "object", "required": ["age"]}
THOUGHT = StreamEvent(type="reasoning", chunk="Hm.")
HIDDEN = StreamEvent(type="reasoning", chunk="", redacted=True)
CALL = llm.ToolCall("clock", {}, tool_call_id="c-1")


class OpenAi(openai_models.Chat):
    """A model of llm's own plugin that writes a text and keeps no reply."""

    def __init__(self, *output: Any) -> None:
        super().__init__("gpt", key="k")  # type: ignore[no-untyped-call]  # llm's class
        self.output = output

    def execute(self, *_: Any, **__: Any) -> Any:
        """Write the text."""
        yield from self.output


def problem(*output: Any, reply: Any = None, local: bool = False, **said: Any) -> str | None:
    """What an answer with this output lacks, after the name of the error, or None."""

    def script(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield from output
        response.response_json = reply

    model = StandIn("toy", script, supports_schema=True, supports_tools=True)
    return _problem(model, local=local, **said)


def _problem(model: Any, *, local: bool = False, **said: Any) -> str | None:
    response = model.prompt("Go", **said)
    events = list(response.stream_events())
    try:
        check(response, events, calls=len(response.tool_calls()), local=local)
    except TieredError as error:
        return f"{type(error).__name__}: {error}"
    return None


def clock() -> str:
    """The current time."""
    return "noon"


def test_reply_that_failed() -> None:
    """The service's own error says more than that the answer is not whole."""
    for output in ((), ("Hello",)):
        with pytest.raises(FailedReply, match="The model failed"):
            problem(*output, reply={"status": "failed", "error": {"message": "The model failed"}})


LENGTH, STOP = {"finish_reason": "length"}, {"finish_reason": "stop"}

WHOLE: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("Hello",), {}),
    (("Hello",), {"reply": {"anything": 1}}),
    (("Hello",), {"reply": {"finish_reason": "something new"}}),
    (("Hello",), {"reply": LENGTH}),
    ((CALL,), {}),
    ((CALL,), {"reply": LENGTH, "local": True}),
    (("Hello", CALL), {"reply": {"stop_reason": "tool_use"}}),
    (('{"age": 3}',), {"schema": SCHEMA}),
    (('{"age": 3}\n',), {"schema": SCHEMA, "reply": LENGTH}),
    (('{"age": 3}',), {"schema": SCHEMA, "reply": {"stop_reason": "tool_use"}}),
    (("7",), {"schema": {"type": "integer"}, "reply": LENGTH, "local": True}),
    ((CALL,), {"schema": SCHEMA}),
]
LACKING: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "EmptyAnswer: answered with nothing"),
    ((" \n",), {"reply": STOP}, "EmptyAnswer: answered with nothing (stop)"),
    ((), {"reply": LENGTH}, "EmptyAnswer: answered with nothing (length) (raise max_tokens)"),
    ((THOUGHT,), {}, "EmptyAnswer: only thoughts"),
    ((THOUGHT, "\n"), {"reply": STOP}, "EmptyAnswer: only thoughts (stop)"),
    (
        (HIDDEN,),
        {"reply": LENGTH},
        "EmptyAnswer: only thoughts, cut off at max_tokens (raise max_tokens)",
    ),
    (
        ("Hello",),
        {"reply": {"type": "message", "stop_reason": None}},
        "IncompleteAnswer: the stream ended without a finish reason",
    ),
    (
        ("Hello",),
        {"reply": {"stop_reason": "refusal"}},
        "IncompleteAnswer: stopped by the service (refusal)",
    ),
    (
        ("I'll look.",),
        {"reply": {"stop_reason": "tool_use"}, "tools": [clock]},
        "IncompleteAnswer: its tool call is missing",
    ),
    (
        (CALL,),
        {"reply": {"stop_reason": "max_tokens"}},
        "RequestError: its tool calls were cut off at max_tokens (raise max_tokens)",
    ),
    (
        ('{"age": 3',),
        {"schema": SCHEMA, "reply": LENGTH},
        "RequestError: the JSON was cut off at max_tokens (raise max_tokens)",
    ),
    (
        ("7",),
        {"schema": {"type": "integer"}, "reply": LENGTH},
        "RequestError: the JSON was cut off at max_tokens (raise max_tokens)",
    ),
    (
        ("{}",),
        {"schema": SCHEMA},
        "SchemaMiss: the answer does not fit the schema at $: 'age' is a required property",
    ),
]


def test_whole_answers() -> None:
    """What ends naturally, or in a way that nobody knows, is whole if its content is there."""
    wrong = {repr(case): problem(*case[0], **case[1]) for case in WHOLE}
    assert {case: said for case, said in wrong.items() if said} == {}


def test_what_is_missing() -> None:
    """The error says what is missing."""
    wrong = {
        repr((output, said)): came
        for output, said, expected in LACKING
        if (came := problem(*output, **said)) != expected
    }
    assert wrong == {}


def test_json_without_a_schema() -> None:
    """JSON that was asked for by an option is not whole either if it is cut off."""

    def script(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        yield '{"age":'
        response.response_json = LENGTH

    class Options(llm.Options):
        json_object: bool | None = None

    model = StandIn("toy", script, Options=Options)
    assert _problem(model) is None
    assert "the JSON was cut off" in (_problem(model, json_object=True) or "")


def test_reply_that_llm_does_not_keep() -> None:
    """Llm keeps no reply of OpenAI's Responses API unless it is complete."""
    model: Any = OpenAi("Hello")
    assert _problem(model) == "IncompleteAnswer: the stream ended without a finish reason"


def test_arguments_that_are_not_json() -> None:
    """A call whose arguments a plugin can't parse is named as such; other errors are not."""
    named = [StreamEvent(type="tool_call_name", chunk="clock", tool_call_id="c-1")]
    arguments = StreamEvent(type="tool_call_args", chunk='{"a', tool_call_id="c-1")
    error = json.JSONDecodeError("Unterminated string", '{"a', 1)
    response: Any = StandIn("toy").prompt("Go")
    assert isinstance(cut_off_call(response, [*named, arguments], error), RequestError)
    assert cut_off_call(response, named, error) is None
    assert cut_off_call(response, [arguments], ValueError("other")) is None
    # Without a stream there are no events yet, but a reply.
    for reason in ("length", "tool_calls"):
        response.response_json = {"choices": [{"finish_reason": reason}]}
        assert isinstance(cut_off_call(response, [], error), RequestError)
