"""`llm tiered batch --dask`: a batch on the workers of a cluster."""

from __future__ import annotations

import socket
import sqlite3
import sys
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import distributed
import pytest

from llm_tiered.cluster import connection, worker
from llm_tiered.paths import config_path
from tests.cli.batching import batch, parse, write_rows, wrong_usage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that workers get."""
    prompts: list[str] = []
    here = worker._here

    def record(spec: Any, request: Any, tell: Any) -> Any:
        prompts.append(request.chat[-1]["content"])
        return here(spec, request, tell)

    monkeypatch.setattr(worker, "_here", record)
    return prompts


def answers(text: str) -> list[tuple[Any, ...]]:
    """The lines, models, texts and tokens of an output."""
    names = ("line", "model", "response", "input_tokens", "output_tokens")
    return [tuple(answer[name] for name in names) for answer in parse(text)]


def test_output_is_that_of_one_machine(cluster: Any, rows: str, asked: list[str]) -> None:
    """The answers and their order are the same, and each is logged once, by the driver."""
    here = batch(rows, "--no-log").stdout
    assert asked == []
    result = batch(rows, "--dask", cluster.scheduler_address)
    assert answers(result.stdout) == answers(here)
    assert "2 workers, 8 rows at a time" in result.stderr


def test_what_must_stay_here(cluster: Any, rows: str, asked: list[str]) -> None:
    """Rows with local_only are answered on this machine; the workers get all others, once."""
    batch(rows, "--dask", cluster.scheduler_address)
    assert sorted(asked) == [f"Say {number}" for number in range(1, 9)]


def test_local_only_in_the_environment(
    cluster: Any, rows: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With FORCE_LOCAL_LLM nothing goes to the workers."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    batch(rows, "--dask", cluster.scheduler_address)
    assert asked == []


def test_one_local_model(cluster: Any, rows: str, asked: list[str], tmp_path: Path) -> None:
    """The rows for one local model go to the workers, unless the config keeps them here."""
    plain = write_rows(tmp_path, {"prompt": "Hello", "options": {"max_tokens": 4}})
    command = (plain, "-m", "mlx/tiny", "--dask", cluster.scheduler_address)
    batch(*command)
    assert asked == ["Hello"]
    config_path().write_text(f"{config_path().read_text()}\nlocal_only: true")
    batch(*command)
    assert asked == ["Hello"]


def places(logs: Path) -> list[tuple[str, int]]:
    """Where the answers in the log came from, and how many from each place."""
    place = "json_extract(response_json, '$.tiered.place')"
    query = f"select {place}, count(*) from turns where model = 'tiered' group by 1 order by 1"
    with closing(sqlite3.connect(logs)) as database:
        return database.execute(query).fetchall()


def test_log(cluster: Any, rows: str, logs: Path) -> None:
    """Every answer is in llm's log once, with the kind of machine that gave it."""
    batch(rows, "--dask", cluster.scheduler_address)
    assert places(logs) == [("here", 2), ("own", 8)]


def test_workers_of_this_machine(
    cluster: Any, rows: str, logs: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that the command starts itself are this machine."""
    monkeypatch.setattr(distributed, "LocalCluster", lambda **_: nullcontext(cluster))
    batch(rows, "--dask", "local:2")
    assert (len(asked), places(logs)) == (8, [("here", 10)])


def test_nothing_listens(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without a scheduler is an error that names it."""
    monkeypatch.setattr(connection, "ANSWERS_WITHIN", 0.1)
    message = wrong_usage(rows, "--dask", "tcp://127.0.0.1:9")
    assert message.startswith("no Dask scheduler answers at tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["", "mac-mini", "local:0", "local:x", "http://127.0.0.1:1"])
def test_wrong_address(rows: str, address: str) -> None:
    """What can't be an address is an error at once, with what is expected."""
    message = wrong_usage(rows, "--dask", address)
    assert message == f"found {address!r}, expected tcp://HOST:PORT or local:2"


def test_no_workers(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without workers is waited for, and that is told before the wait."""
    monkeypatch.setattr(connection, "WORKER_WITHIN", 0.2)
    with distributed.LocalCluster(  # type: ignore[no-untyped-call]  # it has no types
        n_workers=0, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as empty:
        address = empty.scheduler_address
        lines = batch(rows, "--dask", address, code=2).stderr.splitlines()
    assert lines[0] == f"no worker at {address} yet; waiting 0.2 s for one"
    assert f"{address} has no workers" in lines[-1]


def test_finished(cluster: Any, rows: str, tmp_path: Path) -> None:
    """A batch that is finished needs no cluster; one with a row left does."""
    command = (rows, "-o", str(tmp_path / "out.jsonl"), "--dask", cluster.scheduler_address)
    batch(*command, "--limit", "9")
    again = batch(*command, "--limit", "9").stderr
    assert "9 skipped as done" in again
    assert "workers" not in again
    assert "2 workers" in batch(*command).stderr


def test_server_of_another_kind(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not speak Dask's language is not waited for."""
    monkeypatch.setattr(connection, "ANSWERS_WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        message = wrong_usage(rows, "--dask", address)
    assert message.startswith(f"no Dask scheduler answers at {address}")


def test_without_dask(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Dask, the error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    message = wrong_usage(rows, "--dask", "tcp://127.0.0.1:9")
    assert message == "--dask needs Dask (llm install 'dask[distributed]')"
