"""The virtual model over llm-gemini's own code: requests, answers, records, keys."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import httpx
import llm
import pytest
import sqlite_utils
from llm.logs import LogStore

from llm_tiered.router.thinking import MOST_THOUGHTS
from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys


# A key that must not turn up anywhere.
SECRET = "AQ.Ab8RN6secretOfTheUser"


async def test_answer(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A prompt for the cloud tier is answered by Gemini, with its text and token counts."""
    gemini.answer(httpx_mock, *gemini.says("Grüße aus der Wolke ☁"))
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "Grüße aus der Wolke ☁"
    assert response.model.model_id == "tiered"
    assert response.resolved_model == gemini.MODEL
    assert (response.input_tokens, response.output_tokens) == (7, 5)
    assert response.token_details == {"candidatesTokenCount": 3, "thoughtsTokenCount": 2}


async def test_record(
    ask: Ask, httpx_mock: HTTPXMock, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """The log keeps the decision, the attempts and Gemini's own reply, in the agreed form."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=8, max_tokens=50)
    record = response.response_json
    ttft_ms, ms = record["tiered"].pop("ttft_ms"), record["tiered"]["attempts"][0].pop("ms")
    assert isinstance(ttft_ms, int)
    assert isinstance(ms, int)
    assert 0 <= ms <= ttft_ms + 1
    assert re.fullmatch("[0-9a-f]{64}", record["tiered"].pop("key"))
    assert record == {
        "tiered": {
            "complexity": 8,
            "source": "option",
            "task": None,
            "tier": "cloud",
            "attempts": [{"tier": "cloud", "model": gemini.MODEL, "outcome": "ok", "reason": None}],
            "cached_from": None,
            "escalates": False,
            "local_only": False,
            "place": "cloud",
        },
        "response": {
            "candidates": [{"index": 0, "finishReason": "STOP"}],
            "modelVersion": gemini.VERSION,
            "responseId": "r-1",
        },
    }
    (turn,) = logged()
    with closing(sqlite3.connect(logs)) as database:
        stored = LogStore(sqlite_utils.Database(database)).turn_response_json(turn["id"])
    assert stored["response"] == record["response"]
    assert stored["tiered"]["ttft_ms"] == ttft_ms
    assert json.loads(turn["options_json"]) == {"complexity": 8, "max_tokens": 50}
    assert (turn["model"], turn["resolved_model"]) == ("tiered", gemini.MODEL)
    assert (turn["input_tokens"], turn["output_tokens"]) == (7, 5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"tier": "cloud"}, ("tier", None, None, "cloud")),
        ({"tier": "small", "complexity": 9}, ("tier", 9, None, "small")),
        ({"complexity": 9, "task": "theory_analysis"}, ("option", 9, "theory_analysis", "cloud")),
        ({"task": "curriculum_planning"}, ("task", 8, "curriculum_planning", "cloud")),
        ({}, ("estimate", 5, None, "medium")),
    ],
)
async def test_record_of_the_source(
    ask: Ask, httpx_mock: HTTPXMock, said: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """The record says what decided: tier before complexity before task before the estimate."""
    if expected[-1] == "cloud":
        gemini.answer(httpx_mock, *gemini.says("Hello"))
    record = (await ask("Say hello", **said)).response_json["tiered"]
    assert tuple(record[name] for name in ("source", "complexity", "task", "tier")) == expected


async def test_record_of_a_local_model(ask: Ask) -> None:
    """For a model without a response_json of its own, that part of the record is empty."""
    response = await ask("Say hello", complexity=2)
    assert response.text_or_raise() == "small answer"
    assert response.resolved_model == "mlx/toy-small"
    assert (response.input_tokens, response.output_tokens) == (5, 2)
    assert response.response_json["response"] is None


async def test_request(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """The sampling options reach Gemini under its names; the seed, which it lacks, does not."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8, max_tokens=50, temperature=0.0, top_p=0.5, seed=7)
    (body,) = gemini.sent(httpx_mock)
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Say hello"}]}]
    sampling = {name: body["generationConfig"].get(name) for name in ("temperature", "topP")}
    assert sampling == {"temperature": 0.0, "topP": 0.5}
    assert body["generationConfig"]["maxOutputTokens"] == 50 + MOST_THOUGHTS
    assert "seed" not in json.dumps(body)


async def test_tier_options(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """The tier's options reach Gemini, under Gemini's names or the general ones."""
    toys.configure_cloud(timeout=33, max_output_tokens=900, temperature=0.1, top_k=3)
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8)
    (request,) = httpx_mock.get_requests()
    assert request.extensions["timeout"]["read"] == 33
    config = json.loads(request.content)["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"], config["topK"]) == (900, 0.1, 3)


