"""Turns of one conversation: its tier, its system prompt, its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from llm.cli import load_conversation

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys


def decision(response: Any) -> tuple[str, str, int | None]:
    """The recorded tier, source and complexity."""
    record = response.response_json["tiered"]
    return record["tier"], record["source"], record["complexity"]


async def test_same_tier(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A turn without options goes to the tier of the turn before it."""
    for words in ("Hello", "Bye"):
        gemini.answer(httpx_mock, *gemini.says(words))
    conversation = ask.model.conversation()
    first = await ask("Say hello", to=conversation, task="curriculum_planning")
    second = await ask("Say bye", to=conversation)
    assert decision(first) == ("cloud", "task", 8)
    assert decision(second) == ("cloud", "conversation", 8)


async def test_other_tier(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A turn that names another tier gets it, along with the whole history."""
    gemini.answer(httpx_mock, *gemini.says("Bye"))
    conversation = ask.model.conversation()
    await ask("Say hello", to=conversation, complexity=1)
    await ask("Say bye", to=conversation, complexity=9)
    assert gemini.sent(httpx_mock)[0]["contents"] == [
        {"role": "user", "parts": [{"text": "Say hello"}]},
        {"role": "model", "parts": [{"text": "small answer"}]},
        {"role": "user", "parts": [{"text": "Say bye"}]},
    ]


async def test_tier_stays_after_a_fallback(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """After a fallback, the next turn goes to the tier that was decided, not to the fallback."""
    gemini.BAD_REQUEST.answer(httpx_mock)
    gemini.answer(httpx_mock, *gemini.says("Bye"))
    conversation = ask.model.conversation()
    assert (await ask("Hello", to=conversation, complexity=8)).text_or_raise() == "medium answer"
    assert (await ask("Bye", to=conversation)).text_or_raise() == "Bye"


async def test_turns_are_recorded_once(ask: Ask) -> None:
    """The conversation holds each turn once, as an answer of `tiered`."""
    conversation = ask.model.conversation()
    first = await ask("Say hello", to=conversation, complexity=1)
    second = await ask("Say bye", to=conversation)
    assert conversation.responses == [first, second]
    assert conversation.model.model_id == "tiered"


async def test_system_prompt(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """The system prompt of the first turn reaches the model on every turn."""
    for words in ("Hello", "Bye"):
        gemini.answer(httpx_mock, *gemini.says(words))
    conversation = ask.model.conversation()
    await ask("Say hello", to=conversation, system="Be brief.", complexity=8)
    await ask("Say bye", to=conversation)
    await ask("Say more", to=conversation, complexity=1)
    expected = {"parts": [{"text": "Be brief."}]}
    assert [body["systemInstruction"] for body in gemini.sent(httpx_mock)] == [expected] * 2
    assert toys.small.prompts[0].system == "Be brief."
    assert [message.role for message in toys.small.prompts[0].messages] == [
        "system",
        *["user", "assistant"] * 2,
        "user",
    ]


async def test_system_fragments(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Fragments of the system prompt reach Gemini once, in order."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Hello", system="Be brief.", system_fragments=["You are a poet."], complexity=8)
    assert gemini.sent(httpx_mock)[0]["systemInstruction"] == {
        "parts": [{"text": "You are a poet.\n\nBe brief."}]
    }


async def test_fragments(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """Fragments of the prompt reach Gemini once, before the prompt."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask("Sum it up.", fragments=["A long text."], complexity=8)
    assert gemini.sent(httpx_mock)[0]["contents"] == [
        {"role": "user", "parts": [{"text": "A long text.\nSum it up."}]}
    ]


async def test_new_system_prompt(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A new system prompt on a later turn reaches Gemini, as it would without `tiered`."""
    for words in ("Hello", "Bye"):
        gemini.answer(httpx_mock, *gemini.says(words))
    conversation = ask.model.conversation()
    await ask("Say hello", to=conversation, system="Be brief.", complexity=8)
    await ask("Say bye", to=conversation, system="Be polite.")
    assert gemini.sent(httpx_mock)[1]["systemInstruction"] == {"parts": [{"text": "Be polite."}]}


async def test_messages_of_the_caller(ask: Ask, httpx_mock: HTTPXMock) -> None:
    """A history supplied by the caller reaches Gemini unchanged, system prompt included."""
    gemini.answer(httpx_mock, *gemini.says("Four"))
    messages = [llm.system("Be brief."), llm.user("1 + 1?"), llm.assistant("Two"), llm.user("+ 2?")]
    await ask(None, messages=messages, complexity=8)
    (body,) = gemini.sent(httpx_mock)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


async def test_loaded_from_the_log(
    ask: Ask, httpx_mock: HTTPXMock, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """A conversation loaded from the log keeps its tier, history and system prompt."""
    for words in ("Hello", "Bye", "More"):
        gemini.answer(httpx_mock, *gemini.says(words))
    started = ask.model.conversation()
    await ask("Say hello", to=started, system="Be brief.", complexity=8)
    conversation = load_conversation(None, async_=ask.asynchronous)
    assert conversation is not None
    second = await ask("Say bye", to=conversation)
    third = await ask("Say more", to=conversation)
    assert decision(second) == decision(third) == ("cloud", "conversation", 8)
    bodies = gemini.sent(httpx_mock)
    assert [body["systemInstruction"]["parts"][0]["text"] for body in bodies] == ["Be brief."] * 3
    assert [len(body["contents"]) for body in bodies] == [1, 3, 5]
    assert {turn["thread_id"] for turn in logged()} == {started.id}


@pytest.mark.parametrize("way", ["option", "environment", "config"])
async def test_what_was_to_stay_here_stays(
    way: str, ask: Ask, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later turn sends away what an earlier one kept on this machine."""
    conversation = ask.model.conversation()
    if way == "environment":
        monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    toys.configure(local_only=way == "config")
    kept = {"local_only": True} if way == "option" else {}
    await ask("My diary", to=conversation, complexity=2, **kept)
    monkeypatch.delenv("FORCE_LOCAL_LLM", raising=False)
    toys.configure(local_only=False)
    await stays_here(ask, conversation)


async def test_what_was_to_stay_here_stays_in_the_log(
    ask: Ask, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """Nor does a turn of a conversation loaded from the log."""
    await ask("My diary", to=ask.model.conversation(), complexity=2, local_only=True)
    assert len(logged()) == 1
    await stays_here(ask, load_conversation(None, async_=ask.asynchronous))


async def stays_here(ask: Ask, conversation: Any) -> None:
    """Ask for the cloud in several ways, and check that it is never reached."""
    for said in ({"tier": "cloud"}, {"complexity": 9, "local_only": False}, {}):
        answer = await ask("Sum it up", to=conversation, **said)
        record = answer.response_json["tiered"]
        assert [attempt["model"] for attempt in record["attempts"]] == ["mlx/toy-medium"]
        assert record["local_only"]


@pytest.mark.parametrize("prompt", ["", None])
async def test_empty_prompt(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    prompt: str | None,
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    """An empty prompt is an error; no model is asked and nothing is logged."""
    with pytest.raises(llm.ModelError, match="the prompt is empty"):
        await ask(prompt, complexity=8)
    assert not httpx_mock.get_requests()
    assert toys.medium.prompts == toys.small.prompts == []
    assert logged() == []
