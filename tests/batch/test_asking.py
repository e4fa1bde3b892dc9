"""One row → its answer: what is sent, what the answer holds, what is logged."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered import hooks
from llm_tiered.errors import LostServer
from llm_tiered.hooks import hookimpl
from llm_tiered.log import writer
from llm_tiered.mlx.process import choice
from tests import gemini
from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config
from tests.batch.running import Run, prompts

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock


async def test_answer(echoes: Echoes) -> None:
    """An answer holds the row's id and line, the response, the model, the tier and the tokens."""
    [answer] = await Run({"id": "a", "prompt": "Hello", "complexity": 2})()
    assert isinstance(answer.pop("ms"), int)
    assert answer == {
        "id": "a",
        "line": 1,
        "response": "Hello",
        "model": SMALL,
        "tier": "small",
        "input_tokens": 3,
        "output_tokens": 2,
    }


async def test_answer_of_another_model(echoes: Echoes) -> None:
    """A model other than `tiered` has no tier."""
    [answer] = await Run({"prompt": "Hello"}, model=OTHER)()
    assert (answer["model"], answer["tier"], answer["id"]) == (OTHER, None, None)


async def test_answer_of_a_fallback(echoes: Echoes, config_file: Path) -> None:
    """The tier of an answer is the one that gave it."""

    async def act(model: str, prompt: str) -> str:
        if model == MEDIUM:
            raise llm.ModelError("out of order")
        return prompt

    echoes.act = act
    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    [answer] = await Run({"prompt": "Hello", "complexity": 6})()
    assert (answer["model"], answer["tier"]) == (SMALL, "small")


@pytest.mark.parametrize(
    ("text", "value"), [('{"a": [1]}', {"a": [1]}), ('{"a": 1e999}', None)], ids=str
)
async def test_answer_with_a_schema(echoes: Echoes, text: str, value: Any) -> None:
    """With a schema, the answer is included as JSON as well; null if JSON can't express it."""
    row = {"prompt": text, "schema": {"type": "object"}, "complexity": 2}
    [answer] = await Run(row)()
    assert (answer["response"], answer["json"]) == (text, value)


@pytest.mark.parametrize("text", ['{"a": [1', '{"a": 1}'])
async def test_answer_that_does_not_fit_the_schema(echoes: Echoes, text: str) -> None:
    """What does not fit the schema is a failure, which the next run asks again."""
    [answer] = await Run({"prompt": text, "schema": "a", "complexity": 2})()
    assert "response" not in answer
    assert "not JSON" in answer["error"] or "does not fit" in answer["error"]


