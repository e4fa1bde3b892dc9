"""What the server logs, and how it knows the conversations that clients send back."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from llm.cli import set_model_option
from llm.parts import StreamEvent

from llm_tiered.log import private
from tests.server.test_chat import CALL, TOOL, user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.conftest import Client
    from tests.toys import Toys


def turns(log: Path) -> list[dict[str, Any]]:
    """The turns in the log, oldest first."""
    with closing(sqlite3.connect(log)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("select * from turns order by id")]


def test_log(client: Client, logged: Path) -> None:
    """Answers are logged once each, also those of a local model that is asked directly."""
    client.chat(temperature=0.5)
    client.events(model="mlx/toy-small")
    routed, direct = turns(logged)
    assert (routed["model"], routed["resolved_model"]) == ("tiered", "mlx/toy-small")
    assert json.loads(routed["options_json"]) == {"temperature": 0.5, "tier": "small"}
    assert (direct["model"], direct["output_tokens"]) == ("mlx/toy-small", 2)


def test_log_is_off(client: Client, logged: Path, user_path: Path) -> None:
    """`llm logs off` holds here, too."""
    (user_path / "logs-off").touch()
    client.chat()
    client.chat(model="mlx/toy-small")
    assert turns(logged) == []


def test_many_at_once(client: Client, logged: Path) -> None:
    """Of many answers at once, each is logged."""
    with ThreadPoolExecutor(16) as pool:
        texts = [f"Hello {i}" for i in range(16)]
        ids = list(pool.map(lambda text: client.post(messages=[user(text)]).json()["id"], texts))
    assert sorted(f"chatcmpl-{turn['id']}" for turn in turns(logged)) == sorted(ids)


@pytest.fixture(params=[False, True], ids=["same server", "restarted"])
def pause(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What happens between two requests: nothing, or the server starts anew, with only the log."""

    def pause() -> None:
        if request.param:
            monkeypatch.setattr(private, "PRIVATE", private.PrivateConversations())

    return pause


def test_conversation(client: Client, toys: Toys, logged: Path, pause: Callable[[], None]) -> None:
    """A client that sends the texts back continues the conversation in the log, and its tier."""
    toys.small.does = [StreamEvent(type="reasoning", chunk="hmm"), "small ", "answer"]
    messages = [user("Hello")]
    for more, options in (("And then?", {"complexity": 2}), ("And now?", {})):
        body: dict[str, Any] = {"model": "tiered", "messages": messages, **options}
        answer = client.chat(**body)["message"]
        pause()
        messages += [{"role": "assistant", "content": answer["content"]}, user(more)]
    response = client.post(model="tiered", messages=messages)
    assert response.headers["x-tiered-source"] == "conversation"
    assert len({turn["thread_id"] for turn in turns(logged)}) == 1
    other = [user("Hello"), {"role": "assistant", "content": "of another"}, user("And?")]
    client.chat(messages=other)
    assert len({turn["thread_id"] for turn in turns(logged)}) == 2


def test_tool_loop(client: Client, toys: Toys, logged: Path, pause: Callable[[], None]) -> None:
    """A call of a tool and what follows its result are one conversation."""
    toys.small.tools = True
    toys.small.does, toys.small.then = ["Let me see", CALL], ["three"]
    said = client.chat(tools=[TOOL])["message"]
    pause()
    result = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
    messages = [user("Hello"), said, result]
    response = client.post(model="tiered", messages=messages, tools=[TOOL])
    assert response.headers["x-tiered-source"] == "conversation"
    messages += [response.json()["choices"][0]["message"], user("Thanks")]
    client.chat(messages=messages)
    assert len({turn["thread_id"] for turn in turns(logged)}) == 1


@pytest.mark.parametrize("model", ["tiered", "mlx/toy-small"])
def test_private_conversation(
    client: Client, toys: Toys, logged: Path, pause: Callable[[], None], model: str
) -> None:
    """A conversation stays on this machine once a turn had to, though only its texts are sent."""
    answer = client.chat(model=model, local_only=True)["message"]["content"]
    pause()
    messages = [user("Hello"), {"role": "assistant", "content": answer}, user("And then?")]
    response = client.post(model="tiered/cloud", messages=messages)
    assert response.headers["x-tiered-model"] == "mlx/toy-medium"
    assert "x-tiered-fallback" not in response.headers


@pytest.mark.parametrize("model", ["tiered", "mlx/toy-small"])
def test_private_conversation_without_a_log(client: Client, toys: Toys, model: str) -> None:
    """The server remembers private conversations itself, by what the client got of them."""
    toys.small.does = ["small ", "answer END"]
    toys.small.tools = True
    answer = client.chat(model=model, private=True, stop="END")["message"]["content"]
    messages = [user("Hello"), {"role": "assistant", "content": answer.strip()}, user("And then?")]
    response = client.post(model="tiered/cloud", messages=messages)
    assert response.headers["x-tiered-model"] == "mlx/toy-medium"
    assert "x-tiered-fallback" not in response.headers


def test_stored_options(client: Client, toys: Toys) -> None:
    """The options that the user has stored hold here, too, and a request can't undo privacy."""
    set_model_option("tiered", "local_only", "1")
    response = client.post(model="tiered/cloud", local_only=False)
    assert response.headers["x-tiered-model"] == "mlx/toy-medium"
    assert "x-tiered-fallback" not in response.headers
