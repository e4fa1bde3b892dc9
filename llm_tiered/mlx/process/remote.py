"""The shared engine, as its callers see it: like the engine of their own process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from ...errors import EngineError, TieredError
from ...forks import after_fork
from ..engine.engine import ENGINE, MAX_IN_FLIGHT
from ..engine.requests import Failed
from . import client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..engine.job import Emit
    from ..engine.requests import CancelToken, GenerationRequest, Limits
    from .client import RunningEngine

    Find: TypeAlias = Callable[[Callable[[], bool]], RunningEngine | None]

# How often a request is handed over: an engine may be about to leave just then.
_TRIES = 3


class RemoteEngine:
    """The engine that all processes share. `known` is what has just been seen of it.

    `find` returns it, after starting it if necessary, or None; it gets a function that tells
    whether the request was cancelled. Without a shared engine, this process's own answers.
    """

    def __init__(self, find: Find, limits: Limits, known: RunningEngine | None) -> None:
        self._find = find
        self._limits = limits
        self._known = known

    @property
    def budget(self) -> int | None:
        """The memory that models may use by default, in bytes, if that is known already."""
        return self._known.budget if self._known else None

    def resident(self) -> dict[str, Path]:
        """Return the models in its memory with their folders."""
        return self._known.resident() if self._known else {}

    def submit(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        *,
        wait: bool = True,
    ) -> bool:
        """Hand over a request, and return whether that was done, as `Engine.submit` does.

        `emit` receives the events on another thread, Done or Failed last.
        """
        if not _slots.acquire(blocking=wait):
            return False
        if not self._joins(request, emit, cancel_token):
            self._start(request, emit, cancel_token, self._known, _TRIES)
        return True

    def _joins(self, request: GenerationRequest, emit: Emit, cancel_token: CancelToken) -> bool:
        """Hand over a request if that takes no waiting, and so no thread."""
        if self._known is None:
            return False
        when_ended = self._when_ended(request, emit, cancel_token, _TRIES - 1)
        try:
            return client.join(
                self._known, request, self._limits.keep_warm, emit, cancel_token, when_ended
            )
        except TieredError as error:
            _slots.release()
            _report(emit, error)
            return True

    def _when_ended(
        self, request: GenerationRequest, emit: Emit, cancel_token: CancelToken, tries: int
    ) -> Callable[[bool], None]:
        def when_ended(may_be_repeated: bool) -> None:
            if may_be_repeated and not cancel_token.cancelled:
                self._start(request, emit, cancel_token, None, tries)
            else:
                _slots.release()

        return when_ended

    def _start(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        engine: RunningEngine | None,
        tries: int,
    ) -> None:
        thread = threading.Thread(
            target=self._begin,
            args=(request, emit, cancel_token, engine, tries),
            name="engine",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no more of them, or this process is exiting.
            _slots.release()
            _report(emit, EngineError(f"{request.name}: {error}"))

    def _begin(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        engine: RunningEngine | None,
        tries: int,
    ) -> None:
        """Hand over a request. From then on the engine's answer is read on another thread."""
        is_on_its_way = False
        try:
            while tries and not is_on_its_way and not cancel_token.cancelled:
                tries -= 1
                engine = engine or self._find(lambda: cancel_token.cancelled)
                if cancel_token.cancelled:
                    return
                if engine is None:
                    ENGINE.submit(request, emit, cancel_token)
                    return
                try:
                    when_ended = self._when_ended(request, emit, cancel_token, tries)
                    client.generate(
                        engine, request, self._limits.keep_warm, emit, cancel_token, when_ended
                    )
                    is_on_its_way = True
                except client.EngineGone:
                    engine = None
            if not is_on_its_way and not cancel_token.cancelled:
                raise EngineError("the engine ended each time before it began with the request")
        except TieredError as error:
            _report(emit, error)
        except Exception as error:
            _report(emit, EngineError(f"{request.name}: {type(error).__name__}: {error}"))
        finally:
            if not is_on_its_way:
                _slots.release()


def _report(emit: Emit, error: TieredError) -> None:
    # The receiver may be gone, as a closed event loop is.
    try:
        emit(Failed(error))
    except RuntimeError:
        return


def _new_slots() -> None:
    global _slots  # noqa: PLW0603 - a child process begins anew
    _slots = threading.BoundedSemaphore(MAX_IN_FLIGHT)


_slots = threading.BoundedSemaphore(MAX_IN_FLIGHT)
after_fork(_new_slots)
