"""Engines as processes of their own, for as long as they are measured."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..mlx.process import client
from ..mlx.process.start import StartError, Starting
from .home import home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..mlx.process.client import RunningEngine
    from .home import Subject

# Longer than any pause between two measurements. An engine that is left over ends after that.
KEEP_WARM = "5m"

# Seconds for an engine to end, and between two looks at whether it has.
END_WITHIN, INTERVAL = 20.0, 0.01


@contextmanager
def engine_home(subjects: Sequence[Subject], keep_warm: str = KEEP_WARM) -> Iterator[Path]:
    """Let llm use a new user directory, by default one with an engine, which is ended with it."""
    with tempfile.TemporaryDirectory(prefix="llm-tiered-bench.") as name:
        folder = Path(name)
        with home(folder, subjects, subjects[0], None, keep_warm=keep_warm):
            try:
                yield folder
            finally:
                end_engine()


def start_engine() -> RunningEngine:
    """Start the engine of the present user directory. Raises EngineError."""
    try:
        engine = Starting(300.0).wait()
    except StartError as error:
        raise EngineError(f"the engine can't be started: {error}") from None
    if engine is None:
        raise EngineError("the engine was not started")
    return engine


def end_engine() -> None:
    """End the engine of the present user directory, if one runs."""
    engine = client.running()
    if engine is None:
        return
    client.leave(engine, now=True)
    ends = time.monotonic() + END_WITHIN
    while client.running() and time.monotonic() < ends:
        time.sleep(INTERVAL)


def used(engine: RunningEngine) -> tuple[float, int]:
    """Return the CPU time of an engine so far, in seconds, and the peak of its memory, in bytes.

    Raises EngineError if it has ended.
    """
    now = client.running()
    if now is None or now.status["instance"] != engine.status["instance"]:
        raise EngineError("the engine has ended")
    return now.status["cpu"], now.status["peak_memory"]
