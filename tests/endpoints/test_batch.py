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
    from tests.endpoints.scripted_server import Handler, Reply
    from tests.toys import Toys

pytestmark = pytest.mark.usefixtures("openai", "new_process")

ROWS = 50


@pytest.fixture(autouse=True)
def _no_fallback(toys: Toys) -> None:
    toys.configure(fallback="none")


class Meter:
    """A reply that counts the requests that run at the same time.

    It waits until there have been as many as `expected`, and then for a moment, in which more of
    them would be noticed.
    """

    def __init__(self, expected: int) -> None:
        self.running = self.most = 0
        self._expected = expected
        self._changed = threading.Condition()

    def __call__(self, handler: Handler) -> None:
        """Reply."""
        with self._changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self._expected, timeout=10)
        handler.scripted.release.wait(0.01)
        with self._changed:
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
    """Both servers get about as many rows, and each up to the default number at a time."""
    meters = [Meter(2), Meter(2)]
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
    meter = Meter(concurrency)
    for server in two:
        server.say(*[meter] * ROWS)
    await batch(20)()
    assert meter.most == concurrency


@pytest.mark.parametrize(
    "broken", [refused(500, "out of order"), cut(*text("Hel"))], ids=["before", "amid"]
)
async def test_no_row_is_lost(two: list[ScriptedServer], broken: Reply) -> None:
    """If one server fails, before or in the middle of answers, the other one answers its rows."""
    two[0].say(*[hello] * 5, *[broken] * ROWS)
    run = batch()
    await run()
    assert Counter(run.texts()) == {"Hello": ROWS}
    assert [answer["line"] for answer in run.answers()] == list(range(1, ROWS + 1))


async def test_busy_server_is_waited_for(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for a busy server as long as it asks, and go to no other tier."""
    monkeypatch.setattr("llm_tiered.batch.waiting.DELAYS", (0.0,))
    with ScriptedServer() as server:
        serve(toys, server)
        server.say(refused(429, "too many", retry_after="0"))
        run = batch(10)
        await run()
    assert Counter(run.texts()) == {"Hello": 10}
    assert {answer["tier"] for answer in run.answers()} == {"medium"}
