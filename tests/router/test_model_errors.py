"""The virtual model when models fail: retries, fallbacks, and what it reports."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
import llm
import pytest

from llm_tiered.errors import AllTiersFailed, BrokenAnswer
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

PASSING = [
    pytest.param(gemini.INTERNAL, "internal error", id="500"),
    pytest.param(gemini.OVERLOADED, "The model is overloaded", id="503"),
    pytest.param(gemini.HIGH_DEMAND, "high demand", id="503 high demand"),
    pytest.param(gemini.DEADLINE, "Deadline expired", id="504"),
    pytest.param(gemini.NOTHING, "the service sent no usable answer", id="empty body"),
    pytest.param(gemini.HTML, "HTTP 502: Error 502 (Server Error)!!1", id="HTML"),
    pytest.param(gemini.refused(503, "UNAVAILABLE", ""), "HTTP 503", id="503 without a message"),
    pytest.param(gemini.refused(500, "INTERNAL", "", as_list=False), "HTTP 500", id="object"),
    pytest.param(gemini.Failure(503, b"upstream connect error"), "upstream", id="text"),
    pytest.param(gemini.TIMEOUT, "no answer in time", id="timeout"),
    pytest.param(gemini.UNREACHABLE, "can't be reached", id="no network"),
    pytest.param(gemini.HUNG_UP, "Server disconnected", id="hung up"),
]
LASTING = [
    pytest.param(gemini.WRONG_KEY, "API key not valid", id="wrong key"),
    pytest.param(gemini.BAD_REQUEST, "invalid argument", id="bad request"),
    pytest.param(gemini.WRONG_PLACE, "location is not supported", id="wrong place"),
    pytest.param(gemini.DISABLED, "has not been used in project", id="disabled API"),
    pytest.param(gemini.NO_SUCH_MODEL, "is not found for API version", id="no such model"),
    pytest.param(gemini.TOO_LARGE, "payload size exceeds the limit", id="object"),
    pytest.param(gemini.DAILY_QUOTA, "the daily quota is used up until", id="daily quota"),
    pytest.param(gemini.Failure(404, b"<title>Not here</title>"), "HTTP 404: Not here", id="page"),
]


def attempts(response: Any) -> list[tuple[str, str]]:
    """Model and outcome of each attempt."""
    return [
        (attempt["model"], attempt["outcome"])
        for attempt in response.response_json["tiered"]["attempts"]
    ]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that the package logged."""
    return [record.getMessage() for record in caplog.records if record.name == "llm_tiered"]


@pytest.mark.parametrize(("failure", "reason"), PASSING)
async def test_transient_error(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, failure: gemini.Failure, reason: str
) -> None:
    """An error that passes by itself is retried after 1 and 4 seconds; then a local model answers.

    The record keeps one attempt, with the reason.
    """
    failure.answer_all(httpx_mock)
    response = await ask("Say hello", complexity=8)
    assert toys.delays == [1, 4]
    assert len(httpx_mock.get_requests()) == 3
    assert response.text_or_raise() == "medium answer"
    assert response.resolved_model == "mlx/toy-medium"
    assert attempts(response) == [(gemini.MODEL, "failed"), ("mlx/toy-medium", "ok")]
    assert reason in response.response_json["tiered"]["attempts"][0]["reason"]


@pytest.mark.parametrize(("failure", "reason"), LASTING)
async def test_lasting_error(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, failure: gemini.Failure, reason: str
) -> None:
    """A lasting error is not retried; a local model answers."""
    failure.answer_all(httpx_mock)
    response = await ask("Say hello", complexity=8)
    assert toys.delays == []
    assert len(httpx_mock.get_requests()) == 1
    assert response.text_or_raise() == "medium answer"
    assert attempts(response) == [(gemini.MODEL, "failed"), ("mlx/toy-medium", "ok")]
    assert reason in response.response_json["tiered"]["attempts"][0]["reason"]


