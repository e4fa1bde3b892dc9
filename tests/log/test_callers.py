"""Prompts that other programs make while they do something else: each is logged once."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest
import sqlite_utils
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import pm

from tests.log.test_writer import verify, wait_for_backlog, warned
from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.stand_in import Action
    from tests.toys import Ask, Toys


def empty_threads(logs: Path) -> int:
    """The number of threads without a turn."""
    query = "select count(*) from threads where id not in (select thread_id from turns)"
    with closing(sqlite3.connect(logs)) as database:
        [[count]] = database.execute(query)
    return int(count)


# A program that logs responses, too


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who waits for the log as long as it takes: a deadlock would be noticed."""
    monkeypatch.setattr("llm_tiered.log.writer.PATIENCE_OF_CALLER", 60)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("thread", ["own", "none"])
def test_unread_response(
    toys: Toys,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
    thread: str,
) -> None:
    """A response that is logged before it is read is one whole row, and nobody waits for it."""
    model = llm.get_model("tiered")
    source: Any = model.conversation() if thread == "own" else model
    with closing(sqlite3.connect(logs)) as database:
        for _ in range(2):
            source.prompt("Hello", complexity=2).log_to_db(sqlite_utils.Database(database))
    wait_for_backlog()
    assert [turn["output_tokens"] for turn in logged()] == [2, 2]
    assert len({turn["thread_id"] for turn in logged()}) == (1 if thread == "own" else 2)
    assert warned(caplog) == []
    assert empty_threads(logs) == 0
    assert verify(logs) == []
    with closing(sqlite3.connect(logs)) as database:
        answers = database.execute("select response from turn_search").fetchall()
    assert answers == [("small answer",)] * 2


