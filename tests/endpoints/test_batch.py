"""A batch whose rows go to the servers of a tier."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.batch.limits import limit
from llm_tiered.endpoints.pool import DEFAULT_CONCURRENCY
from tests.batch.running import Run
from tests.endpoints.conftest import serve
from tests.endpoints.scripted_server import ScriptedServer, cut, hello, refused, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.endpoints.scripted_server import Handler, Reply
    from tests.toys import Toys

pytestmark = pytest.mark.usefixtures("openai", "new_process")

ROWS = 50


@pytest.fixture
def two(toys: Toys) -> Iterator[list[ScriptedServer]]:
    """Two servers of the medium tier."""
    with ScriptedServer() as first, ScriptedServer() as second:
        serve(toys, first, server=[first.address, second.address])
        toys.configure(fallback="none")
        yield [first, second]


class Meter:
    """A reply that notes how many requests run at the same time."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, handler: Handler) -> None:
        """Reply, after a moment."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        handler.scripted.release.wait(0.01)
        with self._lock:
            self.running -= 1
        hello(handler)


def batch(number: int = ROWS) -> Run:
    """A batch for the medium tier, with the limits that the command sets."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"Row {row}", "complexity": 6} for row in range(number)
    ]
    model = limit(llm.get_async_model("tiered"), 2, None, 60.0)
    return Run(*rows, model=model, concurrency=2)


async def test_rows_are_spread(two: list[ScriptedServer]) -> None:
    """Both servers get about as many rows, and each as many at a time as is usual."""
    meters = [Meter(), Meter()]
    for server, meter in zip(two, meters, strict=True):
        server.say(*[meter] * ROWS)
    run = batch()
    await run()
    assert Counter(run.texts()) == {"Hello": ROWS}
    assert all(abs(len(server.bodies) - ROWS / 2) <= DEFAULT_CONCURRENCY for server in two)
    assert all(1 < meter.most <= DEFAULT_CONCURRENCY + 1 for meter in meters)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_concurrency(two: list[ScriptedServer], toys: Toys, concurrency: int) -> None:
    """The servers of a tier get no more rows at a time than the config says."""
    serve(toys, two[0], server=[each.address for each in two], concurrency=concurrency)
    meter = Meter()
    for server in two:
        server.say(*[meter] * ROWS)
    await batch(20)()
    assert meter.most == concurrency


@pytest.mark.parametrize("broken", [refused(500, "out of order"), cut(*text("Hel"))])
async def test_no_row_is_lost(two: list[ScriptedServer], broken: Reply) -> None:
    """If one of two servers breaks off, before or in the middle of answers, all rows are answered.

    Nobody has seen half of an answer, so the other server may begin again.
    """
    two[0].say(*[hello] * 5, *[broken] * ROWS)
    run = batch()
    await run()
    assert Counter(run.texts()) == {"Hello": ROWS}
    assert [answer["line"] for answer in run.answers()] == list(range(1, ROWS + 1))


async def test_busy_server_is_waited_for(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for the only server if it asks for that, and go to no other tier."""
    monkeypatch.setattr("llm_tiered.batch.waiting.DELAYS", (0.0,))
    with ScriptedServer() as server:
        serve(toys, server)
        server.say(refused(429, "too many", retry_after="0"))
        run = batch(10)
        await run()
    assert Counter(run.texts()) == {"Hello": 10}
    assert {answer["tier"] for answer in run.answers()} == {"medium"}
