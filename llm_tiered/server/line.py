"""How many requests are answered at the same time, and how all of them are stopped."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from .failure import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Requests at the same time. Local models batch them, and more would only wait inside the engine.
MOST = 128

# Seconds after which a client that was sent away may come again.
_RETRY_AFTER = 5


@dataclass(eq=False)
class Place:
    """The place of one request; cancelling its scope cancels the answer."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    was_stopped: bool = False


class Line:
    """The requests that are being answered."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._places: set[Place] = set()
        self._is_stopping = False

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Take a place for the block. Raises ApiError if there is none."""
        if self._is_stopping:
            raise ApiError(503, "the server is stopping", code="stopping")
        if len(self._places) >= self._most:
            raise ApiError(
                429,
                f"{self._most} requests are being answered; come again in {_RETRY_AFTER} s",
                code="too_many_requests",
                headers={"retry-after": str(_RETRY_AFTER)},
            )
        place = Place()
        self._places.add(place)
        try:
            yield place
        finally:
            self._places.discard(place)

    def stop(self) -> None:
        """End all answers, and give none any more."""
        self._is_stopping = True
        for place in self._places:
            place.was_stopped = True
            place.scope.cancel()