async def test_open_transaction(
    ask: Ask,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A caller who is writing to the log waits for nothing; turns are logged in their order."""
    monkeypatch.setattr("llm_tiered.log.writer.PATIENCE_OF_CALLER", 0)
    conversation = ask.model.conversation()
    with closing(sqlite3.connect(logs)) as database:
        database.execute("begin immediate")
        await ask("One", to=conversation, complexity=2)
        await ask("Two", to=conversation, complexity=2)
        database.rollback()
    wait_for_backlog()
    one, two = logged()
    assert warned(caplog) == []
    with closing(sqlite3.connect(logs)) as database:
        tips = database.execute("select tip_message_hash from threads").fetchall()
    assert tips == [(two["tip_message_hash"],)]
    assert two["thread_id"] == one["thread_id"] == conversation.id


async def test_no_empty_thread(
    ask: Ask, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """A response that the caller logs again stays in its thread."""
    response = await ask("Hello", complexity=2)
    for _ in range(2):
        with closing(sqlite3.connect(logs)) as database:
            response.log_to_db(sqlite_utils.Database(database))
    assert len(logged()) == 1
    assert empty_threads(logs) == 0


# Inside llm's own commands


def ask_tiered(question: str) -> str:
    """Ask `tiered`."""
    return llm.get_model("tiered").prompt(question, tier="small").text()


def chat_with_tiered(question: str) -> str:
    """Ask `tiered` in a conversation."""
    chain = llm.get_model("tiered").conversation().chain(question, options={"tier": "small"})
    return str(chain.text())


def ask_in_thread(question: str) -> str:
    """Ask `tiered` in a thread."""
    with ThreadPoolExecutor() as threads:
        return threads.submit(ask_tiered, question).result()


async def ask_async(question: str) -> str:
    """Ask the async `tiered`."""
    return await llm.get_async_model("tiered").prompt(question, tier="small").text()


TOOLS = [ask_tiered, chat_with_tiered, ask_in_thread, ask_async]


@pytest.fixture(params=["other", "tiered"])
def caller(request: pytest.FixtureRequest, toys: Toys) -> Iterator[str]:
    """The id of a model that has all of these tools called, then answers."""

    def script(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        if prompt.tool_results:
            yield "Done"
            return
        for tool in TOOLS:
            yield llm.ToolCall(tool.__name__, {"question": "Hello"})

    class Plugin:
        """The model, and the tools."""

        @llm.hookimpl
        def register_models(self, register: Callable[..., None]) -> None:
            """Register the model."""
            features: dict[str, Any] = {"supports_tools": True, "runs_here": True}
            one, other = (
                kind("mlx/caller", script, **features) for kind in (StandIn, AsyncStandIn)
            )
            register(one, other)

        @llm.hookimpl
        def register_tools(self, register: Callable[..., None]) -> None:
            """Register the tools."""
            for tool in TOOLS:
                register(tool)

    toys.configure(
        tiers=[
            {"name": "small", "complexity": "1-4", "model": "mlx/toy-small"},
            {"name": "caller", "complexity": "5-10", "model": "mlx/caller"},
        ]
    )
    plugin = Plugin()
    pm.register(plugin)
    yield "tiered" if request.param == "tiered" else "mlx/caller"
    pm.unregister(plugin)


def command(*args: str, stdin: str = "") -> None:
    """Run `llm` with all tools."""
    tools = [part for tool in TOOLS for part in ("-T", tool.__name__)]
    result = CliRunner().invoke(cli, [*args, *tools], input=stdin)
    assert result.exit_code == 0, result.output
    wait_for_backlog()


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_tools_that_ask_tiered(
    caller: str, logged: Callable[[], list[dict[str, Any]]], logs: Path, options: list[str]
) -> None:
    """What the tools of `llm prompt` ask `tiered` is logged: a row for each, and the command's."""
    command("-m", caller, *options, "Go")
    turns = logged()
    asked = [turn for turn in turns if turn["resolved_model"] == "mlx/toy-small"]
    assert len(asked) == len(TOOLS) == len({turn["thread_id"] for turn in asked})
    assert len(turns) == len(TOOLS) + 2
    assert len({turn["thread_id"] for turn in turns}) == len(TOOLS) + 1
    assert verify(logs) == []
    assert empty_threads(logs) == 0


def test_tools_of_a_chat(caller: str, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """The same in `llm chat`."""
    command("chat", "-m", caller, stdin="Go\nGo\nexit\n")
    assert len(logged()) == 2 * (len(TOOLS) + 2)
    assert len({turn["thread_id"] for turn in logged()}) == 2 * len(TOOLS) + 1


def test_tools_without_log(caller: str, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """`llm -n` logs nothing of its tools either."""
    command("-m", caller, "-n", "Go")
    assert logged() == []


def test_tools_with_logs_off(caller: str, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """After `llm logs off` only `--log` logs them."""
    CliRunner().invoke(cli, ["logs", "off"])
    command("-m", caller, "Go")
    assert logged() == []
    command("-m", caller, "--log", "Go")
    assert len(logged()) == len(TOOLS) + 2


def test_tools_with_database(
    caller: str, logged: Callable[[], list[dict[str, Any]]], tmp_path: Path, empty_log: Path
) -> None:
    """`llm -d` logs all of them into that database."""
    other = shutil.copy(empty_log, tmp_path / "other.db")
    command("-m", caller, "-d", str(other), "Go")
    assert logged() == []
    with closing(sqlite3.connect(other)) as database:
        [[turns]] = database.execute("select count(*) from turns")
    assert turns == len(TOOLS) + 2


def test_tier_that_asks_tiered(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A model that asks `tiered` for part of its answer is logged as well."""

    def ask_first() -> None:
        ask_tiered("Hello")

    toys.medium.does = [ask_first, "medium answer"]
    CliRunner().invoke(cli, ["-m", "tiered", "-o", "tier", "medium", "Go"])
    assert [turn["resolved_model"] for turn in logged()] == ["mlx/toy-medium", "mlx/toy-small"]


def test_model_that_hands_on_its_conversation(
    toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """A model that asks `tiered` in the command's own conversation is logged as well."""

    class Delegating(StandIn):
        """It leaves its answer to `tiered`."""

        def execute(self, prompt: llm.Prompt, *said: Any, **known: Any) -> Any:
            """Ask `tiered`."""
            tiered: Any = llm.get_model("tiered")
            inner = llm.Prompt(prompt.prompt, model=tiered, options=tiered.Options(tier="small"))
            yield from llm.Response(inner, tiered, False, known["conversation"])

    class Plugin:
        """The model."""

        @llm.hookimpl
        def register_models(self, register: Callable[..., None]) -> None:
            """Register it."""
            register(Delegating("delegating"))

    plugin = Plugin()
    pm.register(plugin)
    try:
        CliRunner().invoke(cli, ["-m", "delegating", "Go"], catch_exceptions=False)
    finally:
        pm.unregister(plugin)
    assert [turn["model"] for turn in logged()] == ["delegating", "tiered"]


async def test_many_at_once(
    toys: Toys, logged: Callable[[], list[dict[str, Any]]], logs: Path
) -> None:
    """Threads and tasks that ask at the same time lose nothing."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask_tiered, "abcd"))
    await asyncio.gather(*map(ask_async, "abcd"))
    await asyncio.to_thread(wait_for_backlog)
    assert len(logged()) == 8
    assert empty_threads(logs) == 0
