"""Engines as processes of their own, for tests, and llm's command line beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.process import client
from tests.mlx.models import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return the first result of the condition that is true."""
    ends = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < ends
        os.sched_yield()
    return result


def llm(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Run llm's command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "llm", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def answer(process: subprocess.Popen[str]) -> str:
    """Return what the process prints; it has to succeed."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    return output


def end(engine: client.RunningEngine) -> None:
    """End an engine."""
    client.leave(engine, now=True)
    wait_for(lambda: not engine.place.socket.exists())
