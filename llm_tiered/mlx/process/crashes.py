"""The models that an engine was working on when it died: one that did so twice is left alone."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from ...errors import ModelUnavailable
from .place import places

if TYPE_CHECKING:
    from .place import EngineFiles

# Seconds within which two engines have to die for it, and for which the model is left alone.
WITHIN = 600.0
ALONE = 600.0

# Bytes of the list that are read: many more crashes than there can be within that time.
_LATEST = 16_384


def record(place: EngineFiles, instance: str, model: str) -> None:
    """Note that this engine died while it loaded the model or generated with it."""
    line = json.dumps({"time": time.time(), "engine": instance, "model": model})
    with suppress(OSError):
        if place.crashes.exists() and place.crashes.stat().st_size > _LATEST:
            place.crashes.unlink()
        with open(
            os.open(place.crashes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w"
        ) as file:
            file.write(f"{line}\n")


def check(model: str) -> None:
    """Raise ModelUnavailable if the model has killed the engine twice."""
    with suppress(OSError):
        for place in places():
            if place.crashes.exists():
                _check(place, model)


def _check(place: EngineFiles, model: str) -> None:
    engines: dict[str, float] = {}
    for line in place.crashes.read_text("utf-8", "replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if entry["model"] == model:
                # Several callers can note the same crash.
                engines.setdefault(str(entry["engine"]), float(entry["time"]))
    times = sorted(engines.values())
    for first, second in pairwise(times):
        ends = second + ALONE
        if second - first <= WITHIN and time.time() < ends:
            raise ModelUnavailable(
                f"left alone until {time.strftime('%H:%M', time.localtime(ends))}, because the "
                "engine crashed twice while it was in use",
                fix=f"use a smaller model, or delete {place.crashes} to try it now; "
                f"the engine's log is {place.log}",
            )
