"""A request on its way through the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ...errors import EngineError, TieredError
from .requests import Event, Failed, GenerationRequest, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

Emit: TypeAlias = "Callable[[Event], None]"


class Job:
    """A request, and what it needs to be answered. `ended` gives its place to another one."""

    def __init__(
        self,
        request: GenerationRequest,
        emit: Emit,
        ticket: Ticket,
        ended: Callable[[], object],
    ) -> None:
        self.request = request
        self.ticket = ticket
        self.ended = ended
        self._emit = emit

    def emit(self, event: Event) -> None:
        """Hand on an event. A receiver that fails, as a closed event loop does, only loses it."""
        try:
            self._emit(event)
        except Exception:
            self.ticket.cancel()

    def fail(self, error: Exception) -> None:
        """End the job with an error."""
        if not isinstance(error, TieredError):
            error = EngineError(f"{self.request.name}: {type(error).__name__}: {error}")
        # Whoever keeps the error would keep what the worker held when it was raised.
        error.__traceback__ = error.__context__ = None
        self.emit(Failed(error))
        self.ended()
