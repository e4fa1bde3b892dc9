"""`tiered` with the models of other plugins as tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import llm
import pytest

from llm_tiered.log.record import Record
from tests.router.services import refused_address

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

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


async def test_alias_of_another_plugin(ask: Ask, other: OtherPlugin) -> None:
    """The alias of a local model that another plugin has first means the same to a tier."""
    other.add("server/x", aliases=("qwen",))
    other.use("qwen")
    assert ask.model.model_id == "tiered"
    assert (await ask("Hello", tier="cloud")).resolved_model == "server/x"
    assert llm.get_model("qwen").model_id == "server/x"


async def test_alias_that_the_user_changes(
    ask: Ask, toys: Toys, other: OtherPlugin, user_path: Path
) -> None:
    """A tier follows `llm aliases set`, also in a process that goes on."""
    other.add("server/x")
    other.add("server/y")
    other.use("mine")
    for model in ("server/x", "server/y", "mlx/toy-small"):
        llm.set_alias("mine", model)
        assert (await ask("Hello", tier="cloud")).resolved_model == model
        assert llm.get_model("mine").model_id == model
