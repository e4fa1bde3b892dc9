"""What services say instead of an answer, in the forms of their libraries."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import httpx2
import llm
import pytest

from llm_tiered.router.failures import explain
from llm_tiered.router.problem import Problem
from tests.router import services
from tests.router.services import CLAUDE, FLASH, GPT, by_anthropic, by_httpx, by_openai

NOW = datetime(2026, 11, 28, 17, 0, tzinfo=timezone.utc)
KEY_FIX = "llm keys set gemini, or LLM_GEMINI_KEY"
ACCOUNT = {"cools_down": True, "refuses_key": True}
LIMIT = {"cools_down": True, "transient": True, "at_limit": True}
BROKEN = {"cools_down": True, "transient": True}
PLAN = "You exceeded your current quota, please check your plan and billing details."
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
OPENAI_KEY = "llm keys set openai, or OPENAI_API_KEY"
ANTHROPIC_KEY = "llm keys set anthropic, or ANTHROPIC_API_KEY"
TOO_LOW = "Your credit balance is too low to access the Anthropic API."

# Library, status, body, headers; what is expected of the problem beside the reason.
REFUSALS: list[tuple[Any, Any, int, Any, dict[str, str], dict[str, Any]]] = [
    # Limits, with and without a time
    (by_httpx, FLASH, 429, services.google("RESOURCE_EXHAUSTED", PLAN, RETRY_INFO), {}, LIMIT
     | {"retry_after": 7.0}),
    (by_httpx, FLASH, 429, [services.google("RESOURCE_EXHAUSTED", f"{PLAN} Please retry in 1m3s.")],
     {}, LIMIT | {"retry_after": 63.0}),
    (by_httpx, FLASH, 429, services.google("RESOURCE_EXHAUSTED", ""), {"retry_after": "12"}, LIMIT
     | {"retry_after": 12.0}),
    (by_httpx, FLASH, 429, services.google("RESOURCE_EXHAUSTED", PLAN), {}, LIMIT),
    (by_openai, GPT, 429, services.openai("Rate limit reached for gpt-5 on requests per min (RPM):"
     " Limit 3, Used 3. Please try again in 20s.", "requests", "rate_limit_exceeded"), {}, LIMIT
     | {"retry_after": 20.0}),
    (by_openai, GPT, 429, b"slow down", {"retry_after_ms": "250", "retry_after": "1"}, LIMIT
     | {"retry_after": 1.0}),
    (by_anthropic, CLAUDE, 429, services.anthropic("rate_limit_error", "This would exceed your"
     " organization's rate limit of 50 requests per minute."), {"retry_after": "31"}, LIMIT
     | {"retry_after": 31.0}),
    (by_httpx, None, 429, b"", {"retry_after": "Sat, 28 Nov 2026 17:00:30 GMT"}, LIMIT
     | {"retry_after": 30.0}),
    (by_httpx, None, 503, b"", {"retry_after": "Sat, 28 Nov 2026 16:00:00 GMT"}, LIMIT
     | {"retry_after": 0.0}),
    # Too much to do for a moment
    (by_httpx, FLASH, 503, services.google("UNAVAILABLE", "", code=503), {}, LIMIT),
    (by_anthropic, CLAUDE, 529, services.anthropic("overloaded_error", "Overloaded"), {}, LIMIT),
    (by_anthropic, CLAUDE, 200, services.anthropic("overloaded_error", "Overloaded"), {}, LIMIT),
    # Broken for a moment
    (by_httpx, FLASH, 500, services.google("INTERNAL", "", code=500), {}, BROKEN),
    (by_httpx, FLASH, 504, services.google("DEADLINE_EXCEEDED", "", code=504), {}, BROKEN),
    (by_httpx, FLASH, 502, b"<html><title>502 Bad Gateway</title></html>", {}, BROKEN),
    (by_openai, GPT, 500, services.openai("The server had an error", "server_error"), {}, BROKEN),
    (by_anthropic, CLAUDE, 200, services.anthropic("api_error", "Internal server error"), {},
     BROKEN),
    (by_httpx, None, 408, b"", {}, BROKEN),
    # Wrong keys and missing permissions
    (by_httpx, FLASH, 400, services.google("INVALID_ARGUMENT", "API key not valid.", code=400), {},
     ACCOUNT | {"fix": KEY_FIX}),
    (by_httpx, FLASH, 403, services.google("PERMISSION_DENIED", "", code=403), {}, ACCOUNT
     | {"fix": KEY_FIX}),
    (by_openai, GPT, 401, services.openai("Incorrect API key provided: sk-ab***yz.", None,
     "invalid_api_key"), {}, ACCOUNT | {"fix": OPENAI_KEY}),
    (by_anthropic, CLAUDE, 401, services.anthropic("authentication_error", "invalid x-api-key"),
     {}, ACCOUNT | {"fix": ANTHROPIC_KEY}),
    (by_anthropic, CLAUDE, 403, services.anthropic("permission_error", "not allowed"), {}, ACCOUNT
     | {"fix": ANTHROPIC_KEY}),
    (by_httpx, None, 401, b"", {}, ACCOUNT),
    # Nothing to pay with
    (by_openai, GPT, 429, services.openai(PLAN, "insufficient_quota", "insufficient_quota"), {},
     ACCOUNT | {"fix": f"add credit, or {OPENAI_KEY}"}),
    (by_anthropic, CLAUDE, 400, services.anthropic("invalid_request_error", TOO_LOW), {}, ACCOUNT
     | {"fix": f"add credit, or {ANTHROPIC_KEY}"}),
    (by_httpx, FLASH, 429, services.google("RESOURCE_EXHAUSTED", "Your prepayment credits are"
     " depleted."), {}, ACCOUNT | {"fix": f"add credit, or {KEY_FIX}"}),
    (by_httpx, FLASH, 429, services.google("RESOURCE_EXHAUSTED", f"{PLAN} limit: 0, model: pro"
     " Please retry in 3s."), {}, ACCOUNT | {"fix": f"add credit, or {KEY_FIX}"}),
    (by_httpx, None, 402, {"error": "Payment Required"}, {}, ACCOUNT),
    (by_anthropic, CLAUDE, 400, services.anthropic("invalid_request_error", "You have reached your"
     " specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), {}, ACCOUNT
     | {"fix": f"add credit, or {ANTHROPIC_KEY}"}),
    (by_httpx, FLASH, 400, services.google("FAILED_PRECONDITION", "Gemini API free tier is not"
     " available in your country. Please enable billing on your project.", code=400), {}, ACCOUNT
     | {"fix": f"add credit, or {KEY_FIX}"}),
    # Models that are not served, whatever the request
    (by_httpx, FLASH, 400, services.google("FAILED_PRECONDITION", "User location is not supported"
     " for the API use.", code=400), {}, {"cools_down": True}),
    (by_openai, GPT, 404, services.openai("The model `gpt-0` does not exist or you do not have"
     " access to it.", "invalid_request_error", "model_not_found"), {}, {"cools_down": True}),
    (by_openai, None, 400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}, {},
     {"cools_down": True}),
    # Requests that can't succeed
    (by_openai, GPT, 400, services.openai("For this model, images of this type are not supported."),
     {}, {}),
    (by_openai, GPT, 429, services.openai("Request too large for gpt-5 on tokens per min (TPM):"
     " Limit 30000, Requested 41000. The input or output tokens must be reduced in order to run"
     " successfully.", "tokens", "rate_limit_exceeded"), {}, {}),
    (by_openai, GPT, 403, {"error": {"message": "gpt requires moderation. Your input was flagged"
     " for \"violence\"", "code": 403}}, {}, {}),
    (by_httpx, FLASH, 413, services.google("INVALID_ARGUMENT", "too large", code=413), {}, {}),
    (by_httpx, FLASH, 404, services.google("NOT_FOUND", "no such model", code=404), {}, {}),
    (by_openai, GPT, 400, services.openai("This model's maximum context length is 8192 tokens"),
     {}, {}),
    (by_anthropic, CLAUDE, 413, services.anthropic("request_too_large", "too large"), {}, {}),
    (by_httpx, None, 422, {"detail": [{"msg": "field required"}]}, {}, {}),
]  # fmt: skip


def test_what_services_say() -> None:
    """Each status and message, in each library's form, leads to the same kind of problem."""
    wrong = []
    for library, model, status, body, headers, expected in REFUSALS:
        problem = explain(library(status, body, **headers), model=model, now=NOW)
        if problem != Problem(problem.reason, **expected) or not problem.reason:
            wrong.append((status, body, problem))
    assert wrong == []


