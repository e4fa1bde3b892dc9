"""A tier with several servers, or with one that is gone, through `tiered`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.endpoints import outages
from llm_tiered.endpoints.outages import FIRST_PAUSE, OUTAGES, Outage
from llm_tiered.errors import BrokenAnswer
from llm_tiered.log.record import Record
from tests.endpoints.conftest import forget, serve
from tests.endpoints.scripted_server import ID, ScriptedServer, cut, hello, refused, says, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.endpoints.scripted_server import Handler, Reply
    from tests.toys import Ask, Toys

pytestmark = pytest.mark.usefixtures("openai", "new_process")


@contextmanager
def gone(toys: Toys) -> Iterator[ScriptedServer]:
    """The only server of the medium tier, which has ended."""
    with ScriptedServer() as scripted:
        pass
    serve(toys, scripted)
    yield scripted


def in_turn(replies: Iterator[Reply]) -> Reply:
    """The next of the replies, whichever server is asked."""

    def reply(handler: Handler) -> None:
        next(replies)(handler)

    return reply


def attempts(response: Any) -> list[tuple[str, str, str | None]]:
    """What became of each attempt."""
    record = Record.from_json(response.response_json)
    assert record
    return [(each.model, each.outcome, each.reason) for each in record.attempts]


async def test_next_server_answers(ask: Ask, two: list[ScriptedServer], toys: Toys) -> None:
    """If a server fails, another one answers at once, and the reason is logged."""
    replies = iter([refused(500, "out of order"), hello])
    for server in two:
        server.say(in_turn(replies))
    response = await ask("Say hello.", tier="medium")
    assert response.text_or_raise() == "Hello"
    # The attempt has no reason, or it would count as a fallback.
    assert attempts(response) == [(ID, "ok", None)]
    assert toys.delays == []
    [reason] = response.response_json["response"]["failed_servers"]
    assert reason in {f"{server.address}: HTTP 500" for server in two}


async def test_one_is_gone(ask: Ask, toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    """If one of two servers is gone, all prompts are answered, and one line says so."""
    with ScriptedServer() as there:
        with ScriptedServer() as ended:
            pass
        serve(toys, there, server=[ended.address, there.address])
        for number in range(20):
            response = await ask(f"Say hello to {number}.", tier="medium")
            assert response.text_or_raise() == "Hello"
    [line] = caplog.messages
    assert line.startswith(f"{ended.address} can't be reached")
    assert line.endswith("(left alone for 5 s)")
    assert len(there.bodies) == 20


async def test_conversation_stays(ask: Ask, two: list[ScriptedServer], toys: Toys) -> None:
    """All turns of a conversation go to the same server."""
    conversation = ask.model.conversation()
    for number in range(6):
        await ask(f"Turn {number}", to=conversation, tier="medium")
    assert sorted(len(server.bodies) for server in two) == [0, 6]


async def test_dead_server_costs_the_next_process_nothing(
    ask: Ask, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that failed in one process is skipped by the next, where another tier answers."""
    moment = outages.now()
    monkeypatch.setattr(outages, "now", lambda: moment)
    with gone(toys) as server:
        first = await ask("Say hello.", tier="medium")
        forget(monkeypatch)
        second = await ask("Say hello.", tier="medium")
    [(_, failed, why), _] = attempts(first)
    [(_, skipped, reason), (answered, _, _)] = attempts(second)
    assert (failed, skipped, answered) == ("failed", "skipped", "mlx/toy-small")
    assert reason == f"left alone for 5 s more after: {why}"
    assert server.address in str(why)


async def test_back_again(ask: Ask, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was restarted is asked again once its pause is over."""
    with ScriptedServer() as server:
        serve(toys, server)
        OUTAGES.note(server.address, Outage("connection refused", outages.now() + FIRST_PAUSE))
        first = await ask("Say hello.", tier="medium")
        assert first.text_or_raise() == "small answer"
        later = outages.now() + FIRST_PAUSE
        monkeypatch.setattr(outages, "now", lambda: later)
        second = await ask("Say hello.", tier="medium")
        assert second.text_or_raise() == "Hello"
        assert server.paths == ["/health", "/v1/models", "/v1/chat/completions"]


async def test_lost_in_the_middle(ask: Ask, two: list[ScriptedServer]) -> None:
    """No other server completes an answer that breaks off after its first words."""
    for server in two:
        server.say(cut(*text("Hel")))
    with pytest.raises(BrokenAnswer, match="broke off its answer"):
        await ask("Say hello.", tier="medium")
    assert sum(len(server.bodies) for server in two) == 1


async def test_lost_behind_a_schema(ask: Ask, two: list[ScriptedServer]) -> None:
    """An answer that nobody has seen yet is asked for again, from the other server."""
    replies = iter([cut(*text('{"na')), says('{"name": "x"}')])
    for server in two:
        server.say(in_turn(replies))
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    response = await ask("Say hello.", tier="medium", schema=schema)
    assert response.text_or_raise() == '{"name": "x"}'
