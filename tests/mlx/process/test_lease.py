"""A server's lease: the engine is started, stays, and is kept again after it has died."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import choice, client, lease, start
from llm_tiered.mlx.process.lease import Lease, has_engines
from llm_tiered.mlx.process.place import places
from tests.mlx.process.engines import end, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_state(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that knows of no engine and may start none, and leaves none behind."""
    monkeypatch.setattr(start, "_is_permitted", False)
    monkeypatch.setattr(choice, "_SHARED", choice._SharedEngine())
    yield
    if engine := client.running():
        end(engine)
    for place in places():
        place.socket.unlink(missing_ok=True)


def test_lease() -> None:
    """It starts an engine, which stays while it is held, and after a crash it holds the next."""
    assert not start.is_permitted()
    with Lease(lambda: 60.0) as held:
        wait_for(lambda: held.is_held)
        assert start.is_permitted()
        engine = client.running()
        assert engine
        assert engine.status["until"] is None
        held.renew()
        os.kill(engine.status["pid"], signal.SIGKILL)
        wait_for(lambda: not held.is_held)
        held.renew()
        assert not held.is_held
        # As a prompt does.
        again = choice.shared_engine(60.0)
        assert again
        assert again.status["instance"] != engine.status["instance"]
        held.renew()
        assert held.is_held
        # The engine is told to end, though it is held.
        end(again)
        wait_for(lambda: not held.is_held)
        assert again.place.log.read_text() == ""


def test_end_of_a_lease() -> None:
    """Without the lease, the engine stays for as long as it does after an answer."""
    with Lease(lambda: 60.0) as held:
        wait_for(lambda: held.is_held)
    assert not held.is_held
    wait_for(lambda: (now := client.running()) and now.status["until"])


def test_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """With keep_warm 0, and without MLX, nothing is started or kept."""
    monkeypatch.setattr(choice, "shared_engine", lambda _: pytest.fail("started"))
    with Lease(lambda: 0.0) as held:
        held.renew()
        assert not held.is_held
    monkeypatch.setattr(lease, "has_engines", lambda: False)
    with Lease(lambda: 60.0) as held:
        held.renew()
        assert not held.is_held


def test_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are engines wherever there is MLX."""
    assert has_engines()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not has_engines()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "win32")
    assert not has_engines()
