from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from llm_tiered.endpoints import outages, pool
from llm_tiered.endpoints.endpoint import Endpoint
from llm_tiered.endpoints.faults import Fault
from llm_tiered.endpoints.outages import FIRST_PAUSE, LONGEST_PAUSE, OUTAGES
from llm_tiered.endpoints.pool import CHECKS, PASSING_FAILURES, STAYS_UP_TO, Pool, running
from llm_tiered.errors import BusyServer, NotRunning

if TYPE_CHECKING:
    from llm_tiered.endpoints.outages import Proof

A, B, C = (Endpoint(f"http://{name}:8000") for name in "abc")

DOWN = Fault("down", "connection refused")
SILENT = Fault("silent", "gave no answer in time")
PASSING = Fault("passing", "HTTP 500")


class Failure(Exception):
    """The error of a server with a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


@pytest.fixture(autouse=True)
def _faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "fault_of", lambda error: getattr(error, "fault", None))


class Clock:
    """The time, for outages and for the load."""

    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still, and no requests of other tests."""
    clock = Clock()
    monkeypatch.setattr(outages, "now", lambda: clock.now)
    monkeypatch.setattr(pool, "monotonic", lambda: clock.now)
    monkeypatch.setattr(pool, "_LOADS", defaultdict(pool._Load))
    return clock


class Check:
    """Checks whether a server is back: all are, except those in `gone`."""

    def __init__(self) -> None:
        self.gone: set[Endpoint] = set()
        self.asked: list[tuple[Endpoint, str]] = []

    def __call__(self, endpoint: Endpoint, proof: Proof) -> str | None:
        """Say that the server is back, or why not."""
        self.asked.append((endpoint, proof))
        return "still down" if endpoint in self.gone else None


@pytest.fixture
def check() -> Check:
    """The check whether a server is back."""
    return Check()


@pytest.fixture
def three(check: Check) -> Pool:
    """A tier with three servers."""
    return Pool([A, B, C], check)


def ask(servers: Pool, prefix: str = "x", fault: Fault | None = None) -> Endpoint:
    """The server that gets a request, which fails with the fault if there is one."""
    with suppress(Failure), servers.lease(prefix) as endpoint:
        if fault:
            raise Failure(fault)
    return endpoint


def fail(servers: Pool, endpoint: Endpoint, fault: Fault) -> None:
    """Let a request to this server fail."""
    others = [each for each in servers.endpoints if each != endpoint]
    with suppress(Failure), servers.lease("fails", without=others):
        raise Failure(fault)


# Which server


def test_least_busy_first(three: Pool) -> None:
    """Requests that run at the same time are spread evenly."""
    with ExitStack() as leases:
        got = Counter(leases.enter_context(three.lease(f"{number}")) for number in range(30))
        assert set(got.values()) == {10}
        assert [running(each) for each in (A, B, C)] == [10, 10, 10]
    assert [running(each) for each in (A, B, C)] == [0, 0, 0]


def test_two_tiers_on_one_server(three: Pool, check: Check) -> None:
    """The requests of another tier count, too."""
    with Pool([A], check).lease("x"), Pool([B], check).lease("x"), three.lease("y") as endpoint:
        assert endpoint == C


def test_conversation_stays(three: Pool) -> None:
    """A conversation goes to the server that has read it, though others are less busy."""
    reader = ask(three, "talk")
    others = [each for each in three.endpoints if each != reader]
    with ExitStack() as leases:
        for number in range(STAYS_UP_TO):
            leases.enter_context(three.lease(f"{number}", without=others))
        assert ask(three, "talk") == reader
        leases.enter_context(three.lease("one more", without=others))
        assert ask(three, "talk") != reader


def test_other_processes_choose_alike(check: Check) -> None:
    """With nothing running, a conversation has one server for all processes, in any order."""
    chosen = {
        prefix: {ask(Pool(order, check), prefix) for order in ([A, B, C], [C, A, B])}
        for prefix in map(str, range(50))
    }
    assert {len(each) for each in chosen.values()} == {1}
    assert len(set.union(*chosen.values())) == 3


