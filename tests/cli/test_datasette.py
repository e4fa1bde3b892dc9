"""`llm tiered datasette`: the log in the browser, for this machine only."""

from __future__ import annotations

import socket
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click
import httpx
import pytest
from datasette import cli as datasette

from tests.cli.commands import refused, run
from tests.dashboard.serving import LLM, free_port, serving
from tests.make_log import add, empty_log, turn

if TYPE_CHECKING:
    from pathlib import Path


def test_it_serves_the_log(logs: Path, user_path: Path) -> None:
    """The page is served on loopback at the printed address, and the log is not written."""
    empty_log(logs)
    add(logs, [turn()])
    before = logs.read_bytes()
    port = free_port()
    with serving(user_path, *LLM, "tiered", "datasette", "--port", str(port)) as address:
        assert address == f"http://127.0.0.1:{port}"
        response = httpx.get(f"{address}/logs/-/tiered?since=")
        settings = httpx.get(f"{address}/-/settings.json").json()
    assert response.status_code == 200
    assert "Requests by tier" in response.text
    assert settings["sql_time_limit_ms"] == 10_000
    assert logs.read_bytes() == before


@pytest.mark.parametrize("opens", [True, False])
def test_arguments_of_datasette(
    logs: Path, monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    """Datasette serves the log on loopback, and --open opens the browser."""
    empty_log(logs)
    calls: list[list[str]] = []
    opened: list[str] = []
    monkeypatch.setattr(datasette.cli, "main", lambda args, **_: calls.append(args))
    monkeypatch.setattr(click, "launch", opened.append)
    port = str(free_port())
    page = f"http://127.0.0.1:{port}/logs/-/tiered"
    assert run("datasette", "-p", port, *(["--open"] if opens else [])).stdout == f"{page}\n"
    [arguments] = calls
    assert arguments[:6] == ["serve", str(logs), "--host", "127.0.0.1", "--port", port]
    assert opened == ([page] if opens else [])


def test_no_log_yet(logs: Path) -> None:
    """A missing log is an error."""
    assert refused("datasette") == f"there is no log yet: {logs} (llm logs on, then ask something)"


def test_another_database(logs: Path) -> None:
    """A file that is not an llm log is an error, database or not."""
    with closing(sqlite3.connect(logs)) as database:
        database.execute("create table other (id)")
    assert refused("datasette") == f"{logs} is not an llm log, or is a very old one (llm logs)"
    logs.write_text("no database at all, but some text")
    assert refused("datasette").startswith(f"{logs} can't be read: ")


def test_without_datasette(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Datasette, the error has the command that installs it."""
    empty_log(logs)
    monkeypatch.setitem(sys.modules, "datasette.cli", None)
    assert refused("datasette") == "Datasette is not installed (llm install datasette)"


def test_a_port_in_use(logs: Path) -> None:
    """A port in use is an error that suggests another one."""
    empty_log(logs)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("datasette", "--port", str(port))
    assert message.startswith(f"port {port} can't be used: ")
    assert message.endswith(f"(--port {port + 1})")
