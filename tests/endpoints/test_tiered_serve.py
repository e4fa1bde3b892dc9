"""`llm tiered serve` as somebody else's server: a tier behind a tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.endpoints.scripted_server import ScriptedServer
from tests.server.conftest import running, start, toys
from tests.server.scripted import act
from tests.toys import TIERS, Ask

if TYPE_CHECKING:
    from types import ModuleType

    from tests.server.conftest import Running
    from tests.toys import Toys

__all__ = ["running", "toys"]

ID = "server/medium/tiered/small"


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, toys: Toys, running: Running, openai: ModuleType) -> Ask:
    """`tiered`, whose medium tier is the small one of a server."""
    toys.small.tools = toys.small.schemas = True
    vars(toys.small)["script"] = act
    medium = {"model": "tiered/small", "server": running.url}
    toys.configure(tiers=[TIERS[0], TIERS[1] | medium, TIERS[2]], log_api=False)
    return Ask(asynchronous=request.param)


async def test_answers(ask: Ask) -> None:
    """Words, thoughts, tokens and JSON come through."""
    said: dict[str, Any] = {"tier": "medium", "fallback": "none"}
    response = await ask("Hello", **said)
    assert (response.resolved_model, response.text_or_raise()) == (ID, "small answer")
    assert (response.input_tokens, response.output_tokens) == (5, 2)
    response = await ask("think", **said)
    kinds = [event.type for event in response._stream_events]
    assert kinds == ["reasoning", "text"]
    schema = {"type": "object", "required": ["name"], "properties": {"name": {}}}
    assert (await ask("dog", schema=schema, **said)).text_or_raise() == '{"name": "Rex"}'


async def test_tools(ask: Ask) -> None:
    """So do the calls of tools, and their results."""

    def add(a: int) -> int:
        """Add one."""
        return a + 1

    options = {"tier": "medium", "fallback": "none"}
    *_, last = await ask.finish(ask.model.chain("call two", tools=[add], options=options))
    assert last.text_or_raise() == "the results are ['2', '3']"


async def test_what_breaks_there(ask: Ask) -> None:
    """An answer that breaks off there has broken off here."""
    with pytest.raises(Exception, match=f"{ID} broke off its answer"):
        await ask("break", tier="medium", fallback="none")


@pytest.mark.parametrize(
    ("place", "answer"), [("here", "small answer"), ("own", "small answer"), ("cloud", "Hello")]
)
async def test_the_place_holds_there(
    ask: Ask, toys: Toys, running: Running, place: str, answer: str
) -> None:
    """A server that routes prompts itself sends them to its cloud only if the tier is there."""
    with ScriptedServer() as cloud:
        asked = TIERS[1] | {"model": "tiered/cloud", "server": running.url, "place": place}
        near = TIERS[0] | {"complexity": "5-7"}
        far = TIERS[2] | {"model": "big", "server": cloud.address, "place": "cloud"}
        toys.configure(tiers=[asked | {"complexity": "1-4"}, near, far], log_api=False)
        response = await ask("My diary", tier="medium", fallback="none")
        assert response.text_or_raise() == answer
        assert len(cloud.bodies) == (place == "cloud")


async def test_a_server_that_is_its_own_tier(
    ask: Ask, toys: Toys, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """A server notices that it asks itself, and another of its tiers answers."""
    medium = {"model": "tiered/medium", "server": running.url}
    toys.configure(tiers=[TIERS[0], TIERS[1] | medium, TIERS[2]], log_api=False)
    response = await ask("Hello", tier="medium", local_only=True)
    assert response.text_or_raise() == "small answer"
    assert caplog.text.count("this server asks itself") == 1


async def test_servers_in_a_row(ask: Ask, toys: Toys, running: Running) -> None:
    """A prompt may pass through several servers."""
    another = start()
    try:
        first = {"model": "tiered/cloud", "server": running.url}
        second = {"model": "tiered/small", "server": another.url, "place": "here"}
        toys.configure(tiers=[TIERS[0], TIERS[1] | first, TIERS[2] | second], log_api=False)
        response = await ask("Hello", tier="medium", fallback="none")
    finally:
        another.end()
    assert (response.resolved_model, response.text_or_raise()) == (
        "server/medium/tiered/cloud",
        "small answer",
    )
