"""Engines that die or hang, and what their callers see."""

from __future__ import annotations

import os
import queue
import signal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine.requests import (
    CancelToken,
    Done,
    Failed,
    Loading,
    Prefill,
    Started,
)
from llm_tiered.mlx.process import choice, client, connection
from llm_tiered.mlx.process.place import places
from llm_tiered.mlx.process.remote import RemoteEngine
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import WARM, engine_process

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.requests import Event

pytestmark = pytest.mark.usefixtures("user_path")

NAME = "mlx/shared"
FOREVER = 100_000
LONG = " a" * 30_000

# The engine's worker waits for ever while it loads a model, or in the middle of an answer. The
# latter keeps Python's global lock, so that nothing else in the process runs.
NEVER_LOADED = """
import time
from llm_tiered.mlx.engine import loading
loading.import_mlx_lm = lambda: time.sleep(1000)
"""
HANGING = """
import ctypes
from llm_tiered.mlx.engine import sequence
from llm_tiered.mlx.process import watchdog
watchdog.LONGEST_STEP = watchdog.LONGEST_STEP_ON_CPU = 1.0
sequence.RunningSequence.push = lambda *_: ctypes.PyDLL(None).sleep(1000)
"""


class Asked:
    """A request to the shared engine, and its events."""

    def __init__(self, folder: Path, prompt: str = "Hello", **fields: Any) -> None:
        self.cancel_token = CancelToken()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        engine = choice.engine_for(NAME, WARM)
        assert isinstance(engine, RemoteEngine)
        request = make_request(folder, prompt, model=NAME, **fields)
        engine.submit(request, self._events.put, self.cancel_token)

    def wait_for(self, *kinds: type) -> Any:
        """Return the next event of one of these classes."""
        while not isinstance(event := self._events.get(timeout=PATIENCE), kinds):
            assert not isinstance(event, (Done, Failed)), event
        return event


def check_killed(asked: Asked) -> EngineError:
    """The request fails with one clear line, and no engine is left."""
    error = asked.wait_for(Failed).error
    assert type(error) is EngineError
    assert "\n" not in str(error)
    assert error.fix
    assert error.fix.endswith(".log")
    assert client.running() is None
    return error


@pytest.mark.parametrize(
    ("code", "prompt", "at"),
    [(NEVER_LOADED, "Hello", Loading), ("", LONG, Prefill), ("", "Hello", Text)],
    ids=["loading", "prefill", "answer"],
)
def test_killed(code: str, prompt: str, at: type, folder: Path) -> None:
    """An engine that is killed fails its requests at once, and the model is noted."""
    with engine_process(code) as process:
        asked = Asked(folder, prompt, max_tokens=FOREVER)
        asked.wait_for(at)
        os.kill(process.pid, signal.SIGKILL)
        error = check_killed(asked)
    assert error.message == f"the engine was killed, or crashed, while it answered with {NAME}"


def test_hanging_worker(folder: Path) -> None:
    """A worker that hangs ends the process, which says where it was."""
    with engine_process(HANGING) as process:
        check_killed(Asked(folder))
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert "Timeout" in output
        assert "most recent call first" in output


def test_stopped_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not even send heartbeats is killed."""
    with engine_process() as process:
        asked = Asked(folder, max_tokens=FOREVER)
        asked.wait_for(Text)
        monkeypatch.setattr(connection, "SILENCE", 1.5)
        stuck = Asked(folder, max_tokens=FOREVER)
        stuck.wait_for(Started)
        os.kill(process.pid, signal.SIGSTOP)
        error = stuck.wait_for(Failed).error
        assert "did not react" in error.message
        assert process.wait(PATIENCE) == -signal.SIGKILL
        asked.wait_for(Failed)


def test_told_to_end(folder: Path) -> None:
    """At SIGTERM answers end first, and the engine leaves in order."""
    with engine_process() as process:
        asked = Asked(folder, max_tokens=60)
        asked.wait_for(Text)
        process.send_signal(signal.SIGTERM)
        assert asked.wait_for(Done).generation_tokens == 60
        assert process.wait(PATIENCE) == 0
    assert not places()[0].crashes.exists()