@pytest.mark.parametrize("name", ["max_tokens", "max_output_tokens"])
async def test_request_beats_tier(ask: Ask, toys: Toys, httpx_mock: HTTPXMock, name: str) -> None:
    """The request's sampling options override the tier's, whichever name they use."""
    toys.configure_cloud(**{name: 900, "temperature": 0.1})
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8, max_tokens=50)
    config = gemini.sent(httpx_mock)[0]["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"]) == (50 + MOST_THOUGHTS, 0.1)


async def test_alias(ask: Ask, toys: Toys, httpx_mock: HTTPXMock, user_path: Path) -> None:
    """A tier may name its model by an alias, a plugin's or the user's; the id is recorded."""
    (user_path / "aliases.json").write_text(json.dumps({"fast": gemini.MODEL}))
    for alias in ("fast", gemini.MODEL.removeprefix("gemini/")):
        toys.configure(tiers=[*toys.keys["tiers"][:2], toys.keys["tiers"][2] | {"model": alias}])
        gemini.answer(httpx_mock, *gemini.says("Hello"))
        response = await ask("Say hello", complexity=8)
        assert response.text_or_raise() == "Hello"
        assert response.resolved_model == gemini.MODEL


async def test_wrong_tier_options(ask: Ask, toys: Toys) -> None:
    """A tier with options its model does not know is skipped, and the reason names the option."""
    toys.configure_cloud(max_tokenz=5)
    response = await ask("Say hello", complexity=8)
    first = response.response_json["tiered"]["attempts"][0]
    assert first["outcome"] == "skipped"
    assert first["reason"].startswith("wrong options: max_tokenz")


async def test_explicit_key(ask: Ask, httpx_mock: HTTPXMock, user_path: Path) -> None:
    """The request's key reaches Gemini, whatever is stored or in the environment."""
    (user_path / "keys.json").write_text(json.dumps({"gemini": "stored"}))
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8, key=SECRET)
    (request,) = httpx_mock.get_requests()
    assert request.headers["x-goog-api-key"] == SECRET


async def test_stored_key(ask: Ask, httpx_mock: HTTPXMock, user_path: Path) -> None:
    """Without a key in the request, the one stored in llm is used."""
    (user_path / "keys.json").write_text(json.dumps({"gemini": "stored"}))
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Say hello", complexity=8)
    (request,) = httpx_mock.get_requests()
    assert request.headers["x-goog-api-key"] == "stored"


