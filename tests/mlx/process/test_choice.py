"""Which engine a prompt goes to where none can be shared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.process import choice, client, crashes, start
from llm_tiered.mlx.process.client import RunningEngine
from llm_tiered.mlx.process.place import EngineFiles, places

# Python on Windows lacks these.
WINDOWS = """
import concurrent.futures.thread, llm, logging, os, random, sys
del os.geteuid, os.register_at_fork
sys.platform = "win32"
import llm_tiered.mlx.process.choice
"""


@pytest.fixture
def may_start(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A process that may start engines. How long those that it starts would stay."""
    started: list[float] = []
    monkeypatch.setattr(start, "_is_permitted", True)
    monkeypatch.setattr(start, "Starting", started.append)
    monkeypatch.setattr(choice, "_SHARED", choice._SharedEngine())
    # Other tests may have left a model in this process.
    monkeypatch.setattr(ENGINE, "resident", dict)
    return started


def forbidden(*_: object, **__: object) -> None:
    """Fail: nobody may do this."""
    raise AssertionError


def test_outdated_process(
    may_start: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is older than what is installed leaves the engine to others, and says so."""
    assert choice.engine_for("mlx/tiny", Limits(keep_warm=60.0)) is not ENGINE
    assert may_start == [60.0]
    monkeypatch.setattr(choice, "_SHARED", choice._SharedEngine())
    monkeypatch.setattr(choice, "is_outdated", lambda: True)
    assert choice.engine_for("mlx/tiny", Limits(keep_warm=60.0)) is ENGINE
    newer = RunningEngine(EngineFiles(Path("/engine"), "host"), {"instance": "newer"})
    monkeypatch.setattr(client, "running", lambda: newer)
    monkeypatch.setattr(client, "leave", forbidden)
    assert choice.engine_for("mlx/tiny", Limits(keep_warm=60.0)) is ENGINE
    assert may_start == [60.0]
    [message] = caplog.messages
    assert message.endswith("the program has changed since this process was started")


def test_windows(may_start: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows there is no engine to share, and nothing asks for one."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr("os.geteuid")
    assert places() == ()
    crashes.check("mlx/tiny")
    assert choice.engine_for("mlx/tiny", Limits(keep_warm=60.0)) is ENGINE
    assert choice.running_engine("mlx/tiny", Limits(keep_warm=60.0)) is ENGINE
    assert may_start == []


def test_import_on_windows() -> None:
    """The module can be imported where processes can't be forked."""
    subprocess.run([sys.executable, "-c", WINDOWS], check=True)
