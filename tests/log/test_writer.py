"""Prompts made through the Python API are logged: all of them, once, whatever happens."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llm
import pytest
import sqlite_utils
from click.testing import CliRunner
from llm.cli import cli
from llm.logs import LogStore

from llm_tiered.log import writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.toys import Ask, Toys

ROOT = Path(__file__).parents[2]


def wait_for_backlog() -> None:
    """Wait until everything is written that is written in the background."""
    for thread in threading.enumerate():
        if thread.name == "llm-tiered log":
            thread.join(timeout=60)


def verify(logs: Path) -> list[str]:
    """Return what llm finds damaged in the log."""
    with closing(sqlite3.connect(logs)) as database:
        broken: list[str] = LogStore(sqlite_utils.Database(database)).verify()
    return broken


async def test_first_prompt(ask: Ask, toys: Toys, logs: Path) -> None:
    """The very first prompt creates the log, and is its only row."""
    toys.configure(log_api=True)
    response = await ask("Hello", complexity=2)
    with closing(sqlite3.connect(logs)) as database:
        rows = database.execute("select id, model, resolved_model from turns").fetchall()
    assert rows == [(response.id, "tiered", "mlx/toy-small")]
    assert verify(logs) == []


async def test_conversation(
    ask: Ask, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """Each turn of a conversation is a row whose thread is the id of the conversation."""
    conversation = ask.model.conversation()
    await ask("Hello", to=conversation, complexity=2)
    await ask("Bye", to=conversation)
    await ask("Another")
    assert [turn["thread_id"] == conversation.id for turn in logged()] == [True, True, False]
    assert verify(logs) == []
    with closing(sqlite3.connect(logs)) as database:
        messages = LogStore(sqlite_utils.Database(database)).thread_messages(conversation.id)
    assert [message.role for message in messages] == ["user", "assistant"] * 2


async def test_chain(ask: Ask, logs: Path, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A chain without tool calls is one row."""
    await ask.finish(ask.model.chain("Hello", options={"complexity": 2}))
    assert len(logged()) == 1
    assert verify(logs) == []


