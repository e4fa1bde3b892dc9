"""`tiered` with the models of other plugins as tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llm_tiered.log.record import Record
from tests.router.services import refused_address

if TYPE_CHECKING:
    from collections.abc import Generator

    import llm

    from tests.router.conftest import OtherPlugin
    from tests.stand_in import Action
    from tests.toys import Ask, Toys


def attempts(response: Any) -> list[tuple[str, str]]:
    """The model and the outcome of each attempt."""
    record = Record.from_json(response.response_json)
    assert record
    return [(attempt.model, attempt.outcome) for attempt in record.attempts]


def refused(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Ask a server that is not there."""
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.get(refused_address())
    yield caught.value


async def test_dead_server(ask: Ask, toys: Toys, other: OtherPlugin) -> None:
    """A server that is not there is asked once, and by the next prompt not at all."""
    other.add("server/x", refused)
    first = await ask("Hello", tier="cloud")
    second = await ask("Hello", tier="cloud")
    assert toys.delays == []
    assert attempts(first) == [("server/x", "failed"), ("mlx/toy-medium", "ok")]
    assert attempts(second) == [("server/x", "skipped"), ("mlx/toy-medium", "ok")]


async def test_next_cloud_tier(ask: Ask, other: OtherPlugin) -> None:
    """A cloud tier that fails is followed by the next one above it, not by the last."""
    other.add("a", refused)
    other.add("b")
    other.add("c")
    other.use("a", "b", "c")
    assert attempts(await ask("Hello", complexity=8)) == [("a", "failed"), ("b", "ok")]
