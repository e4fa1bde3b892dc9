"""The servers of a tier: which of them gets a request."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from .endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ..config.tiers import Tier


class Pool:
    """The servers of a tier."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)

    @contextmanager
    def lease(self, prefix: str) -> Iterator[Endpoint]:
        """Give a server for one request; what the block raises is what became of it.

        `prefix` stands for what the server may have read before.
        """
        yield self.endpoints[0]

    @asynccontextmanager
    async def lease_async(self, prefix: str) -> AsyncIterator[Endpoint]:
        """Async counterpart of `lease`."""
        yield self.endpoints[0]


def pool_of(tier: Tier) -> Pool:
    """Return the servers of a tier."""
    return Pool([Endpoint(address, tier.place == "here") for address in tier.server or ()])