@pytest.mark.parametrize("form", [by_httpx, by_openai, by_anthropic])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (services.google("UNAVAILABLE", "so it is"), "so it is"),
        ([services.google("UNAVAILABLE", "so it is")], "so it is"),
        (services.anthropic("overloaded_error", "so it is"), "so it is"),
        ({"error": "so it is"}, "so it is"),
        ({"message": "so it is"}, "so it is"),
        ({"detail": "so it is"}, "so it is"),
        ({"detail": [{"loc": ["body"], "msg": "so it is"}]}, "so it is"),
        (b"so it is\n", "so it is"),
        (b'{"error": {"mess', '{"error": {"mess'),
        (b"<!DOCTYPE html>\n<title>so it\n is</title> <p>more", "HTTP 503: so it is"),
        (b"<html><body><h1>so</h1>it is</body></html>", "HTTP 503: so it is"),
        ({"error": {"code": 503, "message": ""}}, "HTTP 503 Service Unavailable"),
        ({"error": {"code": 503}}, "HTTP 503 Service Unavailable"),
    ],
)
def test_reason_in_any_form(form: Any, body: Any, reason: str) -> None:
    """The reason is found in an object, a list, text and a page, without the URL of the request."""
    assert explain(form(503, body)).reason == reason


@pytest.mark.parametrize("form", [by_httpx, by_openai, by_anthropic])
def test_no_reason(form: Any) -> None:
    """An empty body leaves the status, if the library has no words of its own."""
    assert "503" in explain(form(503, b"")).reason


