"""What counts as an answer of Gemini: finish reasons, places in the stream, kinds of content."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from llm.parts import StreamEvent

from llm_tiered.errors import BrokenAnswer
from tests import gemini
from tests.toys import Ask

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

    from tests.toys import Toys

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
WORDS, JSON, CUT_JSON = "Once upon a time", '{"name": "Rex"}', '{"name": "Re'
CALL = gemini.call("clock", {}, id="c-1")

Parts = list[gemini.Part]

CONTENTS: dict[str, Parts] = {
    "nothing": [],
    "empty text": [gemini.text("")],
    "white space": [gemini.text(" \n"), gemini.text("\t")],
    "thoughts": [gemini.thought("Let me"), gemini.thought(" see.")],
    "a call in the thoughts": [gemini.thought("Let me see."), CALL | {"thought": True}],
    "text": [gemini.text("\n"), gemini.text(WORDS)],
    "thoughts and text": [gemini.thought("Let me see."), gemini.text(WORDS)],
    "JSON": [gemini.text(JSON[:8]), gemini.text(JSON[8:])],
    "JSON cut off": [gemini.thought("Let me see."), gemini.text(CUT_JSON)],
    "a call": [CALL],
    "thoughts and a call": [gemini.thought("Let me see."), CALL],
    "text and a call": [gemini.text(WORDS), CALL],
}
MISSING_THE_SCHEMA = ("text", "thoughts and text", "JSON cut off")
REASONS = ("STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", None)

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}


def ended(part: gemini.Part, reason: str | None) -> gemini.Chunk:
    """The last content of a stream, with a finish reason or without one."""
    last = gemini.last(part, finish=reason or "")
    if reason is None:
        del last["candidates"][0]["finishReason"]
    return last


def with_content(parts: Parts, reason: str | None) -> list[gemini.Chunk]:
    """The reason comes with the last of the content."""
    *early, last = parts or [gemini.text("")]
    return [*(gemini.chunk(part) for part in early), ended(last, reason)]


def after_content(parts: Parts, reason: str | None) -> list[gemini.Chunk]:
    """The reason comes in an event of its own."""
    return [*(gemini.chunk(part) for part in parts), ended(gemini.text(""), reason)]


def before_usage(parts: Parts, reason: str | None) -> list[gemini.Chunk]:
    """The reason is followed by an event with the number of tokens and no candidate."""
    tokens = {"usageMetadata": dict(USAGE), "modelVersion": gemini.VERSION}
    empty = {"candidates": [{"finishReason": None, "content": None}], "usageMetadata": None}
    return [*after_content(parts, reason), empty, tokens | {"candidates": []}, dict(tokens)]


def before_nothing(parts: Parts, reason: str | None) -> list[gemini.Chunk]:
    """The reason is followed by an event in which everything is null."""
    empty = {"candidates": [{"finishReason": None, "content": None}], "usageMetadata": None}
    return [*after_content(parts, reason), empty]


def without_version(parts: Parts, reason: str | None) -> list[gemini.Chunk]:
    """The last event does not name the version of the model."""
    *early, last = with_content(parts, reason)
    del last["modelVersion"]
    return [*early, last]


PLACES = (with_content, after_content, before_usage, before_nothing, without_version)


def expected(kind: str, reason: str | None, *, schema: bool) -> str:
    """What should come of it: the answer, the answer of another model, or an error."""
    calls = kind in {"a call", "thoughts and a call", "text and a call"}
    words = kind in {"text", "thoughts and text", "JSON", "JSON cut off", "text and a call"}
    if schema:
        whole = (kind == "JSON" and reason in {"STOP", "MAX_TOKENS"}) or (
            calls and reason == "STOP"
        )
        return "answer" if whole else "fallback"
    if reason == "STOP":
        return "answer" if words or calls else "fallback"
    if words:
        return "answer" if reason == "MAX_TOKENS" and not calls else "broken"
    return "fallback"


def clock() -> str:
    """The current time."""
    return "noon"


@pytest.fixture
def _able_toys(toys: Toys) -> None:
    """Let a toy be able to answer everything in Gemini's place."""
    toys.medium.tools = toys.medium.schemas = True
    toys.medium.does = [JSON]


async def outcome(ask: Ask, **said: Any) -> tuple[str, Any]:
    """What comes of a request for the cloud tier, and the response."""
    response = ask.model.prompt("Go", tier="cloud", tools=[clock], **said)
    try:
        await ask.finish(response)
    except BrokenAnswer:
        return "broken", response
    return "answer" if response.resolved_model == gemini.MODEL else "fallback", response


def shown(response: Any) -> list[str]:
    """The kinds of the parts that a response keeps."""
    return [
        part.to_dict()["type"] for message in response._messages_now() for part in message.parts
    ]


