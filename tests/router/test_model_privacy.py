"""Nothing leaves this machine where it must not, and nothing local is asked on rollback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import AllTiersFailed
from tests import gemini

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys


@pytest.fixture(params=["local_only", "private", "environment", "config", "private config"])
def private(
    request: pytest.FixtureRequest, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Keep everything on this machine. The fixture's value is what a request passes for it."""
    if request.param in ("local_only", "private"):
        return {request.param: True}
    if request.param == "environment":
        monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    else:
        toys.configure(**{"local_only" if request.param == "config" else "private": True})
    return {}


@pytest.mark.parametrize(
    "said", [{"tier": "cloud"}, {"complexity": 10}, {"complexity": 8, "fallback": "any"}]
)
async def test_cloud_is_not_asked(
    ask: Ask,
    httpx_mock: HTTPXMock,
    connections: list[Any],
    private: dict[str, Any],
    said: dict[str, Any],
) -> None:
    """A request for the cloud is answered by the largest local tier, without any connection."""
    response = await ask("A secret", key=gemini.KEY, **said, **private)
    assert response.text_or_raise() == "medium answer"
    assert response.response_json["tiered"]["tier"] == "medium"
    assert not httpx_mock.get_requests()
    assert connections == []


async def test_tier_that_is_overruled(
    ask: Ask, private: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A line says why a tier that the request names is not the one it gets, and so does the log."""
    response = await ask("A secret", tier="cloud", **private)
    [message] = caplog.messages
    whose = message.removeprefix("medium instead of cloud: nothing may leave ")
    assert whose in {"this machine", "your machines"}
    overruled = response.response_json["tiered"]["overruled"]
    assert overruled == {"tier": "cloud", "why": f"nothing may leave {whose}"}


async def test_complexity_that_is_overruled(
    ask: Ask, private: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so if a complexity is what would lead to the cloud; nobody named a tier."""
    response = await ask("A secret", complexity=9, **private)
    assert caplog.messages == []
    assert response.response_json["tiered"]["overruled"]["tier"] == "cloud"
    response = await ask("A secret", complexity=5, **private)
    assert "overruled" not in response.response_json["tiered"]


async def test_no_fallback_to_the_cloud(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    connections: list[Any],
    private: dict[str, Any],
) -> None:
    """When every local model fails, the request fails, and no connection is made."""
    toys.medium.does = toys.small.does = [RuntimeError("it broke")]
    with pytest.raises(AllTiersFailed) as error:
        await ask("A secret", complexity=6, fallback="any", **private)
    assert gemini.MODEL not in str(error.value)
    assert not httpx_mock.get_requests()
    assert connections == []


async def test_no_connection_for_a_schema(
    ask: Ask, httpx_mock: HTTPXMock, connections: list[Any], private: dict[str, Any]
) -> None:
    """A request that only the cloud could serve is an error, and makes no connection."""
    with pytest.raises(AllTiersFailed, match="can't do schemas"):
        await ask("A secret", schema={"type": "object"}, complexity=9, **private)
    assert not httpx_mock.get_requests()
    assert connections == []


async def test_no_connection_for_an_attachment(
    ask: Ask, connections: list[Any], private: dict[str, Any]
) -> None:
    """The address of an attachment is not looked up either, not even for its type."""
    attachment = llm.Attachment(url="https://example.com/secret-name.png")
    with pytest.raises(AllTiersFailed, match="can't read attachments"):
        await ask("A secret", attachments=[attachment], **private)
    assert connections == []


async def test_name_of_a_local_model(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    user_path: Path,
    private: dict[str, Any],
) -> None:
    """A model that is only named like a local one, here an alias of Gemini, is not asked."""
    (user_path / "aliases.json").write_text(json.dumps({"mlx/cheap": gemini.MODEL}))
    cheap = {"name": "small", "complexity": "1-4", "model": "mlx/cheap"}
    toys.configure(tiers=[cheap, *toys.keys["tiers"][1:]])
    toys.medium.does = []
    gemini.Failure(500).answer_all(httpx_mock)
    with pytest.raises(AllTiersFailed):
        await ask("A secret", **private)
    assert not httpx_mock.get_requests()


async def test_conversation_stays_private(
    ask: Ask, httpx_mock: HTTPXMock, connections: list[Any]
) -> None:
    """A conversation that was with the cloud continues here once a request says local_only."""
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, complexity=8)
    response = await ask("A secret", to=conversation, local_only=True)
    assert response.text_or_raise() == "medium answer"
    assert len(httpx_mock.get_requests()) == 1
    assert connections == []


