from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints import pool
from llm_tiered.endpoints.endpoint import Endpoint
from llm_tiered.endpoints.failover import Failover
from llm_tiered.endpoints.pool import Pool
from llm_tiered.errors import LostServer, NotRunning, RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

A, B = Endpoint("http://a:8000"), Endpoint("http://b:8000")

REFUSED = {each: NotRunning(f"{each.address} refused", fix="start it") for each in (A, B)}


class Unavailable(Exception):
    """The error of a library for a status."""

    status_code = 503


# What a server does with a request: pieces of the answer, and an error at its end.
Script = list[str | Exception]


@pytest.fixture(autouse=True)
def _no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LOADS", defaultdict(pool._Load))


def servers(*endpoints: Endpoint) -> Failover:
    """A request to these servers."""
    return Failover(Pool(endpoints, lambda *_: None), "x")


def scripted(scripts: dict[Endpoint, Script]) -> Callable[[Endpoint], Generator[str, None, None]]:
    """What asks a server."""

    def ask(endpoint: Endpoint) -> Generator[str, None, None]:
        for piece in scripts[endpoint]:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return ask


def scripted_async(
    scripts: dict[Endpoint, Script],
) -> Callable[[Endpoint], AsyncGenerator[str, None]]:
    """What asks a server, for asyncio."""

    async def ask(endpoint: Endpoint) -> AsyncGenerator[str, None]:
        for piece in scripted(scripts)(endpoint):
            yield piece

    return ask


def collect(failover: Failover, scripts: dict[Endpoint, Script], how: str) -> list[str]:
    """The answer to a request."""
    if how == "sync":
        return [*failover.events(scripted(scripts))]

    async def run() -> list[str]:
        return [piece async for piece in failover.events_async(scripted_async(scripts))]

    return asyncio.run(run())


both = pytest.mark.parametrize("how", ["sync", "async"])


def failing(error: Sequence[Exception]) -> dict[Endpoint, Script]:
    """Servers of which the first that is asked fails, whichever it is."""
    errors = iter(error)

    class Once(dict[Endpoint, Script]):
        def __missing__(self, endpoint: Endpoint) -> Script:
            failure = next(errors, None)
            return [failure] if failure else ["Hel", "lo"]

    return Once()


@both
@pytest.mark.parametrize("error", [REFUSED[A], Unavailable(), ConnectionResetError()])
def test_next_server_answers(how: str, error: Exception) -> None:
    """If a server fails before its first word, the other one is asked, and it is told why."""
    request = servers(A, B)
    assert collect(request, failing([error]), how) == ["Hel", "lo"]
    [reason] = request.failed.values()
    assert "http://" in reason


@both
def test_error_of_the_request(how: str) -> None:
    """What any server would say is raised at once."""
    request = servers(A, B)
    with pytest.raises(RequestError, match="too long"):
        collect(request, failing([RequestError("too long")]), how)
    assert request.failed == {}


@both
def test_all_refuse(how: str) -> None:
    """If none can be reached, the reason names all of them."""
    with pytest.raises(NotRunning) as error:
        collect(servers(A, B), {each: [REFUSED[each]] for each in (A, B)}, how)
    assert sorted(error.value.message.split("; ")) == [
        "http://a:8000 refused",
        "http://b:8000 refused",
    ]
    assert error.value.fix == "start it"


@both
def test_passing_error_is_raised(how: str) -> None:
    """If one of the errors passes, it is the one that the chain learns of."""
    with pytest.raises(Unavailable):
        collect(servers(A, B), {A: [REFUSED[A]], B: [Unavailable()]}, how)


@both
def test_second_is_left_alone(how: str) -> None:
    """If the only other server is left alone, both reasons are told."""
    request = servers(A, B)
    with pytest.raises(NotRunning):
        collect(servers(B), {B: [REFUSED[B]]}, how)
    with pytest.raises(NotRunning) as error:
        collect(request, {A: [REFUSED[A]]}, how)
    assert error.value.message.startswith("http://a:8000 refused; left alone for ")
    assert error.value.message.endswith("http://b:8000 refused")


@both
def test_single_server(how: str) -> None:
    """The error of the only server is raised as it is."""
    error = Unavailable()
    with pytest.raises(Unavailable) as raised:
        collect(servers(A), {A: [error]}, how)
    assert raised.value is error


@both
def test_lost_in_the_middle(how: str) -> None:
    """After the first word no other server continues, and the error says what happened."""
    request = servers(A, B)
    with pytest.raises(LostServer, match="the connection broke"):
        collect(request, {each: ["Hel", ConnectionResetError()] for each in (A, B)}, how)
    assert request.failed == {}


def test_reader_leaves() -> None:
    """If the reader goes, the request to the server ends, and the server is free again."""
    ended = []

    def ask(endpoint: Endpoint) -> Generator[str, None, None]:
        try:
            yield "Hel"
            yield "lo"
        finally:
            ended.append(endpoint)

    events = servers(A).events(ask)
    assert next(events) == "Hel"
    assert pool.running(A) == 1
    events.close()
    assert (ended, pool.running(A)) == ([A], 0)
