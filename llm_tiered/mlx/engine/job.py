"""A request on its way through the worker."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from ...errors import EngineError, TieredError
from .requests import Failed, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .requests import CancelToken, Event, GenerationRequest
    from .residency import ResidentModel

Emit: TypeAlias = "Callable[[Event], None]"
Choose: TypeAlias = "Callable[[list[ResidentModel]], Collection[str]]"


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
        self._ahead: int | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self.cancel_token.cancelled

    def emit(self, event: Event) -> None:
        """Send an event to the receiver, unless the request is cancelled.

        If the receiver raises, as a closed event loop does, it is.
        """
        if self.cancelled:
            return
        try:
            self._emit(event)
        except Exception:
            self.cancel_token.cancel()

    def report_waiting(self, ahead: int) -> None:
        """Say that so many others come first, unless that was said last."""
        if ahead != self._ahead:
            self._ahead = ahead
            self.emit(Waiting(ahead))

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        if not isinstance(error, TieredError):
            error = EngineError(f"{self.request.name}: {type(error).__name__}: {error}")
        # A traceback would keep the worker's objects alive for as long as the error is kept.
        error.__traceback__ = error.__context__ = None
        self.emit(Failed(error))
        self.release()


class Unload:
    """A wish to unload models that no job needs.

    `choose` gets them, the least recently used first, on the worker's thread, and returns the names
    of those that go; `unloaded` has them once they are gone.
    """

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.unloaded: Future[list[ResidentModel]] = Future()
