"""The same instructions for every tier, on every turn, however they were given."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest
import sqlite_utils
from click.testing import CliRunner, Result
from llm.cli import cli
from llm.logs import LogStore

from tests import gemini

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_httpx import HTTPXMock

    from tests.toys import Ask, Toys

FIRST, NEW = "Be brief.", "Answer in French."


def run(*args: str, stdin: str = "") -> Result:
    """Run `llm`."""
    result = CliRunner().invoke(cli, args, input=stdin)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def seen(
    toys: Toys, httpx_mock: HTTPXMock, logged: Callable[[], list[dict[str, Any]]]
) -> Callable[[], list[str]]:
    """The system prompts that the small tier got, or else those that Gemini got."""

    def system_prompts() -> list[str]:
        local = [prompt.system for prompt in toys.small.prompts]
        bodies = [body.get("systemInstruction") for body in gemini.sent(httpx_mock)]
        return local or [body["parts"][0]["text"] if body else "" for body in bodies]

    return system_prompts


@pytest.mark.parametrize("options", [[], ["--async"]])
@pytest.mark.parametrize("tier", ["small", "cloud"])
def test_continued_on_the_command_line(
    seen: Callable[[], list[str]], httpx_mock: HTTPXMock, logs: Path, tier: str, options: list[str]
) -> None:
    """`llm -c -s` changes the instructions from then on, on every tier, and the log says so."""
    for _ in range(4 if tier == "cloud" else 0):
        gemini.answer(httpx_mock, *gemini.says("Hello"))
    chosen = ["-m", "tiered", "-o", "tier", tier, *options]
    run(*chosen, "-s", FIRST, "Hello")
    run(*chosen, "-c", "And now?")
    run(*chosen, "-c", "-s", NEW, "And now?")
    run(*chosen, "-c", "And now?")
    assert seen() == [FIRST, FIRST, NEW, NEW]
    with closing(sqlite3.connect(logs)) as database:
        store = LogStore(sqlite_utils.Database(database))
        assert store.verify() == []
        [[thread]] = database.execute("select distinct thread_id from turns")
        messages = store.thread_messages(thread)
    roles = [message.role[0] for message in messages]
    assert "".join(roles) == "suauasuaua"


def test_first_given_on_a_later_turn(seen: Callable[[], list[str]]) -> None:
    """A conversation that began without instructions can get some."""
    for system in ([], ["-s", NEW], []):
        run("-m", "tiered", "-o", "tier", "small", "-c", *system, "Hello")
    assert seen() == ["", NEW, NEW]


def test_chat(seen: Callable[[], list[str]]) -> None:
    """`llm chat -c -s` changes them for all turns of the chat."""
    chosen = ["-m", "tiered", "-o", "tier", "small"]
    run(*chosen, "-s", FIRST, "Hello")
    run("chat", *chosen, "-c", "-s", NEW, stdin="Hello\nAgain\nexit\n")
    run(*chosen, "-c", "And now?")
    assert seen() == [FIRST, NEW, NEW, NEW]


def test_templates(seen: Callable[[], list[str]], user_path: Path) -> None:
    """The system prompt of a template counts as if it were given with -s."""
    (user_path / "templates").mkdir()
    (user_path / "templates" / "french.yaml").write_text(f"system: {NEW}\n")
    chosen = ["-m", "tiered", "-o", "tier", "small"]
    run(*chosen, "-s", FIRST, "Hello")
    run(*chosen, "-c", "-t", "french", "And now?")
    run("chat", *chosen, "-c", "-t", "french", stdin="Hello\nAgain\nexit\n")
    assert seen() == [FIRST, NEW, NEW, NEW]


async def test_fallback_keeps_them(ask: Ask, toys: Toys, httpx_mock: HTTPXMock) -> None:
    """A model that answers for another one gets the same instructions."""
    toys.medium.does = [RuntimeError("it broke")]
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, system=FIRST, tier="small")
    await ask("Hello", to=conversation, system=NEW, complexity=6)
    toys.small.does = [RuntimeError("it broke")]
    gemini.answer(httpx_mock, *gemini.says("Bonjour"))
    await ask("Again", to=conversation, tier="small")
    assert toys.medium.prompts[0].system == toys.small.prompts[1].system == NEW
    system = [each for each in toys.small.prompts[1].messages if each.role == "system"]
    assert system == [llm.system(NEW)]
    [body] = gemini.sent(httpx_mock)
    assert body["systemInstruction"] == {"parts": [{"text": NEW}]}


async def test_tool_loop(ask: Ask, toys: Toys) -> None:
    """Every step of a tool loop has the instructions of its turn."""

    def double(number: int) -> int:
        return 2 * number

    toys.small.tools = True
    call = llm.ToolCall("double", {"number": 2}, tool_call_id="c-1")
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, system=FIRST, tier="small")
    toys.small.prompts.clear()
    toys.small.does, toys.small.then = [call], ["Quatre"]
    chain = conversation.chain("2 * 2?", system=NEW, tools=[double], options={"tier": "small"})
    await ask.finish(chain)
    assert [prompt.system for prompt in toys.small.prompts] == [NEW, NEW]
    await ask("Again", to=conversation, tier="small")
    roles = [message.role for message in toys.small.prompts[-1].messages]
    assert roles.count("system") == 1


async def test_cache(ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """An answer is repeated only where the same instructions hold."""
    options = {"tier": "small", "cache": True}

    async def continued(system: str | None) -> None:
        conversation = ask.model.conversation()
        await ask("Hello", to=conversation, system=FIRST, **options)
        await ask("Bye", to=conversation, system=system, **options)

    await continued(None)
    await continued(NEW)
    assert len(toys.small.prompts) == 3
    await continued(NEW)
    await continued(FIRST)
    assert len(toys.small.prompts) == 3


@pytest.mark.parametrize("tier", ["small", "cloud"])
async def test_system_prompt_alone(ask: Ask, toys: Toys, httpx_mock: HTTPXMock, tier: str) -> None:
    """A system prompt without a prompt is what the model is asked."""
    if tier == "cloud":
        gemini.answer(httpx_mock, *gemini.says("Hello"))
    await ask(None, system="Say hello.", tier=tier)
    if tier == "cloud":
        [body] = gemini.sent(httpx_mock)
        assert body["contents"] == [{"role": "user", "parts": [{"text": "Say hello."}]}]
        assert "systemInstruction" not in body
    else:
        [prompt] = toys.small.prompts
        assert (prompt.prompt, prompt.system) == ("Say hello.", "")
        assert prompt.messages == [llm.user("Say hello.")]


@pytest.mark.parametrize("options", [["-o", "complexity", "2"], []], ids=["small", "estimated"])
def test_without_prompt_on_the_command_line(
    toys: Toys,
    logged: Callable[[], list[dict[str, Any]]],
    tmp_path: Path,
    options: list[str],
) -> None:
    """A system prompt, a schema or a fragment is enough."""
    toys.small.schemas = toys.medium.schemas = True
    (tmp_path / "text.txt").write_text("Hello")
    for alone in (["-s", "Say hello."], ["-f", str(tmp_path / "text.txt")]):
        assert "answer" in run("-m", "tiered", *options, *alone).output
    toys.small.does = toys.medium.does = ['{"name": "Rex", "age": "3"}']
    assert "Rex" in run("-m", "tiered", *options, "--schema", "name, age").output
    assert len(logged()) == 3


def test_attachment_alone(
    logged: Callable[[], list[dict[str, Any]]], httpx_mock: HTTPXMock, tmp_path: Path
) -> None:
    """An attachment is enough."""
    gemini.answer(httpx_mock, *gemini.says("A cat"))
    (tmp_path / "a.txt").write_text("Hello")
    run("-m", "tiered", "--at", str(tmp_path / "a.txt"), "text/plain")
    assert len(logged()) == 1