def test_body_that_was_not_read() -> None:
    """A plugin that raises the error before it reads the body leaves the status."""
    stream = httpx.Response(401, stream=httpx.ByteStream(b"no"))
    stream.request = httpx.Request("GET", "https://service.example/?key=sk-secret-0123456789")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        stream.raise_for_status()
    assert explain(caught.value, model=GPT).reason == "HTTP 401 Unauthorized"


class PartsError(Exception):
    """The error of a library that has parts of the response and not the response itself."""

    def __init__(self, **parts: Any) -> None:
        super().__init__("https://service.example?key=sk-secret-0123456789")
        vars(self).update(parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"status": 429, "message": "slow down", "headers": {"Retry-After": "5"}},
        {"status_code": 429, "body": '{"message": "slow down"}', "headers": {"retry-after": "5"}},
        {"code": 429, "details": {"error": {"message": "slow down, retry after 5s"}}},
    ],
)
def test_parts_of_a_response(parts: dict[str, Any]) -> None:
    """Libraries that hand on parts of the response are understood, too."""
    problem = explain(PartsError(**parts))
    assert (problem.at_limit, problem.retry_after) == (True, 5.0)
    assert problem.reason.startswith("slow down")


DAILY = [
    (services.google("RESOURCE_EXHAUSTED", PLAN, RETRY_INFO, {"violations": [
        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}), FLASH, 15 * 3600),
    (services.google("RESOURCE_EXHAUSTED", "Quota exceeded: requests per day"), FLASH, 15 * 3600),
    (services.openai("Rate limit reached for gpt-5 on requests per day (RPD): Limit 200, Used 200."
                     " Please try again in 7m12s.", "requests", "rate_limit_exceeded"), GPT, 432),
    ({"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429, "metadata": {
        "headers": {"X-RateLimit-Reset": f"{NOW.timestamp() * 1000 + 25_200_000:.0f}"}}}},
     GPT, 7 * 3600),
]  # fmt: skip


@pytest.mark.parametrize(("body", "model", "seconds"), DAILY)
def test_daily_quota(body: Any, model: Any, seconds: float) -> None:
    """A quota of a day is not retried; the reason says until when it is used up.

    Google tells a delay of seconds with it: its quotas begin anew at midnight in California.
    """
    problem = explain(by_httpx(429, body), model=model, now=NOW)
    assert (problem.transient, problem.at_limit, problem.cools_down) == (False, False, True)
    assert problem.retry_after == seconds
    until = (NOW + timedelta(seconds=seconds)).astimezone()
    assert problem.reason.startswith(f"the daily quota is used up until {until:%Y-%m-%d %H:%M}: ")


def test_end_of_a_limit_as_a_time() -> None:
    """A limit that ends at a time since 1970 is waited for; other numbers are durations."""
    resets = {f"{NOW.timestamp() + 20:.0f}": 20.0, f"{NOW.timestamp() * 1000 + 30_000:.0f}": 30.0}
    for value, seconds in (resets | {"12": None, "6m0s": None, "": None}).items():
        error = by_httpx(429, b"slow down", x_ratelimit_reset=value)
        assert explain(error, now=NOW).retry_after == seconds, value


@pytest.mark.parametrize("message", ["slow down", "daily quota"])
def test_time_that_is_no_time(message: str) -> None:
    """A number of seconds that nobody can mean is no error of its own."""
    problem = explain(by_httpx(429, message.encode(), retry_after="9" * 30), model=GPT, now=NOW)
    assert problem.retry_after == 366 * 86400


def test_words_of_the_service_behind_the_service() -> None:
    """A service that hands on the error of another one puts its words elsewhere."""
    error = {"message": "Provider returned error", "metadata": {"raw": "Please retry in 7s"}}
    problem = explain(by_openai(429, {"error": error}))
    assert (problem.retry_after, problem.reason) == (
        7.0,
        "Provider returned error: Please retry in 7s",
    )


