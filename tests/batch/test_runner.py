"""A run over rows: order, bounds, failures, interruption, full disks."""

from __future__ import annotations

import asyncio
import errno
import io
import json
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.batch import runner
from llm_tiered.batch.journal import Journal
from llm_tiered.batch.limits import LOCAL_CONCURRENCY
from llm_tiered.batch.output import Output, open_output
from llm_tiered.errors import TieredError
from llm_tiered.log import writer
from tests.batch.echo import CLOUD, OTHER, SMALL, Echoes, config
from tests.batch.running import Held, Run, prompts, settle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def held(echoes: Echoes) -> Held:
    """Models that answer when the test releases a prompt."""
    act = Held()
    echoes.act = act
    return act


# Failures


async def test_failures(echoes: Echoes, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that fails has an error in its place and on stderr; the other rows are answered."""

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
    assert (run.progress.rows, run.progress.answered, run.progress.failed) == (5, 2, 3)
    printed = capsys.readouterr().err.splitlines()
    assert {line.partition(":")[0] for line in printed} == {"line 2", "line 3", "line 4"}


async def test_errors_of_other_models(echoes: Echoes) -> None:
    """Any error of another model becomes the row's error, on one line."""

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
    held.release("0", "1")
    await running
    assert run.texts() == ["0", "1", "no prompt"]
    assert ("mlx/echo-small", "late") not in echoes.requests
    assert not run.batch.interrupted


async def test_strict_rows_that_wait(echoes: Echoes, held: Held) -> None:
    """Nor are rows asked that were waiting for their turn; those before the failure are."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "1":
            raise ZeroDivisionError("1")
        return await held(model, prompt)

    echoes.act = act
    held.release("0", "2", *map(str, range(3, 50)))
    run = Run(*prompts(50, complexity=9), strict=True, concurrency=1)
    await run()
    assert [prompt for _, prompt in echoes.requests] == ["0", "1"]
    assert run.texts()[0] == "0"
    assert "1" in run.texts()[1]
    assert len(run.answers()) == 2
    assert not run.batch.interrupted


# Order and bounds


async def test_order(echoes: Echoes, held: Held) -> None:
    """Answers are written in the order of the rows, each as soon as all earlier ones are."""
    run = Run(*prompts(4))
    running = asyncio.ensure_future(run())
    written = []
    for name in ("2", "0", "1", "3"):
        held.release(name)
        await settle()
        written.append(len(run.answers()))
    await running
    assert run.texts() == ["0", "1", "2", "3"]
    assert written == [0, 1, 3, 4]


async def test_unordered(echoes: Echoes, held: Held) -> None:
    """Unordered answers are written as they arrive."""
    run = Run(*prompts(3), ordered=False)
    running = asyncio.ensure_future(run())
    for name in ("2", "0", "1"):
        held.release(name)
        await settle()
    await running
    assert run.texts() == ["2", "0", "1"]


def test_more_rows_ahead_for_a_large_cluster() -> None:
    """A hundred workers with 16 rows each are kept busy, too."""
    cluster: Any = SimpleNamespace(room=2400)
    assert runner.rows_ahead(cluster) > 2400
    assert runner.rows_ahead(None) == runner.AHEAD


@pytest.mark.parametrize("ordered", [True, False])
async def test_bounds(
    echoes: Echoes, held: Held, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    """While the first row waits for its answer, only a limited number of others is started."""
    monkeypatch.setattr(runner, "AHEAD", 10)
    run = Run(*prompts(30), ordered=ordered)
    running = asyncio.ensure_future(run())
    held.release(*map(str, range(1, 30)))
    await settle()
    assert len(echoes.requests) == (10 if ordered else 30)
    held.release("0")
    await running
    assert sorted(run.texts(), key=int) == [str(i) for i in range(30)]


@pytest.mark.parametrize(
    ("name", "complexity", "most"),
    [("tiered", 2, LOCAL_CONCURRENCY), ("tiered", 9, 5), (OTHER, None, 5)],
)
async def test_concurrency(
    echoes: Echoes, held: Held, name: str, complexity: int | None, most: int
) -> None:
    """No more requests are started than their models may answer at the same time."""
    run = Run(*prompts(100, complexity=complexity), model=name, concurrency=5)
    running = asyncio.ensure_future(run())
    await settle()
    assert len(echoes.requests) == most
    held.release(*map(str, range(100)))
    await running
    assert len(echoes.requests) == 100


async def test_cloud_does_not_hold_up_local_models(echoes: Echoes, held: Held) -> None:
    """While the cloud is busy, local models answer later rows."""
    run = Run(*prompts(20, complexity=9), {"prompt": "local", "complexity": 2}, concurrency=1)
    running = asyncio.ensure_future(run())
    await settle()
    assert sorted(echoes.requests) == [(CLOUD, "0"), (SMALL, "local")]
    held.release("local", *map(str, range(20)))
    await running


# Interruption


async def test_interrupt(echoes: Echoes, held: Held) -> None:
    """An interrupted batch cancels its requests and writes all complete answers."""
    run = Run(*prompts(200))
    running = asyncio.ensure_future(run())
    held.release("0", "2", "5")
    await settle()
    run.batch.interrupt()
    await running
    assert run.texts() == ["0", "2", "5"]
    assert run.batch.interrupted
    assert echoes.running[SMALL] == 0
    requests = len(echoes.requests)
    await settle()
    assert len(echoes.requests) == requests


async def test_interrupt_while_logging(
    echoes: Echoes, held: Held, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete answer that is being logged is written, even after an interruption."""
    config_file.write_text(yaml.safe_dump(config(log_api=True)))
    loop = asyncio.get_running_loop()
    run = Run(*prompts(2))

    def write(*_: Any) -> None:
        loop.call_soon_threadsafe(run.batch.interrupt)

    monkeypatch.setattr(writer, "write_all", write)
    held.release("0")
    await run()
    assert run.texts() == ["0"]


# Journal and output


async def test_journal_before_order(echoes: Echoes, held: Held, tmp_path: Path) -> None:
    """An answer that waits for earlier rows is in the journal already."""
    with closing(Journal(tmp_path / "out", restart=False)) as journal:
        run = Run(*prompts(3), journal=journal)
        running = asyncio.ensure_future(run())
        held.release("2")
        await settle()
        entries = journal.path.read_text().splitlines()[1:]
        held.release("0", "1")
        await running
    assert [json.loads(line)["answer"]["response"] for line in entries] == ["2"]


async def test_stopped_early(echoes: Echoes, held: Held, tmp_path: Path) -> None:
    """However early a batch is stopped, the output holds all answers of all runs."""
    path = tmp_path / "out"

    async def run_again() -> Run:
        with (
            closing(Journal(path, restart=False)) as journal,
            open_output(path, restart=False) as output,
        ):
            run = Run(
                {"prompt": "first", "complexity": 2}, *prompts(3), journal=journal, output=output
            )
            running = asyncio.ensure_future(run.batch.run(run.read()))
            await settle()
            run.batch.interrupt()
            await running
        return run

    def written() -> list[str]:
        return [json.loads(line)["response"] for line in path.read_text().splitlines()]

    held.release("0", "1", "2")
    await run_again()
    assert written() == ["0", "1", "2"]
    held.release("first")
    held.events["first"].clear()
    again = await run_again()
    assert written() == ["0", "1", "2"]
    assert (again.progress.skipped, [name for _, name in echoes.requests].count("1")) == (3, 1)


async def test_full_disk(echoes: Echoes, held: Held) -> None:
    """If answers can't be written, the batch starts nothing more and raises one error."""

    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    run = Run(*prompts(500), output=Output(Full()))
    running = asyncio.ensure_future(run())
    held.release("0")
    with pytest.raises(TieredError, match="can't be written: No space left on device"):
        await running
    assert len(echoes.requests) <= LOCAL_CONCURRENCY + 1


async def test_full_disk_for_the_journal(
    echoes: Echoes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the journal can't be written, the same happens."""

    def add(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "add", add)
    with closing(Journal(tmp_path / "out", restart=False)) as journal:
        run = Run(*prompts(500), journal=journal)
        with pytest.raises(TieredError, match="can't be written: No space left on device"):
            await run()
    assert run.answers() == []
