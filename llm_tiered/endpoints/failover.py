"""A request to a tier's servers, one after the other, until one of them answers."""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

from ..errors import LostServer, ModelUnavailable, NotRunning, TieredError
from .faults import fault_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from .endpoint import Endpoint
    from .pool import Pool

Event = TypeVar("Event")
Ask: TypeAlias = "Callable[[Endpoint], Generator[Event, None, None]]"
AskAsync: TypeAlias = "Callable[[Endpoint], AsyncGenerator[Event, None]]"


class Failover:
    """One request to the servers of a pool.

    `prefix` is that of `Pool.lease`. `failed` are the servers that did not answer, and why.
    """

    def __init__(self, pool: Pool, prefix: str) -> None:
        self.failed: dict[Endpoint, str] = {}
        self._pool = pool
        self._prefix = prefix
        self._errors: list[Exception] = []
        self._endpoint: Endpoint | None = None

    def events(self, ask: Ask[Event]) -> Generator[Event, None, None]:
        """Yield the answer of the first server that begins one.

        Raises an error of a server, or LostServer if one failed in the middle of its answer.
        """
        ended = False
        while not ended:
            begun, self._endpoint = False, None
            try:
                with self._pool.lease(self._prefix, without=self.failed) as endpoint:
                    self._endpoint = endpoint
                    with closing(ask(endpoint)) as events:
                        for event in events:
                            begun = True
                            yield event
                ended = True
            except Exception as error:
                self._go_on_after(error, begun=begun)

    async def events_async(self, ask: AskAsync[Event]) -> AsyncGenerator[Event, None]:
        """Async counterpart of `events`."""
        ended = False
        while not ended:
            begun, self._endpoint = False, None
            try:
                async with self._pool.lease_async(self._prefix, without=self.failed) as endpoint:
                    self._endpoint = endpoint
                    async with aclosing(ask(endpoint)) as events:
                        async for event in events:
                            begun = True
                            yield event
                ended = True
            except Exception as error:
                self._go_on_after(error, begun=begun)

    def _go_on_after(self, error: Exception, *, begun: bool) -> None:
        """Return if another server may answer in place of the one that failed, else raise."""
        self._errors.append(error)
        fault = fault_of(error)
        if begun and fault:
            raise LostServer(_reason(error, fault.reason)) from error
        if self._endpoint is None or fault is None:
            self._give_up(error)
        self.failed[self._endpoint] = _reason(error, f"{self._endpoint.address}: {fault.reason}")
        if self.failed.keys() >= set(self._pool.endpoints):
            self._give_up(error)

    def _give_up(self, error: Exception) -> NoReturn:
        summary = self._summary()
        if summary is error:
            raise error
        raise summary from error

    def _summary(self) -> Exception:
        """The error for all that failed: one that a retry may help, if there is any."""
        first, *others = self._errors
        if not others:
            return first
        passing = [each for each in self._errors if not isinstance(each, ModelUnavailable)]
        if passing:
            return passing[-1]
        reasons = dict.fromkeys(_reason(each, str(each)) for each in self._errors)
        return NotRunning("; ".join(reasons), fix=getattr(first, "fix", None))


def _reason(error: Exception, otherwise: str) -> str:
    """An error's own message, if it is one for people."""
    return error.message if isinstance(error, TieredError) else otherwise
