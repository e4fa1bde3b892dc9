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


@pytest.fixture
def two(toys: Toys) -> Iterator[list[ScriptedServer]]:
    """Two servers of the medium tier."""
    with ScriptedServer() as first, ScriptedServer() as second:
        serve(toys, first, server=[first.address, second.address])
        yield [first, second]


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
    """A server that fails is not waited for: another one answers, and the reason is kept."""
    replies = iter([refused(500, "out of order"), hello])
    for server in two:
        server.say(in_turn(replies))
    response = await ask("Say hello.", tier="medium")
    assert response.text_or_raise() == "Hello"
    # An attempt with a reason counts as one that fell back.
    assert attempts(response) == [(ID, "ok", None)]
    assert toys.delays == []
    [reason] = response.response_json["response"]["failed_servers"]
    assert reason in {f"{server.address}: HTTP 500" for server in two}


async def test_one_is_gone(ask: Ask, toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    """If one of two servers is gone, no answer is lost, one line tells it, and it has no more."""
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
    """What one process has found out, the next one knows, and asks another tier at once."""
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
    """A server that was started again is noticed in the same process, within seconds."""
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


async def test_server_that_asks_to_wait(
    ask: Ask, toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only server is waited for, if that takes some seconds, as a service in the cloud is."""
    began = outages.now()
    monkeypatch.setattr(outages, "now", lambda: began + sum(toys.delays))
    with ScriptedServer() as server:
        serve(toys, server)
        server.say(refused(429, "too many", retry_after="5"), hello)
        response = await ask("Say hello.", tier="medium")
    assert toys.delays == [5.0]
    assert [outcome for _, outcome, _ in attempts(response)] == ["ok"]


async def test_lost_in_the_middle(ask: Ask, two: list[ScriptedServer]) -> None:
    """After its first words, no other server completes the answer of one that breaks off."""
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