async def test_key_of_a_chain(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """The key of a tool loop goes with each of its requests."""
    called = gemini.call("double", {"number": 2}, id="c-1")
    gemini.answer(httpx_mock, gemini.last(called))
    gemini.answer(httpx_mock, *gemini.says("Four"))

    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    chain = ask.model.chain("2 * 2?", tools=[double], key=SECRET, options={"complexity": 8})
    await ask.finish(chain)
    keys = [request.headers["x-goog-api-key"] for request in httpx_mock.get_requests()]
    assert keys == [SECRET, SECRET]


async def test_unreadable_keys(ask: Ask, user_path: Path) -> None:
    """If llm's keys can't be read, Gemini is skipped like any unavailable model."""
    (user_path / "keys.json").write_text('{"gemini": ')
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "medium answer"
    assert response.response_json["tiered"]["attempts"][0]["outcome"] == "skipped"


async def test_no_key(ask: Ask, httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key Gemini is skipped, and a local model answers."""
    monkeypatch.delenv("LLM_GEMINI_KEY")
    response = await ask("Say hello", complexity=8)
    assert response.text_or_raise() == "medium answer"
    first = response.response_json["tiered"]["attempts"][0]
    assert (first["model"], first["outcome"], first["reason"]) == (
        gemini.MODEL,
        "skipped",
        "no key",
    )
    assert not httpx_mock.get_requests()


async def test_no_key_and_no_fallback(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no other model may answer, the error says how to set the key."""
    monkeypatch.delenv("LLM_GEMINI_KEY")
    with pytest.raises(llm.ModelError, match=r"no key.*llm keys set gemini"):
        await ask("Say hello", complexity=8, fallback="none")


@pytest.fixture(params=["request", "stored", "environment"])
def repeated(
    request: pytest.FixtureRequest,
    httpx_mock: HTTPXMock,
    user_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Make every error repeat the key. The value is what a request passes to use it."""
    message = f"API key not valid: {SECRET}"
    gemini.refused(400, "INVALID_ARGUMENT", message).answer_all(httpx_mock)
    if request.param == "request":
        return {"key": SECRET}
    if request.param == "stored":
        (user_path / "keys.json").write_text(json.dumps({"gemini": SECRET}))
    else:
        monkeypatch.setenv("LLM_GEMINI_KEY", SECRET)
    return {}


async def test_key_is_not_recorded(
    ask: Ask,
    repeated: dict[str, str],
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key that an error repeats is neither in the log record nor in the database."""
    with caplog.at_level(logging.DEBUG):
        response = await ask("Say hello", complexity=8, **repeated)
    assert response.text_or_raise() == "medium answer"
    assert "API key not valid" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in json.dumps(response.response_json)
    assert len(logged()) == 1
    assert SECRET.encode() not in logs.read_bytes()


async def test_key_is_not_in_errors(ask: Ask, repeated: dict[str, str]) -> None:
    """A key that an error repeats is not in the error that users see."""
    with pytest.raises(llm.ModelError, match="API key not valid") as error:
        await ask("Say hello", complexity=8, fallback="none", **repeated)
    assert SECRET not in str(error.value)


async def test_key_with_a_line_break(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A key with a line break, which httpx rejects and quotes, is reported but not repeated."""
    key = f"{SECRET}\n"
    failure = gemini.Failure(
        error=lambda: httpx.LocalProtocolError(f"Illegal header value {key.encode()!r}")
    )
    failure.answer_all(httpx_mock)
    with pytest.raises(llm.ModelError, match="line break in the key") as error:
        await ask("Say hello", complexity=8, key=key, fallback="none")
    assert SECRET not in str(error.value)
    assert toys.delays == []


async def test_name_of_a_key_is_not_secret(
    ask: Ask, httpx_mock: HTTPXMock, user_path: Path
) -> None:
    """`--key gemini` names a stored key: errors may still say gemini, but never the key."""
    (user_path / "keys.json").write_text(json.dumps({"gemini": SECRET}))
    gemini.NO_SUCH_MODEL.answer(httpx_mock)
    response = await ask("Say hello", complexity=8, key="gemini")
    reason = response.response_json["tiered"]["attempts"][0]["reason"]
    assert reason.startswith("models/gemini-flash-latest is not found")


async def test_answer_is_streamed(ask: Ask, toys: Toys) -> None:
    """The first piece of an answer is passed on before the model has made the second."""
    came: list[str] = []
    toys.small.does = ["first ", lambda: came.append("made"), "second"]
    response = ask.model.prompt("Say hello", complexity=1)
    if ask.asynchronous:
        async for piece in response:
            came.append(piece)
    else:
        for piece in response:
            came.append(piece)
    assert came == ["first ", "made", "second"]


async def test_not_streamed(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Without streaming the answer is the same."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", complexity=8, stream=False)
    assert response.text_or_raise() == "Hello"


async def test_abandoned_answer(
    ask: Ask, httpx_mock: HTTPXMock, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """Abandoning an answer closes the connection, and nothing is logged."""
    closed: list[bool] = []

    class Stream(gemini.Stream):
        def close(self) -> None:
            closed.append(True)

        async def aclose(self) -> None:
            closed.append(True)

    stream = Stream(gemini.body(*gemini.says("A long answer")))
    httpx_mock.add_response(url=gemini.URL, stream=stream)
    response = ask.model.prompt("Say hello", complexity=8)
    if ask.asynchronous:
        async with aclosing(response.astream_events()) as events:
            await anext(events)
    else:
        with closing(response.stream_events()) as events:
            next(events)
    assert closed
    assert logged() == []
