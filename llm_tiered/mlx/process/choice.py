"""Which engine a prompt goes to: the one that all processes share, or this process's own."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from ...forks import after_fork
from .. import device
from ..engine.engine import ENGINE
from . import client, start
from .identity import is_outdated
from .place import places
from .remote import RemoteEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..engine.job import Emit
    from ..engine.requests import CancelToken, GenerationRequest, Limits
    from .client import RunningEngine
    from .place import EngineFiles

# Seconds for which the status of the engine is taken to be the same.
FRESH = 1.0

# Seconds for which it is taken to have a model in memory that it had. Nothing depends on it: an
# engine that has ended is noticed, and one that has let the model go loads it again.
LATELY = 10.0

# Seconds in which an idle engine of another version leaves.
_LEAVES_WITHIN = 3.0

logger = logging.getLogger("llm_tiered")


class GenerationEngine(Protocol):
    """What answers requests to local models, wherever it runs."""

    @property
    def budget(self) -> int | None:
        """The memory that models may use by default, in bytes, if that is known already."""

    def resident(self) -> dict[str, Path]:
        """Return the models that need no check, with their folders."""

    def submit(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Hand over a request, and return whether that was done, as `Engine.submit` does."""


class DistantEngine(GenerationEngine, Protocol):
    """An engine that runs elsewhere, with models of its own."""

    @property
    def is_here(self) -> bool:
        """Whether that is in other processes of this machine."""

    def check(self, name: str) -> None:
        """Raise ModelUnavailable if it is known that it can't use the model of this name."""


_elsewhere: ContextVar[DistantEngine | None] = ContextVar("engine", default=None)


def use(engine: DistantEngine | None) -> None:
    """Use an engine elsewhere for the further prompts of this asyncio task, or none again."""
    _elsewhere.set(engine)


def elsewhere() -> DistantEngine | None:
    """Return the engine elsewhere that prompts go to, if they do."""
    return _elsewhere.get()


def engine_for(model: str, limits: Limits) -> GenerationEngine:
    """Return the engine for a prompt; llm's command line starts one if none is running."""
    if distant := _elsewhere.get():
        return distant
    if not _is_shared(model, limits):
        return ENGINE
    shared = _SHARED.running()
    if shared is None and not _SHARED.begin(limits.keep_warm):
        return ENGINE
    return RemoteEngine(lambda cancelled: _SHARED.find(limits.keep_warm, cancelled), limits, shared)


def known_engine(model: str, limits: Limits) -> GenerationEngine | None:
    """Return the engine for a prompt without waiting for anything, if it is known to be warm.

    That is so if it had the model in memory a short time ago.
    """
    if elsewhere():
        return None
    if not _is_shared(model, limits):
        return ENGINE
    known = _SHARED.known(model)
    if known is None:
        return None
    return RemoteEngine(lambda cancelled: _SHARED.find(limits.keep_warm, cancelled), limits, known)


def fresh_engine(model: str, limits: Limits) -> GenerationEngine | RunningEngine | None:
    """Return what `running_engine` does, or None if it would ask an engine for that."""
    return _SHARED.fresh() if _is_shared(model, limits) else ENGINE


def running_engine(model: str, limits: Limits) -> GenerationEngine | RunningEngine:
    """Return the engine that has the model in memory, if any has; starts none."""
    if distant := _elsewhere.get():
        return distant
    shared = _SHARED.running() if _is_shared(model, limits) else None
    return shared or ENGINE


def shared_engine(keep_warm: float) -> RunningEngine | None:
    """Return the engine that all processes share, after starting one if none runs.

    None if none can be started, or if this process may start none.
    """
    return _SHARED.find(keep_warm, lambda: False)


def _is_shared(model: str, limits: Limits) -> bool:
    """Return whether the prompt goes to the shared engine, if there is one."""
    if limits.keep_warm == 0 or sys.platform == "win32":
        return False
    # A process forked from one that has used MLX can't use it.
    return device.was_forked() or model not in ENGINE.resident()


class _SharedEngine:
    """What this process knows of the shared engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[float, tuple[EngineFiles, ...], RunningEngine] | None = None
        self._starting: start.Starting | None = None
        # It is not tried again and again.
        self._has_failed = False

    def running(self) -> RunningEngine | None:
        """Return the engine if one runs that this process can talk to."""
        with self._lock:
            return self._running()

    def known(self, model: str) -> RunningEngine | None:
        """Return the engine if it has been seen lately with the model in its memory."""
        seen = self._seen
        if seen is None or time.monotonic() - seen[0] > LATELY or model not in seen[2].resident():
            return None
        try:
            return seen[2] if seen[1] == places() else None
        except OSError:
            return None

    def fresh(self) -> RunningEngine | None:
        """Return the engine if its status was asked for just now."""
        seen = self._seen
        return seen[2] if seen and time.monotonic() - seen[0] < FRESH else None

    def begin(self, keep_warm: float) -> bool:
        """Start an engine, and return whether that could be begun."""
        with self._lock:
            return self._begin(keep_warm)

    def find(self, keep_warm: float, is_cancelled: Callable[[], bool]) -> RunningEngine | None:
        """Return the engine, after waiting for one that is being started.

        None if there is none, or if the request was cancelled.
        """
        with self._lock:
            self._seen = None
            if engine := self._running():
                return engine
            starting = self._starting if self._begin(keep_warm) else None
        if starting is None:
            return None
        try:
            engine = starting.wait(is_cancelled)
        except start.StartError as error:
            self._fail(error)
            return None
        with self._lock:
            if self._starting is starting and engine:
                self._starting = None
        # One of another version may have been faster.
        return engine if engine and engine.is_ours else None

    def _running(self) -> RunningEngine | None:
        try:
            where = places()
        except OSError:
            return None
        if self._seen and self._seen[1] == where and time.monotonic() - self._seen[0] < FRESH:
            return self._seen[2]
        self._seen = None
        engine = client.running()
        if engine and not engine.is_ours:
            engine = _successor(engine) if self._may_start() else None
        if engine:
            self._seen = time.monotonic(), where, engine
            self._starting = None
        return engine

    def _begin(self, keep_warm: float) -> bool:
        if not self._may_start():
            return False
        if self._starting is None:
            try:
                self._starting = start.Starting(keep_warm)
            except start.StartError as error:
                self._warn(error)
        return not self._has_failed

    def _may_start(self) -> bool:
        if start.is_permitted() and not self._has_failed and is_outdated():
            # It could not talk to an engine that it starts, and would send away those of others.
            self._warn(start.StartError("the program has changed since this process was started"))
        return start.is_permitted() and not self._has_failed

    def _fail(self, error: start.StartError) -> None:
        with self._lock:
            self._starting = None
            self._warn(error)

    def _warn(self, error: start.StartError) -> None:
        if not self._has_failed:
            logger.warning(
                "models don't stay in memory, because the engine can't be started: %s", error
            )
        self._has_failed = True


def _successor(engine: RunningEngine) -> RunningEngine | None:
    """Ask an engine of another version to leave, and return one of ours, if another runs then."""
    leaves = client.leave(engine)
    ends = time.monotonic() + _LEAVES_WITHIN
    while leaves and time.monotonic() < ends:
        successor = client.running()
        if successor is None or successor.is_ours:
            return successor
        time.sleep(0.02)
    return None


_SHARED = _SharedEngine()


def _after_fork() -> None:
    # A thread of the parent may hold the lock.
    _SHARED.__init__()  # type: ignore[misc]  # nothing of the parent's state holds here


after_fork(_after_fork)