def test_lost_server_moves_only_its_own(check: Check) -> None:
    """If a server is taken away, the conversations of the others stay where they are."""
    prefixes = [*map(str, range(50))]
    before = {prefix: ask(Pool([A, B, C], check), prefix) for prefix in prefixes}
    after = {prefix: ask(Pool([A, B], check), prefix) for prefix in prefixes}
    assert all(after[each] == before[each] for each in prefixes if before[each] != C)


def test_memory_is_bounded(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest conversations are forgotten."""
    monkeypatch.setattr(pool, "REMEMBERED", 10)
    servers = Pool([A, B], check)
    for number in range(100):
        ask(servers, f"{number}")
    assert [*servers._readers] == [f"{number}" for number in range(90, 100)]


# Failures


def test_refused_server_is_left_alone(three: Pool, check: Check) -> None:
    """A server that refuses gets no request, in this process and in others."""
    fail(three, A, DOWN)
    assert {ask(each, str(n)) for n in range(20) for each in (three, Pool([A, B], check))} == {B, C}
    assert check.asked == []


def test_request_moves_on(three: Pool) -> None:
    """A request that failed at a server is made to another one, even if that fault passes."""
    first = ask(three, fault=PASSING)
    with three.lease("x", without=[first]) as second:
        assert second != first
    assert ask(three) == second


def test_all_are_down(check: Check, clock: Clock) -> None:
    """If all servers are left alone, none is asked, and the error has the reasons."""
    servers = Pool([A, B], check)
    fail(servers, A, DOWN)
    fail(servers, B, SILENT)
    why = (
        f"left alone for 5 s more after: {A.address}: connection refused; "
        f"{B.address}: gave no answer in time"
    )
    error = servers.left_alone()
    assert error
    assert error.message == why
    with pytest.raises(NotRunning) as raised:
        ask(servers)
    assert raised.value.message == why
    assert check.asked == []
    clock.now += FIRST_PAUSE
    assert servers.left_alone() is None


def test_one_of_them_is_up(three: Pool) -> None:
    """As long as one server is up, the tier is."""
    fail(three, A, DOWN)
    fail(three, B, DOWN)
    assert three.left_alone() is None


def test_passing_faults(check: Check) -> None:
    """A single server is asked again after a passing fault, but not after several in a row."""
    servers = Pool([A], check)
    for _ in range(PASSING_FAILURES - 1):
        ask(servers, fault=PASSING)
        assert servers.left_alone() is None
    ask(servers)
    for _ in range(PASSING_FAILURES):
        assert servers.left_alone() is None
        ask(servers, fault=PASSING)
    assert isinstance(servers.left_alone(), NotRunning)


def test_shaky_server_comes_last(three: Pool, clock: Clock) -> None:
    """After a passing fault others are preferred for some seconds."""
    fail(three, A, PASSING)
    assert A not in {ask(three, f"at once {number}") for number in range(20)}
    clock.now += FIRST_PAUSE
    assert A in {ask(three, f"later {number}") for number in range(20)}


def test_requests_that_fail_together_are_one_failure(check: Check, clock: Clock) -> None:
    """If a server dies under many requests, it is not left alone for longer than after one."""
    servers = Pool([A, B], check)
    with suppress(Failure), ExitStack() as leases:
        for number in range(50):
            leases.enter_context(servers.lease(f"{number}", without=[B]))
        clock.now += 1
        raise Failure(DOWN)
    outage = OUTAGES.find(A.address)
    assert outage
    assert outage.failures == 1


def test_server_that_asks_to_wait(check: Check, clock: Clock) -> None:
    """A server is asked again after the time that it tells, without any check."""
    servers = Pool([A], check)
    ask(servers, fault=Fault("busy", "HTTP 429", 30.0))
    clock.now += 29
    with pytest.raises(BusyServer, match="left alone for 1 s more after") as error:
        ask(servers)
    assert error.value.retry_after == 1.0
    clock.now += 1
    assert ask(servers) == A
    assert (check.asked, OUTAGES.find(A.address)) == ([], None)


def test_fault_of_the_request_says_nothing(three: Pool) -> None:
    """An error that any server would give changes nothing."""
    with pytest.raises(ValueError, match="wrong"), three.lease("x") as endpoint:
        raise ValueError("wrong")
    assert ask(three, "x") == endpoint
    assert OUTAGES.find(endpoint.address) is None


# The way back


def test_back_after_its_check(check: Check, clock: Clock) -> None:
    """The only server is checked before the request, and used if it is back."""
    servers = Pool([A], check)
    fail(servers, A, DOWN)
    clock.now += FIRST_PAUSE
    assert ask(servers) == A
    assert (check.asked, OUTAGES.find(A.address)) == ([(A, "health")], None)


def test_not_back_yet(check: Check, clock: Clock) -> None:
    """A server that is still down is left alone for longer, and its check's reason is told."""
    servers = Pool([A], check)
    check.gone = {A}
    fail(servers, A, DOWN)
    clock.now += FIRST_PAUSE
    for _ in range(3):
        with pytest.raises(NotRunning, match=r"left alone for 10 s more after: .*: still down"):
            ask(servers)
    assert len(check.asked) == 1


def test_hung_server_has_to_answer(check: Check, clock: Clock) -> None:
    """A server that was silent has to answer a prompt, not only a health check."""
    servers = Pool([A], check)
    fail(servers, A, SILENT)
    clock.now += LONGEST_PAUSE
    ask(servers)
    assert check.asked == [(A, "answer")]


def test_checked_beside_the_request(three: Pool, check: Check, clock: Clock) -> None:
    """While another server is up, requests go ahead, and one check runs beside them."""
    going = threading.Event()

    def is_back(endpoint: Endpoint, proof: Proof) -> str | None:
        going.wait()
        return check(endpoint, proof)

    three._is_back = is_back
    fail(three, A, DOWN)
    clock.now += FIRST_PAUSE
    assert A not in {ask(three, f"at once {number}") for number in range(20)}
    going.set()
    for thread in threading.enumerate():
        if thread.name == CHECKS:
            thread.join()
    assert check.asked == [(A, "health")]
    assert A in {ask(three, f"later {number}") for number in range(20)}


def test_answer_shows_that_it_is_back(three: Pool, clock: Clock) -> None:
    """A request that was running ends an outage by being answered."""
    with suppress(NotRunning), three.lease("x", without=[B, C]):
        fail(three, A, DOWN)
    assert OUTAGES.find(A.address) is None


# asyncio


def test_async_requests(check: Check, clock: Clock) -> None:
    """Asyncio gets the same: the best server, a fault, a check in a thread."""

    async def run() -> list[Endpoint]:
        servers, got = Pool([A, B], check), []
        with suppress(Failure):
            async with servers.lease_async("x", without=[B]):
                raise Failure(DOWN)
        for seconds in (0.0, FIRST_PAUSE):
            clock.now += seconds
            async with servers.lease_async("x", without=[A] if not seconds else [B]) as endpoint:
                got.append(endpoint)
        return got

    assert asyncio.run(run()) == [B, A]


def test_concurrency(check: Check) -> None:
    """A tier makes no more requests at once than it may; the rest wait."""

    async def run() -> int:
        servers, most = Pool([A, B], check, concurrency=4), 0

        async def one(number: int) -> None:
            nonlocal most
            async with servers.lease_async(f"{number}"):
                most = max(most, running(A) + running(B))
                await asyncio.sleep(0)

        await asyncio.gather(*map(one, range(20)))
        return most

    assert asyncio.run(run()) == 4
