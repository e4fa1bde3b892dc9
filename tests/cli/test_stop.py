"""`llm tiered stop`: what it ends, what goes on, and how long it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llm_tiered.server import instances
from llm_tiered.server.instances import Instance, announced
from tests.cli.commands import run

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = "http://127.0.0.1:1/v1"


@pytest.fixture
def ended(user_path: object, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """The ports of the servers that were asked to end, and whether at once. The last one hangs."""
    asked: list[tuple[int, bool]] = []

    def end(server: Instance, *, now: bool, on_wait: Callable[[], None]) -> bool:
        asked.append((server.port, now))
        on_wait()
        return server.port != 3

    monkeypatch.setattr(instances, "end", end)
    return asked


def test_nothing_runs(ended: list[tuple[int, bool]]) -> None:
    """It is no error if there is nothing to stop."""
    result = run("stop")
    assert (result.stdout, result.stderr) == ("", "nothing runs in the background\n")


def test_terminal(ended: list[tuple[int, bool]]) -> None:
    """A server in a terminal belongs to whoever sits there."""
    with announced(Instance(HERE, "127.0.0.1", 1)):
        said = run("stop").stderr
    assert said.startswith(f"a server in a terminal goes on: {HERE} since ")
    assert ended == []


@pytest.mark.parametrize("now", [False, True])
def test_background_and_service(now: bool, ended: list[tuple[int, bool]]) -> None:
    """All others are ended, and one that had to be killed is named."""
    with (
        announced(Instance(HERE, "127.0.0.1", 1, kind="background", pid=1, started=1.0)),
        announced(Instance(HERE, "127.0.0.1", 3, kind="service", pid=3, started=3.0)),
    ):
        result = run("stop", *["--now"] * now)
    wait = "waiting until it ends" + ("" if now else "; with --now it ends running answers")
    assert result.stderr.splitlines() == [wait, wait]
    stopped, killed = result.stdout.splitlines()
    assert stopped.startswith(f"stopped: the server at {HERE} since ")
    assert killed.startswith("killed: the server at ")
    assert ended == [(1, now), (3, now)]