async def test_long_wait(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that asks to wait longer than a prompt waits is left alone for as long as it asks."""
    gemini.QUOTA.answer(httpx_mock)
    first = await ask("Say hello", complexity=8)
    second = await ask("Say hello", complexity=8)
    assert toys.delays == []
    assert attempts(first) == [(gemini.MODEL, "failed"), ("mlx/toy-medium", "ok")]
    assert attempts(second) == [(gemini.MODEL, "skipped"), ("mlx/toy-medium", "ok")]
    assert "retry in 37 s" in warnings(caplog)[0]
    assert "cooling down for 37 s more after" in warnings(caplog)[1]


async def test_short_wait(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that asks to wait a little is waited for, with a warning, and asked again."""
    gemini.refused(429, "RESOURCE_EXHAUSTED", "Quota. Please retry in 7.2s.").answer(httpx_mock)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "Hello"
    assert toys.delays == [7.2]
    assert warnings(caplog) == [f"waiting 7.2 s for {gemini.MODEL}, as it asks"]


async def test_error_in_a_stream_keeps_its_status(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock
) -> None:
    """An error without a message, in a stream that began, is retried by its status."""
    for error in ({"code": 503, "message": ""}, {"code": 503}):
        reasoning = gemini.chunk(gemini.thought(""))
        gemini.answer(httpx_mock, reasoning, {"error": error})
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "Hello"
    assert toys.delays == [1, 4]


@pytest.mark.parametrize("failure", [gemini.WRONG_KEY, gemini.DISABLED, gemini.NO_CREDIT])
async def test_refused_key_is_not_used_again(
    ask: Ask,
    httpx_mock: HTTPXMock,
    monkeypatch: pytest.MonkeyPatch,
    failure: gemini.Failure,
) -> None:
    """A key that was refused is not sent with every prompt; another one is tried at once."""
    failure.answer(httpx_mock)
    first = await ask("Say hello", complexity=8)
    second = await ask("Say hello", complexity=8)
    assert [attempts(each)[0][1] for each in (first, second)] == ["failed", "skipped"]
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    with_another = await ask("Say hello", complexity=8, key="AQ.another-key-of-nobody")
    assert with_another.text_or_raise() == "Hello"
    gemini.answer(httpx_mock, *gemini.says("Hello again"))
    monkeypatch.setenv("LLM_GEMINI_KEY", "AQ.corrected-key-of-nobody")
    assert (await ask("Say hello", complexity=8)).text_or_raise() == "Hello again"


@pytest.mark.parametrize("failures", [1, 2])
async def test_retry_helps(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    failures: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A retry that is answered makes one successful attempt, without a warning."""
    for _ in range(failures):
        gemini.OVERLOADED.answer(httpx_mock)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "Hello"
    assert attempts(response) == [(gemini.MODEL, "ok")]
    assert toys.delays == [1, 4][:failures]
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([gemini.blocked("PROHIBITED_CONTENT")], "answered with nothing (PROHIBITED_CONTENT)"),
        ([gemini.last(finish="MAX_TOKENS")], "answered with nothing (MAX_TOKENS)"),
        ([gemini.last(finish="SAFETY")], "answered with nothing (SAFETY)"),
        ([gemini.last(gemini.text(""))], "answered with nothing (STOP)"),
    ],
)
async def test_empty_answer(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, chunks: list[gemini.Chunk], reason: str
) -> None:
    """An answer without content is a failure with Google's reason, and is not retried."""
    gemini.answer(httpx_mock, *chunks)
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "medium answer"
    assert response.response_json["tiered"]["attempts"][0]["reason"] == reason
    assert toys.delays == []


@pytest.mark.parametrize(
    "does",
    [
        pytest.param([RuntimeError("it broke")], id="raises"),
        pytest.param([], id="nothing"),
        pytest.param([""], id="empty text"),
    ],
)
async def test_local_failure(ask: Ask, toys: Toys, httpx_mock: HTTPXMock, does: list[Any]) -> None:
    """When local models fail, smaller ones are tried, largest first, and then the cloud."""
    toys.medium.does = toys.small.does = does
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=6)
    assert response.text_or_raise() == "Hello"
    assert attempts(response) == [
        ("mlx/toy-medium", "failed"),
        ("mlx/toy-small", "failed"),
        (gemini.MODEL, "ok"),
    ]
    assert toys.delays == []


async def test_one_warning(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fallback is one warning that names the model, the tier and the reasons."""
    toys.medium.does = [RuntimeError("out of\nmemory")]
    toys.small.does = []
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=6)
    assert warnings(caplog) == [
        f"{gemini.MODEL} answers for medium. "
        "mlx/toy-medium failed: RuntimeError: out of memory; "
        "mlx/toy-small failed: answered with nothing"
    ]
    assert [record.levelno for record in caplog.records if record.name == "llm_tiered"] == [
        logging.WARNING
    ]


async def test_a_long_warning_is_cut(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture
) -> None:
    """With long reasons the warning is a line with the first of them, and the record has all."""
    toys.medium.does = [RuntimeError("a long story " * 9)]
    toys.small.does = [RuntimeError("another one " * 9)]
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=6)
    [warning] = warnings(caplog)
    assert len(warning) < 200
    start = f"{gemini.MODEL} answers for medium. mlx/toy-medium failed: RuntimeError: a long story"
    assert warning.startswith(start)
    assert warning.endswith("y a long story, and 1 other (more: llm tiered verify)")
    record = json.dumps(response.response_json)
    assert ("a long story " * 9).strip() in record
    assert ("another one " * 9).strip() in record


async def test_no_fallback(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    logged: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With fallback=none only the tier's own model is tried; nothing is logged or warned about."""
    gemini.OVERLOADED.answer_all(httpx_mock)
    with pytest.raises(AllTiersFailed, match=r"cloud.*failed: The model is overloaded"):
        await ask("Say hello", complexity=8, fallback="none")
    assert toys.delays == [1, 4]
    assert toys.medium.prompts == toys.small.prompts == []
    assert logged() == []
    assert warnings(caplog) == []


async def test_local_fallback(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """With fallback=local no request leaves the machine when the local tiers fail."""
    toys.medium.does = toys.small.does = [RuntimeError("it broke")]
    with pytest.raises(AllTiersFailed):
        await ask("Say hello", complexity=6, fallback="local")
    assert not httpx_mock.get_requests()


async def test_all_fail(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """If nothing answers, the error has a line for each attempt and its fix."""
    toys.medium.does = [RuntimeError("it broke")]
    toys.small.does = []
    gemini.WRONG_KEY.answer(httpx_mock)
    with pytest.raises(AllTiersFailed) as error:
        await ask("Say hello", complexity=8)
    lines = str(error.value).splitlines()
    assert lines[:4] == [
        "no model could answer:",
        f"  cloud ({gemini.MODEL}) failed: API key not valid. Please pass a valid API key. "
        "→ llm keys set gemini, or LLM_GEMINI_KEY",
        "  medium (mlx/toy-medium) failed: RuntimeError: it broke",
        "  small (mlx/toy-small) failed: answered with nothing",
    ]
    assert lines[4].startswith("  embedded (mlx/SmolLM2-135M-Instruct) skipped: not downloaded")
    assert len(lines) == 5


async def test_cooling_down(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A model with a lasting failure is skipped by the next prompt."""
    gemini.OVERLOADED.answer_all(httpx_mock)
    await ask("Say hello", complexity=8)
    response = await ask("Say hello", complexity=8)
    assert attempts(response) == [(gemini.MODEL, "skipped"), ("mlx/toy-medium", "ok")]
    reason = response.response_json["tiered"]["attempts"][0]["reason"]
    assert reason.startswith("cooling down for 60 s more after: The model is overloaded")
    assert len(httpx_mock.get_requests()) == 3


async def test_bad_prompt_does_not_cool(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A prompt that Gemini rejects does not keep the next one from it."""
    gemini.BAD_REQUEST.answer(httpx_mock)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8)
    assert (await ask("Say hello", complexity=8)).text_or_raise() == "Hello"


CUT = httpx.RemoteProtocolError(
    "peer closed connection without sending complete message body (incomplete chunked read)"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CUT, "the connection broke: peer closed connection"),
        (httpx.ReadError("[Errno 104] Connection reset by peer"), "the connection broke"),
        (httpx.ReadTimeout("The read operation timed out"), "no answer in time"),
    ],
)
async def test_broken_answer(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, error: Exception, reason: str
) -> None:
    """An answer that breaks off is an error that names the model; no other model completes it."""
    gemini.answer_and_break(httpx_mock, gemini.chunk(gemini.text("Half an")), error=error)
    response = ask.model.prompt("Say hello", complexity=8)
    with pytest.raises(BrokenAnswer, match=f"^{gemini.MODEL} broke off its answer: {reason}"):
        await ask.finish(response)
    assert toys.medium.prompts == []
    assert toys.delays == []


async def test_broken_answer_of_a_service(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """An error in the middle of the stream breaks the answer off, too."""
    overloaded: Any = {"error": {"code": 503, "message": "The model is overloaded."}}
    gemini.answer(httpx_mock, gemini.chunk(gemini.text("Half an")), overloaded)
    with pytest.raises(BrokenAnswer, match=f"^{gemini.MODEL} broke off its answer: The model is"):
        await ask("Say hello", complexity=8)
    assert toys.medium.prompts == []


async def test_broken_local_answer(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A local model that fails after its first output is not replaced either."""
    toys.medium.does = ["Half an", RuntimeError("it broke")]
    with pytest.raises(BrokenAnswer, match="mlx/toy-medium broke off its answer: RuntimeError"):
        await ask("Say hello", complexity=6)
    assert toys.small.prompts == []
    assert not httpx_mock.get_requests()


async def test_half_an_answer_is_not_logged(
    ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """An answer that broke off is neither in the log nor in the conversation."""
    toys.medium.does = ["Half an", RuntimeError("it broke")]
    conversation = ask.model.conversation()
    with pytest.raises(BrokenAnswer):
        await ask("Say hello", to=conversation, complexity=6)
    assert logged() == []
    assert conversation.responses == []


async def test_failed_attempt_leaves_nothing(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """No tool call, text or token count of a failed attempt reaches the next model's answer."""
    toys.medium.tools = toys.small.tools = True
    toys.medium.does = [llm.ToolCall("double", {"number": 1}), "", RuntimeError("it broke")]
    toys.small.does = [""]
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=6)
    assert response.tool_calls_or_raise() == []
    assert [part.to_dict() for part in response._messages_now()[0].parts] == [
        {"type": "text", "text": "Hello"}
    ]
    assert (response.input_tokens, response.output_tokens) == (7, 5)


async def test_no_async_version(toys: Toys) -> None:
    """An async prompt is answered by a model that its plugin offers only in a sync version."""
    toys.medium.has_async = False
    response: Any = await llm.get_async_model("tiered").prompt("Say hello", complexity=6)
    assert response.text_or_raise() == "medium answer"


@pytest.mark.parametrize("fallback", ["any", "none"])
async def test_tiered_as_its_own_tier(ask: Ask, toys: Toys, fallback: str) -> None:
    """A tier that names `tiered` itself is an error that says so, not an endless loop."""
    toys.configure(tiers=[{"name": "all", "complexity": "1-10", "model": "tiered"}])
    with pytest.raises(llm.ModelError, match="itself"):
        await ask("Say hello", fallback=fallback)