@pytest.mark.parametrize("model", ["tiered", gemini.MODEL])
async def test_half_an_answer(
    config_file: Path, httpx_mock: HTTPXMock, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Half an answer is a failure, whether the row goes to `tiered` or to a model directly."""
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    tiers = [{"name": "cloud", "complexity": "1-10", "model": gemini.MODEL}]
    config_file.write_text(yaml.safe_dump(config(tiers=tiers)))
    chunks = {
        "stopped by the service (RECITATION)": gemini.last(gemini.text("x"), finish="RECITATION"),
        "without a finish reason": gemini.chunk(gemini.text("Half an")),
        "only thoughts": gemini.last(gemini.thought("Hm."), finish="MAX_TOKENS"),
        "answered with nothing": gemini.last(),
    }
    for chunk in chunks.values():
        gemini.answer(httpx_mock, chunk)
    answers = await Run(*({"prompt": why} for why in chunks), model=model, concurrency=1)()
    for why, answer in zip(chunks, answers, strict=True):
        assert why in answer["error"]


async def test_request(echoes: Echoes) -> None:
    """System prompt, schema and options reach the model."""
    row = {"prompt": "a", "system": "b", "schema": {"type": "object"}, "complexity": 2}
    await Run(row | {"options": {"temperature": 0.5}})()
    # The echo is no JSON, and is given back once.
    prompt, _ = echoes.prompts
    assert (prompt.system, prompt.schema) == ("b", {"type": "object"})
    assert vars(prompt.options)["temperature"] == 0.5


# Routing


class CountingHooks:
    """A plugin that counts the estimates of each prompt and the vetoes it is asked for."""

    def __init__(self) -> None:
        self.estimates: Counter[str] = Counter()
        self.vetoes: Counter[str] = Counter()

    @hookimpl
    def estimate_complexity(self, prompt: llm.Prompt) -> int:
        """Estimate every prompt as easy."""
        self.estimates[prompt.prompt] += 1
        return 2

    @hookimpl
    def veto_tier(self, prompt: llm.Prompt) -> None:
        """Allow every tier."""
        self.vetoes[prompt.prompt] += 1


async def test_rows_are_routed_once(echoes: Echoes) -> None:
    """Each row is estimated once, and other packages' hooks are called once for it."""
    plugin = CountingHooks()
    hooks.manager().register(plugin)
    try:
        run = Run({"prompt": "one"}, {"prompt": "two"}, {"prompt": "three", "complexity": 6})
        assert [answer["tier"] for answer in await run()] == ["small", "small", "medium"]
    finally:
        hooks.manager().unregister(plugin)
    assert plugin.estimates == {"one": 1, "two": 1}
    assert plugin.vetoes == {"one": 1, "two": 1, "three": 1}


async def test_config_that_changes(echoes: Echoes, config_file: Path) -> None:
    """A row that waits for its turn goes where the config says by then."""

    async def act(model: str, prompt: str) -> str:
        config_file.write_text(yaml.safe_dump(config(local_only=True)))
        return prompt

    echoes.act = act
    answers = await Run(*prompts(3, complexity=9), concurrency=1)()
    assert echoes.requests == [(CLOUD, "0"), (MEDIUM, "1"), (MEDIUM, "2")]
    assert [answer["tier"] for answer in answers] == ["cloud", "medium", "medium"]


async def test_config_that_changes_on_a_cluster(
    echoes: Echoes, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a row go to a worker that must stay on this machine by then."""

    async def act(model: str, prompt: str) -> str:
        config_file.write_text(yaml.safe_dump(config(local_only=True)))
        return prompt

    echoes.act = act
    used: list[Any] = []
    monkeypatch.setattr(choice, "use", used.append)
    cluster: Any = SimpleNamespace(room=1)
    assert len(await Run(*prompts(3), cluster=cluster)()) == 3
    assert used == [cluster, None, None]


async def test_config_that_changes_before_a_row_is_asked_again(
    echoes: Echoes, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that is asked again because its server was lost."""

    async def act(model: str, prompt: str) -> str:
        if len(echoes.requests) == 1:
            config_file.write_text(yaml.safe_dump(config(local_only=True)))
            raise LostServer("the server is gone")
        return prompt

    echoes.act = act
    used: list[Any] = []
    monkeypatch.setattr(choice, "use", used.append)
    cluster: Any = SimpleNamespace(room=1)
    [answer] = await Run(*prompts(1), model=OTHER, cluster=cluster)()
    assert (answer["response"], used) == ("0", [cluster, None])


# The log


@pytest.fixture
def log_without_turns(logs: Path, empty_log: Path) -> Path:
    """An empty log of llm."""
    shutil.copy(empty_log, logs)
    return logs


def logged(logs: Path) -> list[str]:
    """The models of the logged turns."""
    with closing(sqlite3.connect(logs)) as database:
        return [model for (model,) in database.execute("select model from turns order by id")]


@pytest.mark.parametrize("name", ["tiered", OTHER])
@pytest.mark.parametrize(
    ("log", "log_api", "rows"), [(True, True, 2), (False, True, 0), (True, False, 0)]
)
@pytest.mark.usefixtures("echoes")
async def test_log(  # noqa: PLR0913, PLR0917 - four of them are the case
    config_file: Path, log_without_turns: Path, name: str, log: bool, log_api: bool, rows: int
) -> None:
    """Each answer is logged once, unless the batch or the config turns logging off."""
    config_file.write_text(yaml.safe_dump(config(log_api=log_api)))
    assert len(await Run(*prompts(2), model=name, log=log)()) == 2
    assert logged(log_without_turns) == [name] * rows


async def test_log_off(
    echoes: Echoes, config_file: Path, log_without_turns: Path, user_path: Path
) -> None:
    """After `llm logs off` nothing is logged."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    (user_path / "logs-off").touch()
    for name in ("tiered", OTHER):
        await Run(*prompts(2), model=name)()
    assert logged(log_without_turns) == []


@pytest.mark.parametrize("name", ["tiered", OTHER])
async def test_a_row_is_asked_while_another_is_logged(
    echoes: Echoes, config_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A row that is being logged keeps no other row waiting for the model."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    both_asked = asyncio.Event()

    async def act(model: str, prompt: str) -> str:
        if len(echoes.requests) == 2:
            both_asked.set()
        return prompt

    async def write(response: Any, path: Any = None) -> None:
        await both_asked.wait()

    echoes.act = act
    monkeypatch.setattr(writer, "write_async", write)
    rows = prompts(2, tier="cloud") if name == "tiered" else prompts(2)
    answers = await asyncio.wait_for(Run(*rows, model=name, concurrency=1)(), 5)
    assert len(answers) == 2
