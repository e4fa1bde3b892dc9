"""A real local model behind the server: how likely its tokens were, and how many it thought."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.log.threads import KnownThread, find_thread
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.server import asking
from llm_tiered.server.chat import SHORT_BODY
from tests import gemini
from tests.server.test_responses import events
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import llm
    from pytest_httpx import HTTPXMock

    from tests.mlx.scripted import Scripts
    from tests.server.conftest import Client, Running
    from tests.toys import Toys

pytest_plugins = ("tests.mlx.scripted",)

pytestmark = pytest.mark.httpx_mock(should_mock=lambda request: request.url.host != "127.0.0.1")

TINY = "mlx/tiny"
ASKED: dict[str, Any] = {"model": TINY, "temperature": 0}
LOGPROBS = ["message.output_text.logprobs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a model that thinks."""
    yield build("qwen3", tmp_path_factory.mktemp("served") / "tiny", layers=1, context=1024)
    ENGINE.close()


@pytest.fixture(autouse=True)
def _registered(folder: Path, toys: Toys) -> None:
    toys.configure(models=[{"id": "tiny", "path": str(folder)}])


def text_of(tokens: list[dict[str, Any]]) -> str:
    """The text that tokens make; an answer begins without the space before it."""
    return bytes(byte for token in tokens for byte in token["bytes"]).decode().removeprefix(" ")


def test_completions(client: Client) -> None:
    """A completion has its tokens with their alternatives, whole and in each chunk of a stream."""
    body = ASKED | {"max_tokens": 5, "logprobs": True, "top_logprobs": 2}
    choice = client.chat(**body)
    tokens = choice["logprobs"]["content"]
    assert text_of(tokens) == choice["message"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * 5
    chunks = [event["choices"][0] for event in client.events(**body)[:-1]]
    streamed = [chunk["logprobs"]["content"] for chunk in chunks if chunk["delta"].get("content")]
    assert [token for piece in streamed for token in piece] == tokens
    assert chunks[-1]["logprobs"] is None
    assert client.chat(**ASKED, max_tokens=5)["logprobs"] is None


def test_stop(client: Client, scripts: Scripts) -> None:
    """Text that is held back because it may be a stop string loses no token."""
    scripts.say("one", " two", " three", " four")
    body = ASKED | {"logprobs": True, "stop": [" three four"], "max_tokens": 60}
    *chunks, _ = client.events(**body)
    pieces = [chunk["choices"][0] for chunk in chunks]
    tokens = [token for each in pieces if each["logprobs"] for token in each["logprobs"]["content"]]
    assert "".join(each["delta"].get("content", "") for each in pieces) == "one two"
    assert text_of(tokens).startswith("one two")


def test_responses(client: Client) -> None:
    """A response has them in its text, whole and in a stream, if they are included."""
    body = ASKED | {"max_output_tokens": 5, "include": LOGPROBS, "top_logprobs": 1}
    part = client.respond(**body).json()["output"][0]["content"][0]
    assert text_of(part["logprobs"]) == part["text"]
    assert [len(token["top_logprobs"]) for token in part["logprobs"]] == [1] * 5
    read = events(client, **body)
    deltas = [event["logprobs"] for event in read if event["type"].endswith("text.delta")]
    assert [token for piece in deltas for token in piece] == part["logprobs"]
    [done] = [event for event in read if event["type"].endswith("text.done")]
    assert done["logprobs"] == part["logprobs"]
    assert read[-1]["response"]["output"][0]["content"] == [part]
    other = client.respond(**ASKED, max_output_tokens=5, top_logprobs=1, include=["reasoning.x"])
    assert other.json()["output"][0]["content"][0]["logprobs"] == []
    assert other.headers["x-tiered-ignored"] == "include.reasoning.x"


def test_thoughts_are_counted(client: Client, scripts: Scripts) -> None:
    """The tokens of the thoughts are told in both APIs, and are a part of those of the answer."""
    for _ in range(3):
        scripts.say("<think>", "Hm", "</think>", "\n\n", "Yes")
    usage = client.post(**ASKED, max_tokens=60).json()["usage"]
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    assert 2 < thoughts < usage["completion_tokens"]
    details = client.respond(**ASKED, max_output_tokens=60).json()["usage"]["output_tokens_details"]
    assert details == {"reasoning_tokens": thoughts}
    body = ASKED | {"max_tokens": 60, "stream_options": {"include_usage": True}}
    *_, last, _ = client.events(**body)
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": thoughts}
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_other_models(client: Client, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """Where the model that answers can't tell, the field is named as ignored."""
    tiers = [toys.keys["tiers"][0] | {"model": TINY}, *toys.keys["tiers"][1:]]
    toys.configure(tiers=tiers)
    gemini.answer(httpx_mock, *gemini.says("Paris"))
    body: dict[str, Any] = {"logprobs": True, "top_k": 5, "max_tokens": 2}
    here = client.post(model="tiered/small", **body)
    assert here.json()["choices"][0]["logprobs"]["content"]
    assert "x-tiered-ignored" not in here.headers
    cloud = client.post(model="tiered/cloud", **body)
    assert cloud.json()["choices"][0]["logprobs"] is None
    assert cloud.json()["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert cloud.headers["x-tiered-ignored"] == "logprobs"


def test_short_question_needs_no_thread(
    client: Client, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins a conversation with a local model is read at once; all else, on a thread."""
    places: list[bool] = []

    def noted(before: Sequence[llm.Message]) -> KnownThread:
        places.append(threading.current_thread() is running.thread)
        return find_thread(before)

    monkeypatch.setattr(asking, "find_thread", noted)
    question = {"role": "user", "content": "Hello"}
    answered = [question, {"role": "assistant", "content": "Hi"}, question]
    long = [question | {"content": " " * SHORT_BODY + "Hello"}]
    # The first one looks up which models there are.
    client.chat(**ASKED, max_tokens=1)
    places.clear()
    for messages in ([question], answered, long):
        client.post(**ASKED, max_tokens=1, messages=messages)
    client.post(max_tokens=1)
    client.respond(**ASKED, max_output_tokens=1)
    assert places == [True, False, False, False, False]
