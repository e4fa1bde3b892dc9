"""Ends the engine's process if its worker hangs, so that callers do not wait for ever."""

from __future__ import annotations

import faulthandler
import time
from contextlib import suppress

from ...errors import ModelUnavailable
from .. import device

# Seconds for one step of the worker: loading a model, or reading a part of several prompts. On a
# slow GPU the largest step takes two minutes, and on a CPU as much as an hour.
LONGEST_STEP = 600.0
LONGEST_STEP_ON_CPU = 7200.0

# Seconds for which the process may outlive a step's limit: setting the alarm takes a thread.
_INTERVAL = 1.0


class Watchdog:
    """An alarm that the worker puts off before each step.

    It goes off even if the worker keeps Python's global lock. It writes the stack of each thread
    to stderr, and ends the process at once.
    """

    def __init__(self) -> None:
        self._set_at: float | None = None

    def step(self, works: bool) -> None:
        """Put the alarm off, or switch it off if the worker has nothing to do."""
        now = time.monotonic()
        if not works:
            faulthandler.cancel_dump_traceback_later()
            self._set_at = None
        elif self._set_at is None or now - self._set_at > _INTERVAL:
            faulthandler.dump_traceback_later(_longest_step(), exit=True)
            self._set_at = now


def _longest_step() -> float:
    with suppress(ModelUnavailable):
        if device.detect().kind != "cpu":
            return LONGEST_STEP
    return LONGEST_STEP_ON_CPU