@pytest.mark.parametrize("logs", [True, False])
async def test_reply_stays_private(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, connections: list[Any], logs: bool
) -> None:
    """A reply to a private answer has no conversation, but all its messages, and stays here.

    So does a reply to an answer that was kept as JSON, whether or not there is a log.
    """
    toys.configure(log_api=logs)
    private = await ask("A secret", complexity=2, local_only=True)
    again = type(private).from_dict(private.to_dict())
    for response in (private, again):
        reply = response.reply("Go on", options={"tier": "cloud"})
        replied = await ask.finish(await reply if ask.asynchronous else reply)
        assert replied.text_or_raise() == "medium answer"
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    other = [llm.user("Hello"), llm.assistant("Hi"), llm.user("Go on")]
    await ask(None, messages=other, options={"tier": "cloud"})
    assert len(httpx_mock.get_requests()) == 1
    assert connections == []


@pytest.mark.parametrize(
    "stored",
    ['{"tiered": {"local_only": "true"}}', '{"tiered": {"private": "1"}}', "not JSON", "[]"],
)
async def test_stored_option(
    ask: Ask, httpx_mock: HTTPXMock, connections: list[Any], user_path: Path, stored: str
) -> None:
    """What the user stored holds where llm itself drops it, and if it can't be read."""
    (user_path / "model_options.json").write_text(stored)
    response = await ask("A secret", tier="cloud")
    assert response.text_or_raise() == "medium answer"
    assert not httpx_mock.get_requests()
    assert connections == []


@pytest.mark.parametrize("said", [{"local_only": False}, {"private": False}, {}])
async def test_stored_option_is_an_option(
    ask: Ask, httpx_mock: HTTPXMock, user_path: Path, said: dict[str, Any]
) -> None:
    """A request can say otherwise than what is stored, and other options say nothing of it."""
    options: dict[str, Any] = dict.fromkeys(said, "true") or {"local_only": None}
    (user_path / "model_options.json").write_text(json.dumps({"tiered": options}))
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    assert (await ask("Hello", tier="cloud", **said)).text_or_raise() == "Hello"


async def test_request_cannot_loosen(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, connections: list[Any]
) -> None:
    """local_only=False in a request does not override the config."""
    toys.configure(local_only=True)
    await ask("A secret", tier="cloud", local_only=False)
    assert not httpx_mock.get_requests()
    assert connections == []


@pytest.mark.parametrize("said", [{}, {"tier": "small"}, {"complexity": 1}])
async def test_rollback(
    ask: Ask,
    toys: Toys,
    httpx_mock: HTTPXMock,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
) -> None:
    """With FORCE_LOCAL_LLM=false everything goes to the cloud, and no local model is asked."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    gemini.answer(httpx_mock, *gemini.says("Hello"))
    response = await ask("Say hello", **said)
    assert response.text_or_raise() == "Hello"
    assert response.response_json["tiered"]["tier"] == "cloud"
    assert toys.medium.prompts == toys.small.prompts == []


async def test_rollback_has_no_local_fallback(
    ask: Ask, toys: Toys, httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FORCE_LOCAL_LLM=false a failing cloud is an error, not a local answer."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    gemini.WRONG_KEY.answer(httpx_mock)
    with pytest.raises(AllTiersFailed, match="API key not valid"):
        await ask("Say hello", complexity=1)
    assert toys.medium.prompts == toys.small.prompts == []


async def test_local_only_beats_rollback(
    ask: Ask, httpx_mock: HTTPXMock, connections: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Privacy overrides the rollback."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    response = await ask("A secret", complexity=8, local_only=True)
    assert response.text_or_raise() == "medium answer"
    assert not httpx_mock.get_requests()
    assert connections == []
