"""The servers that run: their files, the locks on them, and how they are ended."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from llm_tiered.paths import servers_folder
from llm_tiered.server import instances
from llm_tiered.server.instances import Instance, announced, end, is_running, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = Instance("http://127.0.0.1:8484/v1", "127.0.0.1", 8484, keys=("laptop",), started=5.0)


def files() -> list[str]:
    """The names of the files that are there."""
    return sorted(path.name for path in servers_folder().glob("*"))


def test_running_servers_are_known() -> None:
    """A server is known as long as it runs, and leaves no file."""
    assert running() == []
    with announced(SERVER):
        assert running() == [SERVER]
        assert is_running(SERVER)
        assert (servers_folder().stat().st_mode & 0o777) == 0o700
    assert running() == []
    assert not is_running(SERVER)
    assert files() == []


def test_oldest_first() -> None:
    """Several servers are listed by age."""
    older = Instance("http://127.0.0.1:1/v1", "127.0.0.1", 1, pid=1, started=1.0)
    with announced(SERVER), announced(older):
        assert running() == [older, SERVER]


def test_files_of_dead_servers_are_removed() -> None:
    """A file that nobody has locked is that of a server that was killed, whoever has its number."""
    with announced(SERVER):
        [path] = servers_folder().glob("*.json")
        content = path.read_bytes()
    path.write_bytes(content)
    assert running() == []
    assert files() == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 3}', "\0", json.dumps({"keys": []})])
def test_unreadable_files(content: str) -> None:
    """A file of another version, or half of one, is passed over."""
    import fcntl

    with announced(SERVER):
        path = servers_folder() / f"{instances.machine()}-1.json"
        with path.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            other.write(content)
            other.flush()
            assert running() == [SERVER]


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder that machines share has the servers of all, but each sees its own."""
    with announced(SERVER):
        monkeypatch.setattr("platform.node", lambda: "other/machine.lan ü")
        assert instances.machine() == "other-machine-lan--"
        assert running() == []
    monkeypatch.setattr("platform.node", lambda: "")
    assert instances.machine() == "localhost"


def test_folder_that_cannot_be_made(user_path: Path) -> None:
    """A server that can't write its file serves all the same."""
    (user_path / "tiered").touch()
    with announced(SERVER):
        assert running() == []


def forbidden() -> None:
    """Nobody waits."""
    raise AssertionError


class Process:
    """A server that runs, and what it does when it gets a signal."""

    def __init__(self, ends_at: int | None) -> None:
        self._ends_at = ends_at
        self.signals: list[int] = []
        self.stack = ExitStack()
        self.stack.enter_context(announced(SERVER))

    def kill(self, pid: int, number: int) -> None:
        """Take a signal."""
        assert pid == SERVER.pid == os.getpid()
        self.signals.append(number)
        if number in (self._ends_at, signal.SIGKILL):
            self.stack.close()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], Process]:
    """A server that ends at a signal, or at none but SIGKILL."""

    def started(ends_at: int | None) -> Process:
        made = Process(ends_at)
        monkeypatch.setattr(os, "kill", made.kill)
        return made

    monkeypatch.setattr(instances, "ANSWERS_END", 0.01)
    monkeypatch.setattr(instances, "SOON", 0.01)
    monkeypatch.setattr(instances, "A_WHILE", 0.01)
    return started


def test_end(process: Callable[[int | None], Process]) -> None:
    """A server is asked once, so that its answers can end."""
    server = process(signal.SIGTERM)
    assert end(SERVER, now=False, on_wait=forbidden)
    assert server.signals == [signal.SIGTERM]
    assert end(SERVER, now=False, on_wait=forbidden)
    assert server.signals == [signal.SIGTERM]


def test_end_now(process: Callable[[int | None], Process]) -> None:
    """A second signal ends the answers, too."""
    server = process(signal.SIGINT)
    assert end(SERVER, now=True, on_wait=forbidden)
    assert server.signals == [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("now", [True, False])
def test_a_server_that_hangs(process: Callable[[int | None], Process], now: bool) -> None:
    """A server that does not end is killed, and that is told, as is the wait before."""
    server = process(None)
    waits: list[None] = []
    assert not end(SERVER, now=now, on_wait=lambda: waits.append(None))
    assert waits == [None]
    assert server.signals[-1] == signal.SIGKILL
    assert running() == []
