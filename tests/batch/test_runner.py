"""Rows → answers: their order, their bounds, how they are kept, logged and given up."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.batch import runner
from llm_tiered.batch.journal import Journal
from llm_tiered.batch.limits import LOCAL_CONCURRENCY
from llm_tiered.batch.output import Output, open_output
from llm_tiered.batch.runner import Batch, Job
from llm_tiered.errors import TieredError
from llm_tiered.log import writer as api
from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config
from tests.batch.running import Held, Run, prompts, settle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def held(echoes: Echoes) -> Held:
    """Make the models wait for the test."""
    act = Held()
    echoes.act = act
    return act


# Answers


async def test_answer(echoes: Echoes) -> None:
    """An answer says whose it is, what it is, who gave it and what it took."""
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
    ("text", "parsed"), [('{"a": [1]}', {"a": [1]}), ('{"a": [1', None), ('{"a": 1e999}', None)]
)
async def test_answer_with_a_schema(echoes: Echoes, text: str, parsed: Any) -> None:
    """With a schema, the answer is there parsed as well; null where it is no JSON, or can't be."""
    [answer] = await Run({"prompt": text, "schema": "a", "complexity": 2})()
    assert (answer["response"], answer["json"]) == (text, parsed)


async def test_what_is_asked(echoes: Echoes) -> None:
    """System prompt, schema and options get to the model."""
    row = {"prompt": "a", "system": "b", "schema": {"type": "object"}, "complexity": 2}
    await Run(row | {"options": {"temperature": 0.5}})()
    [prompt] = echoes.prompts
    assert (prompt.system, prompt.schema) == ("b", {"type": "object"})
    assert vars(prompt.options)["temperature"] == 0.5


# Failures


