"""The answer to one request as it comes from the engine."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import EngineError
from ..engine.requests import Failed, Waiting
from . import crashes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.job import Emit
    from ..engine.requests import Event
    from .place import EngineFiles


class IncomingAnswer:
    """Passes on the events of an answer, Done or Failed last.

    `when_ended` is called at the end, with whether another engine may take the request: this one
    ended before it had begun with it. `instance` is the engine, and `name` the model.
    """

    def __init__(
        self,
        place: EngineFiles,
        instance: str,
        name: str,
        emit: Emit,
        when_ended: Callable[[bool], object],
    ) -> None:
        self._place = place
        self._instance = instance
        self._name = name
        self._emit = emit
        self._when_ended = when_ended
        self._works = False

    def take(self, event: Event) -> bool:
        """Pass on an event, and return whether that was possible."""
        self._works = self._works or not isinstance(event, Waiting)
        try:
            self._emit(event)
        except Exception:
            # The receiver is gone, as a closed event loop is, and other answers are read on.
            return False
        return True

    def end(self) -> None:
        """End it after its last event."""
        self._when_ended(False)

    def drop(self) -> None:
        """End it without an event: nobody waits for it, or another engine may take the request."""
        self._when_ended(True)

    def break_off(self, problem: str) -> None:
        """End it because its engine has ended; `problem` says how."""
        if not self._works:
            # Another model's answer has ended the engine.
            self.drop()
            return
        crashes.record(self._place, self._instance, self._name)
        error = EngineError(
            f"the engine {problem} while it answered with {self._name}",
            fix=f"its log: {self._place.log}",
        )
        with suppress(RuntimeError):
            self._emit(Failed(error))
        self.end()