async def test_written_once(
    ask: Ask, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """If the caller logs the response too, there is no second row."""
    response = await ask("Hello", to=ask.model.conversation(), complexity=2)
    with closing(sqlite3.connect(logs)) as database:
        response.log_to_db(sqlite_utils.Database(database))
    (turn,) = logged()
    assert turn["thread_id"] == response.conversation.id
    assert verify(logs) == []


async def test_written_once_without_conversation(
    ask: Ask, logs: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """Without a conversation there is no second row either."""
    response = await ask("Hello", complexity=2)
    with closing(sqlite3.connect(logs)) as database:
        response.log_to_db(sqlite_utils.Database(database))
    assert len(logged()) == 1


async def test_read_twice(ask: Ask, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A response that is read twice is logged once."""
    response = await ask("Hello", complexity=2)
    await ask.finish(response)
    assert len(await ask.events(response)) == 2
    assert len(logged()) == 1


async def test_retry_after_an_error(
    ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """A response that failed and is run again is one row."""
    toys.small.does = [RuntimeError("it broke")]
    response = ask.model.prompt("Hello", complexity=1, fallback="none")
    with pytest.raises(llm.ModelError):
        await ask.finish(response)
    toys.small.does = ["small answer"]
    if ask.asynchronous:
        del response._generator  # llm keeps the one that failed
    await ask.finish(response)
    assert len(logged()) == 1


async def test_logs_off(
    ask: Ask, user_path: Path, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """After `llm logs off` nothing is logged, until `llm logs on`."""
    assert CliRunner().invoke(cli, ["logs", "off"]).exit_code == 0
    await ask("Hello", complexity=2)
    assert logged() == []
    assert CliRunner().invoke(cli, ["logs", "on"]).exit_code == 0
    await ask("Hello", complexity=2)
    assert len(logged()) == 1


async def test_log_api_false(
    ask: Ask, toys: Toys, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    """With `log_api: false` nothing is logged."""
    toys.configure(log_api=False)
    await ask("Hello", complexity=2)
    assert logged() == []


@pytest.mark.parametrize("options", [[], ["--async"], ["--no-stream"]])
def test_command(
    toys: Toys, logged: Callable[[], list[dict[str, Any]]], options: list[str]
) -> None:
    """Llm's own command logs its prompt itself: one row."""
    result = CliRunner().invoke(cli, ["-m", "tiered", *options, "Hello"])
    assert result.output == "medium answer\n"
    assert len(logged()) == 1


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_command_without_log(
    toys: Toys, logged: Callable[[], list[dict[str, Any]]], options: list[str]
) -> None:
    """`llm -n` logs nothing."""
    result = CliRunner().invoke(cli, ["-m", "tiered", "-n", *options, "Hello"])
    assert result.output == "medium answer\n"
    assert logged() == []


@pytest.mark.parametrize("options", [[], ["--async"]])
def test_command_with_database(
    toys: Toys,
    tmp_path: Path,
    logged: Callable[[], list[dict[str, Any]]],
    options: list[str],
) -> None:
    """`llm -d` logs to that database only."""
    other = tmp_path / "other.db"
    CliRunner().invoke(cli, ["-m", "tiered", "-d", str(other), *options, "Hello"])
    assert logged() == []
    with closing(sqlite3.connect(other)) as database:
        assert database.execute("select model from turns").fetchall() == [("tiered",)]


def test_chat(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """`llm chat` logs its prompts itself: one row each."""
    CliRunner().invoke(cli, ["chat", "-m", "tiered"], input="Hello\nBye\nexit\n")
    assert len(logged()) == 2


def test_another_command(toys: Toys, logged: Callable[[], list[dict[str, Any]]]) -> None:
    """A prompt that another command makes through the API is logged."""

    @click.command()
    def other() -> None:
        llm.get_model("tiered").prompt("Hello").text()

    assert CliRunner().invoke(other).exit_code == 0
    assert len(logged()) == 1


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the package."""
    return [record.getMessage() for record in caplog.records if record.name == "llm_tiered"]


async def test_read_only_log(
    ask: Ask,
    logs: Path,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the log can't be written, the answer is still given, with one warning."""
    connect = sqlite3.connect

    def read_only(path: Path | str, **options: Any) -> sqlite3.Connection:
        # File modes do not restrict root, and the tests may run as root.
        uri = path if isinstance(path, str) else f"{path.as_uri()}?mode=ro"
        opened: sqlite3.Connection = connect(uri, **options | {"uri": True})
        return opened

    with monkeypatch.context() as patch:
        patch.setattr("llm_tiered.log.writer.sqlite3.connect", read_only)
        response = await ask("Hello", complexity=2)
    assert response.text_or_raise() == "small answer"
    assert warned(caplog) == [
        f"the answer could not be logged in {logs}: attempt to write a readonly database"
    ]
    assert logged() == []


async def test_not_a_database(
    ask: Ask, toys: Toys, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If logs.db is not a database, the answer is given with a warning, and the file stays."""
    toys.configure(log_api=True)
    content = b"this is not a database" * 100
    logs.write_bytes(content)
    response = await ask("Hello", complexity=2)
    assert response.text_or_raise() == "small answer"
    assert warned(caplog) == [f"the answer could not be logged in {logs}: file is not a database"]
    assert logs.read_bytes() == content


@pytest.fixture
def lock(logs: Path, logged: Callable[[], list[dict[str, Any]]]) -> Iterator[sqlite3.Connection]:
    """Another connection, in the middle of a transaction."""
    with closing(sqlite3.connect(logs, check_same_thread=False)) as other:
        other.execute("begin immediate")
        yield other


async def test_locked_log(
    ask: Ask,
    lock: sqlite3.Connection,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the log stays locked, there is one warning, and the answer is given."""
    monkeypatch.setattr(writer, "PATIENCE", 0.01)
    monkeypatch.setattr(writer, "PATIENCE_OF_CALLER", 0)
    response = await ask("Hello", complexity=2)
    assert response.text_or_raise() == "small answer"
    wait_for_backlog()
    (warning,) = warned(caplog)
    assert warning.endswith("database is locked")
    lock.rollback()
    assert logged() == []


async def test_log_is_a_pipe(
    ask: Ask, toys: Toys, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If logs.db can't even be opened without waiting, the answer is given with a warning."""
    toys.configure(log_api=True)
    os.mkfifo(logs)
    response = await ask("Hello", complexity=2)
    assert response.text_or_raise() == "small answer"
    (warning,) = warned(caplog)
    assert warning.startswith(f"the answer could not be logged in {logs}: ")


async def test_log_that_is_unlocked(
    ask: Ask,
    lock: sqlite3.Connection,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A write waits for a log that is locked for a while, and nothing is lost."""
    connect, reached = sqlite3.connect, threading.Event()

    def connecting(path: Path, **options: Any) -> sqlite3.Connection:
        reached.set()
        opened: sqlite3.Connection = connect(path, **options)
        return opened

    def unlock() -> None:
        reached.wait(timeout=60)
        lock.rollback()

    monkeypatch.setattr(writer, "PATIENCE_OF_CALLER", 60)
    with monkeypatch.context() as patch:
        patch.setattr("llm_tiered.log.writer.sqlite3.connect", connecting)
        other = threading.Thread(target=unlock)
        other.start()
        try:
            await ask("Hello", complexity=2)
        finally:
            reached.set()
            other.join()
    assert len(logged()) == 1
    assert warned(caplog) == []


async def test_deadlocked_writers(
    ask: Ask,
    logged: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A write that SQLite refuses to resolve a deadlock is retried."""
    log, refusals = LogStore.log, [True, True, False]

    def busy(store: LogStore, *args: Any) -> Any:
        if refusals.pop(0):
            raise sqlite3.OperationalError("database is locked")
        return log(store, *args)

    monkeypatch.setattr(LogStore, "log", busy)
    await ask("Hello", complexity=2)
    assert len(logged()) == 1
    assert warned(caplog) == []


async def test_many_tasks(toys: Toys, logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prompts that finish at the same time are all logged, even the first ones of a log."""
    toys.configure(log_api=True)
    model = llm.get_async_model("tiered")

    async def ask_once() -> None:
        await model.prompt("Hello", complexity=2)

    await asyncio.gather(*(ask_once() for _ in range(4)))
    assert warned(caplog) == []
    with closing(sqlite3.connect(logs)) as database:
        (rows,) = database.execute("select count(*) from turns").fetchone()
    assert rows == 4
    assert verify(logs) == []


PROCESSES = """
from multiprocessing import get_context
import llm
from llm.plugins import load_plugins, pm
from tests.stand_in import StandIn

class Plugin:
    @llm.hookimpl
    def register_models(self, register):
        register(StandIn("mlx/toy-small", runs_here=True))

def prompt(start, name):
    start.wait()
    conversation = model.conversation()
    for number in range(10):
        conversation.prompt(f"{name} {number}", tier="small", fallback="none").text()

load_plugins()
pm.register(Plugin(), name="toy")
model = llm.get_model("tiered")
forking = get_context("fork")
start = forking.Barrier(8)
processes = [forking.Process(target=prompt, args=[start, name]) for name in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


def test_many_processes(toys: Toys, logs: Path) -> None:
    """Eight processes that log at the same time lose nothing, even if there was no log."""
    toys.configure(log_api=True)
    command = [sys.executable, "-W", "error", "-c", PROCESSES]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (process.stdout, process.stderr) == (f"{[0] * 8}\n", "")
    with closing(sqlite3.connect(logs)) as database:
        (rows,) = database.execute("select count(*) from turns").fetchone()
        threads = database.execute("select count(*) from turns group by thread_id").fetchall()
    assert rows == 80
    assert threads == [(10,)] * 8
    assert verify(logs) == []
