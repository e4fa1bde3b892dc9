"""A server and the engine: a request that has started an engine makes the server keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import httpx
import pytest

from tests.server.conftest import Client, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_tiered.mlx.process.lease import Lease
    from tests.toys import Toys


class FakeLease:
    """A lease that counts how often it is renewed."""

    def __init__(self) -> None:
        self.is_held = False
        self.renewed = 0

    def renew(self) -> None:
        """Count."""
        self.renewed += 1


@pytest.fixture
def lease() -> FakeLease:
    """A lease on an engine that has died."""
    return FakeLease()


@pytest.fixture
def client(lease: FakeLease, toys: Toys) -> Iterator[Client]:
    """A client of a server with that lease."""
    running = start(lease=cast("Lease", lease))
    with httpx.Client(base_url=running.url, trust_env=False, timeout=20) as http:
        yield Client(http)
    running.end()


def test_renewed_after_a_request(client: Client, lease: FakeLease) -> None:
    """What only looks starts no engine; what asks a model may have."""
    assert client.http.get("/health").is_success
    assert lease.renewed == 0
    client.chat()
    client.events()
    # The last answer is complete once the next one has begun.
    client.http.get("/health")
    assert lease.renewed == 2
    lease.is_held = True
    client.chat()
    client.http.get("/health")
    assert lease.renewed == 2
