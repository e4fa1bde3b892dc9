"""A request on its way through the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ...errors import EngineError, TieredError
from .requests import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .requests import CancelToken, Event, GenerationRequest

Emit: TypeAlias = "Callable[[Event], None]"


class Job:
    """A request, the receiver of its events, and its slot among the requests in flight.

    `release` frees the slot: call it once, when the request has ended.
    """

    def __init__(
        self,
        request: GenerationRequest,
        emit: Emit,
        cancel_token: CancelToken,
        release: Callable[[], object],
    ) -> None:
        self.request = request
        self.cancel_token = cancel_token
        self.release = release
        self._emit = emit

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self.cancel_token.cancelled

    def emit(self, event: Event) -> None:
        """Send an event to the receiver. If the receiver raises, the request is cancelled.

        A closed event loop does so, for example.
        """
        try:
            self._emit(event)
        except Exception:
            self.cancel_token.cancel()

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        if not isinstance(error, TieredError):
            error = EngineError(f"{self.request.name}: {type(error).__name__}: {error}")
        # A traceback would keep the worker's objects alive for as long as the error is kept.
        error.__traceback__ = error.__context__ = None
        self.emit(Failed(error))
        self.release()