async def test_failures(echoes: Echoes, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that fails has an error in its place, is told, and stops nothing."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "bad":
            raise llm.ModelError("out of order")
        return prompt

    echoes.act = act
    rows: list[dict[str, Any]] = [
        {"prompt": "good", "tier": "small"},
        {"id": 7, "prompt": "bad", "tier": "medium"},
        {"prompt": ""},
        {"prompt": "?", "task": "nothing"},
        {"prompt": "fine", "tier": "small"},
    ]
    run = Run(*rows)
    first, second, third, fourth, fifth = await run()
    assert [first["response"], fifth["response"]] == ["good", "fine"]
    assert (second["id"], second["line"]) == (7, 2)
    assert second["error"].startswith("no model could answer:\n  medium (mlx/echo-medium) failed")
    assert third == {"id": None, "line": 3, "error": "no prompt"}
    assert fourth["error"].startswith("unknown task 'nothing'")
    assert (run.report.rows, run.report.answered, run.report.failed) == (5, 2, 3)
    told = capsys.readouterr().err.splitlines()
    assert {line.partition(":")[0] for line in told} == {"line 2", "line 3", "line 4"}


async def test_errors_of_other_models(echoes: Echoes) -> None:
    """Whatever another model raises is the row's error, in one line."""

    async def act(model: str, prompt: str) -> str:
        raise ZeroDivisionError("by\nzero")

    echoes.act = act
    [answer] = await Run({"prompt": "a"}, model=OTHER)()
    assert answer["error"] == "ZeroDivisionError: by zero"


async def test_strict(echoes: Echoes, held: Held) -> None:
    """A strict batch starts nothing after the first failure, and finishes what it has started."""
    rows = [*prompts(2), {"prompt": ""}, *prompts(500, prompt="late")]
    run = Run(*rows, strict=True)
    running = asyncio.ensure_future(run())
    await settle()
    held.let("0", "1")
    await running
    assert run.texts() == ["0", "1", "no prompt"]
    assert ("mlx/echo-small", "late") not in echoes.asked
    assert not run.batch.interrupted


# Order and bounds


async def test_order(echoes: Echoes, held: Held) -> None:
    """Answers are written in the rows' order, each as soon as those before it are."""
    run = Run(*prompts(4))
    running = asyncio.ensure_future(run())
    written = []
    for name in ("2", "0", "1", "3"):
        held.let(name)
        await settle()
        written.append(len(run.answers()))
    await running
    assert run.texts() == ["0", "1", "2", "3"]
    assert written == [0, 1, 3, 4]


async def test_no_order(echoes: Echoes, held: Held) -> None:
    """Without an order, they are written as they come."""
    run = Run(*prompts(3), ordered=False)
    running = asyncio.ensure_future(run())
    for name in ("2", "0", "1"):
        held.let(name)
        await settle()
    await running
    assert run.texts() == ["2", "0", "1"]


@pytest.mark.parametrize("ordered", [True, False])
async def test_bounds(
    echoes: Echoes, held: Held, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    """While the first row is not written, only so many others are started."""
    monkeypatch.setattr(runner, "AHEAD", 10)
    run = Run(*prompts(30), ordered=ordered)
    running = asyncio.ensure_future(run())
    held.let(*map(str, range(1, 30)))
    await settle()
    assert len(echoes.asked) == (10 if ordered else 30)
    held.let("0")
    await running
    assert sorted(run.texts(), key=int) == [str(i) for i in range(30)]


@pytest.mark.parametrize(
    ("name", "complexity", "most"),
    [("tiered", 2, LOCAL_CONCURRENCY), ("tiered", 9, 5), (OTHER, None, 5)],
)
async def test_under_way(
    echoes: Echoes, held: Held, name: str, complexity: int | None, most: int
) -> None:
    """Only as many requests are under way as their models are asked at a time."""
    run = Run(*prompts(100, complexity=complexity), model=name, concurrency=5)
    running = asyncio.ensure_future(run())
    await settle()
    assert len(echoes.asked) == most
    held.let(*map(str, range(100)))
    await running
    assert len(echoes.asked) == 100


async def test_cloud_does_not_hold_up_local_models(echoes: Echoes, held: Held) -> None:
    """While the cloud is busy, local models answer what comes behind."""
    run = Run(*prompts(20, complexity=9), {"prompt": "local", "complexity": 2}, concurrency=1)
    running = asyncio.ensure_future(run())
    await settle()
    assert echoes.asked == [(CLOUD, "0"), (SMALL, "local")]
    held.let("local", *map(str, range(20)))
    await running


# Interrupted


async def test_interrupt(echoes: Echoes, held: Held) -> None:
    """An interrupted batch gives up what is under way, and writes what is complete."""
    run = Run(*prompts(200))
    running = asyncio.ensure_future(run())
    held.let("0", "2", "5")
    await settle()
    run.batch.interrupt()
    await running
    assert run.texts() == ["0", "2", "5"]
    assert run.batch.interrupted
    assert echoes.under_way[SMALL] == 0
    asked = len(echoes.asked)
    await settle()
    assert len(echoes.asked) == asked


async def test_interrupt_while_logging(
    echoes: Echoes, held: Held, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is only being logged is not given up."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    loop = asyncio.get_running_loop()
    run = Run(*prompts(2))

    def write(response: Any) -> None:
        loop.call_soon_threadsafe(run.batch.interrupt)

    monkeypatch.setattr(api, "write", write)
    held.let("0")
    await run()
    assert run.texts() == ["0"]


# Journal, output, log


async def test_kept_before_order(echoes: Echoes, held: Held, tmp_path: Path) -> None:
    """An answer that waits for those before it is in the journal already."""
    with closing(Journal(tmp_path / "out", restart=False)) as journal:
        run = Run(*prompts(3))
        run.batch = Batch(Job(run.model), run.output, journal, run.report)
        running = asyncio.ensure_future(run())
        held.let("2")
        await settle()
        kept = journal.path.read_text().splitlines()[1:]
        held.let("0", "1")
        await running
    assert [json.loads(line)["answer"]["response"] for line in kept] == ["2"]


async def test_stopped_early(echoes: Echoes, held: Held, tmp_path: Path) -> None:
    """However early a batch is stopped, the output has all that was ever answered."""
    path = tmp_path / "out"

    async def run_again(**how: Any) -> Run:
        with (
            closing(Journal(path, restart=False)) as journal,
            open_output(path, restart=False) as output,
        ):
            run = Run({"prompt": "first", "complexity": 2}, *prompts(3))
            run.batch = Batch(Job(run.model, **how), output, journal, run.report)
            running = asyncio.ensure_future(run.batch.run(run.read()))
            await settle()
            run.batch.interrupt()
            await running
        return run

    def written() -> list[str]:
        return [json.loads(line)["response"] for line in path.read_text().splitlines()]

    held.let("0", "1", "2")
    await run_again()
    assert written() == ["0", "1", "2"]
    held.let("first")
    held.events["first"].clear()
    again = await run_again()
    assert written() == ["0", "1", "2"]
    assert (again.report.skipped, [name for _, name in echoes.asked].count("1")) == (3, 1)


async def test_disk_full(echoes: Echoes, held: Held) -> None:
    """Where answers can't be written, nothing more is asked, and the error says so."""

    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    run = Run(*prompts(500))
    run.batch = Batch(Job(run.model), Output(Full()), None, run.report)
    running = asyncio.ensure_future(run())
    held.let("0")
    with pytest.raises(TieredError, match="can't be written: No space left on device"):
        await running
    assert len(echoes.asked) <= LOCAL_CONCURRENCY + 1


async def test_disk_full_for_the_journal(
    echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the journal can't be written, it is the same."""

    def add(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "add", add)
    with closing(Journal(tmp_path / "out", restart=False)) as journal:
        run = Run(*prompts(500))
        run.batch = Batch(Job(run.model), run.output, journal, run.report)
        with pytest.raises(TieredError, match="can't be written: No space left on device"):
            await run()
    assert run.answers() == []


def logged(logs: Path) -> list[str]:
    """The models of the logged turns."""
    if not logs.exists():
        return []
    with closing(sqlite3.connect(logs)) as database:
        return [model for (model,) in database.execute("select model from turns order by id")]


@pytest.mark.parametrize("name", ["tiered", OTHER])
@pytest.mark.parametrize(
    ("log", "log_api", "rows"), [(True, True, 2), (False, True, 0), (True, False, 0)]
)
async def test_log(  # noqa: PLR0913, PLR0917 - three of them are the case
    echoes: Echoes, config_file: Path, logs: Path, name: str, log: bool, log_api: bool, rows: int
) -> None:
    """Each answer is in the log once, unless the batch or the config wants none of that."""
    config_file.write_text(yaml.safe_dump(config(log_api=log_api)))
    assert len(await Run(*prompts(2), model=name, log=log)()) == 2
    assert logged(logs) == [name] * rows


async def test_log_off(echoes: Echoes, config_file: Path, logs: Path, user_path: Path) -> None:
    """After `llm logs off` nothing is logged."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    (user_path / "logs-off").touch()
    for name in ("tiered", OTHER):
        await Run(*prompts(2), model=name)()
    assert logged(logs) == []
