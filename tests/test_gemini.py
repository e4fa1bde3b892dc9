"""What only Gemini's replies look like."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import llm
import pytest
from llm.parts import AttachmentPart, ToolCallPart

from llm_tiered import gemini

STAND_IN = {"thoughtSignature": "skip_thought_signature_validator"}
GOOGLE = "type.googleapis.com"

BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}}


def _reply(reason: str) -> dict[str, Any]:
    return {"candidates": [{"finishReason": reason}], "modelVersion": "gemini-3-flash"}


@pytest.mark.parametrize(
    ("reply", "is_reply", "finish", "block"),
    [
        (_reply("STOP"), True, "STOP", None),
        (_reply("MAX_TOKENS"), True, "MAX_TOKENS", None),
        (BLOCKED, True, None, "SAFETY"),
        ({"candidates": []}, True, None, None),
        ({"candidates": None, "promptFeedback": None}, True, None, None),
        ({"choices": [{"finish_reason": "stop"}]}, False, None, None),
        ("text", False, None, None),
        (None, False, None, None),
    ],
)
def test_how_a_reply_ended(
    reply: Any, is_reply: bool, finish: str | None, block: str | None
) -> None:
    """The reasons are read from any reply, and from nothing else."""
    assert gemini.is_reply(reply) is is_reply
    assert gemini.finish_reason(reply) == finish
    assert gemini.block_reason(reply) == block
    assert gemini.is_complete(reply) is (finish == "STOP")


@pytest.mark.parametrize(
    ("reply", "version"),
    [(_reply("STOP"), "gemini-3-flash"), ({}, None), ({"modelVersion": 3}, None), (None, None)],
)
def test_the_version_that_answered(reply: Any, version: str | None) -> None:
    """The version is text, or unknown."""
    assert gemini.model_version(reply) == version


def call(signature: str | None = None, **fields: Any) -> ToolCallPart:
    """A tool call, with Gemini's own signature where one is given."""
    metadata = {"gemini": {"thoughtSignature": signature}} if signature else None
    return ToolCallPart(name="double", arguments={}, provider_metadata=metadata, **fields)


def signatures(*messages: llm.Message) -> list[Any]:
    """The provider metadata of all tool calls, after signatures were added."""
    return [
        part.provider_metadata and part.provider_metadata["gemini"]
        for message in gemini.with_signatures(messages)
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]


def test_signature_for_the_first_call_of_a_step() -> None:
    """Of the calls of one step, the first has the signature, and Gemini's own is kept."""
    foreign, own = llm.assistant("Hm.", call(), call()), llm.assistant(call("own"), call())
    expected = [STAND_IN, None, {"thoughtSignature": "own"}, None]
    assert signatures(llm.user("Hello"), foreign, llm.user(), own) == expected
    assert foreign.parts[1] == call()


def test_signatures_of_the_current_turn() -> None:
    """Earlier turns are left alone; an attachment that a tool returns begins no turn."""
    picture = AttachmentPart(attachment=llm.Attachment(type="image/png", content=b"x"))
    step = llm.assistant(call())
    assert signatures(llm.user("1"), step, llm.assistant("ok"), llm.user("2"), step) == [
        None,
        STAND_IN,
    ]
    assert signatures(llm.user("1"), step, llm.user(picture)) == [STAND_IN]


def test_calls_that_the_service_made_itself() -> None:
    """A call that was executed by the service is none of ours."""
    served = llm.assistant(call(server_executed=True), call())
    assert signatures(llm.user("Hello"), served) == [None, STAND_IN]


@pytest.mark.parametrize(
    ("model_id", "wants"),
    [
        ("gemini/gemini-flash-latest", True),
        ("gemini/gemini-3.1-pro-preview", True),
        ("gemini/gemini-4-argon", True),
        ("gemini/gemini-2.5-flash", False),
        ("gemini/gemma-4-31b-it", False),
        ("mlx/gemini-3", False),
        ("gpt-5", False),
    ],
)
def test_models_that_want_signatures(model_id: str, wants: bool) -> None:
    """Gemini 3 and later, and the names that may mean them."""
    assert gemini.wants_signatures(model_id) is wants


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ({"details": [{"@type": f"{GOOGLE}/google.rpc.RetryInfo", "retryDelay": "36.5s"}]}, 36.5),
        ({"details": [{"retryDelay": "7s"}]}, 7),
        ({"details": [{"retryDelay": "soon"}]}, None),
        ({"details": [{"@type": f"{GOOGLE}/google.rpc.Help", "links": []}]}, None),
        ({"details": "none"}, None),
        ({}, None),
    ],
)
def test_retry_delay(error: dict[str, Any], seconds: float | None) -> None:
    """The details of an error may say after how many seconds a retry helps."""
    assert gemini.retry_delay(error) == seconds


def test_names_in_details() -> None:
    """The names of the error and of the quotas are in its details."""
    quota = {"quotaMetric": "requests", "quotaId": "RequestsPerDay-FreeTier"}
    error = {"details": [{"reason": "RATE_LIMIT_EXCEEDED"}, {"violations": [quota]}, None]}
    assert gemini.error_names(error) == [
        "RATE_LIMIT_EXCEEDED",
        "RequestsPerDay-FreeTier",
        "requests",
    ]
    assert gemini.error_names({}) == []


@pytest.mark.parametrize(
    ("now", "midnight"),
    [("2026-11-28T17:00", "2026-11-29T08:00"), ("2026-07-01T06:59", "2026-07-01T07:00")],
)
def test_quotas_begin_anew(now: str, midnight: str) -> None:
    """Quotas of a day end at midnight in California, in summer and in winter."""
    then = gemini.quotas_begin_anew(datetime.fromisoformat(f"{now}+00:00"))
    assert then == datetime.fromisoformat(f"{midnight}+00:00")


def test_error_of_another_program_in_a_stream() -> None:
    """Only llm-gemini's own frames hold an element of its stream."""
    event = {"error": {"message": "not llm-gemini's"}}
    with pytest.raises(KeyError) as caught:
        event["candidates"]
    assert gemini.error_in_stream(caught.value) is None