@pytest.mark.usefixtures("_able_toys")
def test_what_is_whole(httpx_mock: HTTPXMock) -> None:
    """Only an answer with content and a natural end is taken for one, however it is asked for."""
    asks = [Ask(asynchronous=False), Ask(asynchronous=True)]
    cases = [
        *product(CONTENTS, REASONS, PLACES, [False]),
        *product(CONTENTS, REASONS, [with_content], [True]),
    ]

    async def wrong() -> dict[str, str]:
        offenders = {}
        for number, (kind, reason, place, schema) in enumerate(cases):
            # An answer that does not fit is given back once.
            misses = schema and reason == "STOP" and kind in MISSING_THE_SCHEMA
            for _ in range(1 + misses):
                gemini.answer(httpx_mock, *place(CONTENTS[kind], reason))
            said: dict[str, Any] = {"schema": SCHEMA} if schema else {}
            ask = asks[number % 2]
            came, response = await outcome(ask, stream=bool(number % 3), **said)
            should = expected(kind, reason, schema=schema)
            extra = came == "fallback" and shown(response) != ["text"]
            if came != should or extra:
                name = f"{kind}, {reason}, {place.__name__}, {schema=}"
                offenders[name] = f"{came}, not {should}: {shown(response)}"
        return offenders

    assert asyncio.run(wrong()) == {}


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (
            [gemini.last(gemini.thought("Hm."), finish="MAX_TOKENS")],
            "only thoughts, cut off at max_tokens",
        ),
        ([gemini.last(gemini.thought("Hm."))], "only thoughts (STOP)"),
        (
            [gemini.last(gemini.thought("Hm."), finish="UNEXPECTED_TOOL_CALL")],
            "only thoughts (UNEXPECTED_TOOL_CALL)",
        ),
        (
            [gemini.chunk(gemini.thought("Hm."))],
            "only thoughts: the stream ended without a finish reason",
        ),
        ([gemini.chunk()], "answered with nothing: the stream ended without a finish reason"),
        ([gemini.last(CALL, finish="MAX_TOKENS")], "its tool calls were cut off at max_tokens"),
        ([gemini.last(CALL, finish="OTHER")], "stopped by the service (OTHER)"),
    ],
)
async def test_reason_of_a_failed_attempt(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, chunks: list[gemini.Chunk], reason: str
) -> None:
    """The reason says what is missing; another model answers, and no thought is left over."""
    toys.medium.tools = True
    gemini.answer(httpx_mock, *chunks)
    response = await ask("Go", tier="cloud", tools=[clock])
    assert response.text_or_raise() == "medium answer"
    assert response.response_json["tiered"]["attempts"][0]["reason"] == reason
    assert shown(response) == ["text"]
    assert toys.delays == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("RECITATION", r"stopped by the service \(RECITATION\)"),
        ("LANGUAGE", r"stopped by the service \(LANGUAGE\)"),
        ("", "the stream ended without a finish reason"),
    ],
)
async def test_reason_of_a_broken_answer(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, reason: str, words: str
) -> None:
    """After the first words no other model takes over, and the error says what happened."""
    gemini.answer(httpx_mock, gemini.chunk(gemini.text(WORDS)), gemini.last(finish=reason))
    with pytest.raises(BrokenAnswer, match=f"^{gemini.MODEL} broke off its answer: {words}$"):
        await ask("Go", tier="cloud")
    assert toys.medium.prompts == []


async def test_usage_of_a_last_event_without_a_version(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Tokens are counted and the finish reason recorded, whatever the last event lacks."""
    for place in PLACES:
        gemini.answer(httpx_mock, *place([gemini.text(WORDS)], "STOP"))
        response = await ask("Go", tier="cloud")
        assert response.text_or_raise() == WORDS
        assert (response.input_tokens, response.output_tokens) in {(7, 5), (7, 3)}
        assert response.response_json["response"]["candidates"][0]["finishReason"] == "STOP"


async def test_usage_of_an_earlier_event(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Tokens that only an event in the middle tells are counted."""
    first, last = gemini.last(gemini.text("Half")), gemini.last(gemini.text(" an answer"))
    del first["candidates"][0]["finishReason"], last["usageMetadata"]
    gemini.answer(httpx_mock, gemini.chunk(gemini.text("")), first, last)
    response = await ask("Go", tier="cloud")
    assert response.text_or_raise() == "Half an answer"
    assert (response.input_tokens, response.output_tokens) == (7, 5)
    assert "usageMetadata" not in response.response_json["response"]


async def test_thoughts_are_shown_as_they_come(ask: Ask, toys: Toys) -> None:
    """Thoughts are not held back until there is an answer, unless the answer is judged."""
    came: list[str] = []
    thought = StreamEvent(type="reasoning", chunk="Hm. ")
    toys.small.does = [thought, lambda: came.append("made"), "Yes."]
    response = ask.model.prompt("Go", complexity=1)
    if ask.asynchronous:
        async for event in response.astream_events():
            came.append(event.chunk)
    else:
        for event in response.stream_events():
            came.append(event.chunk)
    assert came == ["Hm. ", "made", "Yes."]


async def test_hidden_thoughts(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """Thoughts that were not to be shown are told by their tokens."""
    last = gemini.last(finish="MAX_TOKENS", thoughts=50)
    del last["usageMetadata"]["candidatesTokenCount"]
    gemini.answer(httpx_mock, last)
    response = await ask("Go", tier="cloud", hide_reasoning=True)
    reason = response.response_json["tiered"]["attempts"][0]["reason"]
    assert reason == "only thoughts, cut off at max_tokens"


async def test_error_of_a_plugin(ask: Ask, toys: Toys) -> None:
    """A plugin's own error stays the cause, and is not its own cause."""
    toys.medium.does = ["Half an", json.JSONDecodeError("Expecting value", "x", 0)]
    with pytest.raises(BrokenAnswer, match="JSONDecodeError: Expecting value") as error:
        await ask("Go", tier="medium")
    cause = error.value.__cause__
    assert isinstance(cause, json.JSONDecodeError)
    assert cause.__cause__ is None


async def test_several_candidates(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Only the first candidate is read."""
    first, second = (
        gemini.last(gemini.text(WORDS)),
        gemini.last(gemini.text("No."), finish="SAFETY"),
    )
    second["candidates"][0]["index"] = 1
    both = first | {"candidates": first["candidates"] + second["candidates"]}
    gemini.answer(httpx_mock, second, both)
    assert (await ask("Go", tier="cloud")).text_or_raise() == WORDS