TIMES = {
    "Please retry in 7.2s.": 7.2,
    "Please retry in 1m3s": 63.0,
    "retry in 250ms": 0.25,
    "Please try again in 7m12s. Visit https://example.com": 432.0,
    "Please try again in 1h2m3.5s": 3723.5,
    "Please retry after 58 seconds.": 58.0,
    "Please retry your request after 1 minute": 60.0,
    "Try again in 2 minutes and 5 seconds": 125.0,
    "Retry-After: 12": 12.0,
    "rate limited; retrying in 3 s": 3.0,
    "limits: {'retryDelay': '36s'}": 36.0,
    "Please wait 30 seconds": 30.0,
    "Please try again later.": None,
    "Please retry or report in https://example.com/2s": None,
    "Limit 20 requests per 60s": None,
    "try again in a few minutes": None,
}


def test_times_in_messages() -> None:
    """The time that a message tells is read in all its spellings; other numbers are not."""
    told = {text: explain(llm.ModelError(f"quota: {text}")).retry_after for text in TIMES}
    assert told == {text: pytest.approx(seconds) for text, seconds in TIMES.items()}


def test_time_to_wait_is_not_cut_off() -> None:
    """A long reason still says after how long a retry helps."""
    reason = explain(llm.ModelError(f"quota {'x' * 400} Please retry in 36.5s.")).reason
    assert len(reason) == 300
    assert reason.endswith("… (retry in 36 s)")


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (services.APITimeoutError(), httpx.ReadTimeout(""), "no answer in time"),
        (services.APITimeoutError(), None, "no answer in time"),
        (services.APIConnectionError(), httpx.ConnectError("refused"), "can't be reached: refused"),
        (services.APIConnectionError(), httpx2.ReadError("reset"), "the connection broke: reset"),
        (services.APIConnectionError(), None, "can't be reached: Connection error."),
        (ConnectionResetError("reset"), None, "the connection broke: reset"),
        (TimeoutError(), None, "no answer in time"),
    ],
)
def test_no_connection_in_other_libraries(
    error: Exception, cause: Exception | None, reason: str
) -> None:
    """What other libraries say about the connection means the same as what httpx says."""
    error.__cause__ = cause
    problem = explain(error)
    assert (problem.reason, problem.transient, problem.at_limit) == (reason, True, False)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (404, "model 'llama3.2' not found", {"cools_down": True}),
        (500, "model requires more system memory (5.6 GiB) than is available (2.1 GiB)",
         {"cools_down": True}),
        (500, "llama runner process has terminated", BROKEN),
        (503, "server busy, please try again. maximum pending requests exceeded", LIMIT),
        (400, "registry.ollama.ai/library/gemma does not support tools", {}),
        (-1, "an error was encountered while running the model: CUDA error", {}),
    ],
)  # fmt: skip
def test_ollama(status: int, message: str, expected: dict[str, Any]) -> None:
    """What Ollama says is shown without the words of its library, and tells what helps."""
    assert explain(services.OllamaError(message, status)) == Problem(message, **expected)


def test_model_that_anthropic_does_not_have() -> None:
    """A name that Anthropic does not know is not asked for again with each prompt."""
    error = by_anthropic(404, services.anthropic("not_found_error", "model: claude-0"))
    assert explain(error, model=CLAUDE) == Problem("model: claude-0", cools_down=True)


def test_library_that_retries_by_itself() -> None:
    """What a library has tried again is not retried, save for llm's own plugin, which does not."""
    own: Any = llm.get_model("gpt-4o-mini")
    busy = services.anthropic("overloaded_error", "Overloaded")
    errors = [
        services.retrying("anthropic", by_anthropic(529, busy)),
        services.retrying("openai", services.APIConnectionError()),
    ]
    for error in errors:
        problem = explain(error, model=CLAUDE)
        assert (problem.transient, problem.retried, problem.cools_down) == (True, True, True)
        assert not explain(error, model=own).retried
    within_a_stream = services.retrying("anthropic", by_anthropic(200, busy))
    assert not explain(within_a_stream, model=CLAUDE).retried
    assert not explain(by_anthropic(529, busy), model=CLAUDE).retried


def test_key_of_the_provider_that_failed() -> None:
    """A hint never names another provider's key, and none where the model is not known."""
    for model, name in ((FLASH, "gemini"), (CLAUDE, "anthropic"), (GPT, "openai")):
        for error in (llm.ModelError("API key not valid."), by_httpx(401), by_openai(403)):
            fix = explain(error, model=model).fix or ""
            assert fix.startswith(f"llm keys set {name}, or ")
    assert explain(llm.ModelError("API key not valid.")).fix is None
