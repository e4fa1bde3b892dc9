"""Models that nobody uses: when they are unloaded, and that nothing is looked at without any."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from llm_tiered.mlx.engine.residency import ResidentModel
from llm_tiered.mlx.process import pressure, unloading
from llm_tiered.mlx.process.pressure import GRACE, Pressure
from llm_tiered.mlx.process.unloading import Unloading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from llm_tiered.mlx.engine.engine import Engine

SHORT = Pressure("warning", "1 GB was available")
EXHAUSTED = Pressure("critical", "nothing was available")


class Pool:
    """An engine with models, of which those that `busy` names are in use."""

    def __init__(self, ages: dict[str, float], busy: Collection[str] = ()) -> None:
        now = time.time()
        self._models = [
            ResidentModel(name, Path(name), 1000, now - age, 0.0) for name, age in ages.items()
        ]
        self._busy = busy

    def models(self) -> list[ResidentModel]:
        """The models in memory."""
        return list(self._models)

    def unload(
        self, choose: Callable[[list[ResidentModel]], Collection[str]]
    ) -> Future[list[ResidentModel]]:
        """Unload what is chosen of the idle ones."""
        chosen = choose([model for model in self._models if model.name not in self._busy])
        done: Future[list[ResidentModel]] = Future()
        done.set_result([model for model in self._models if model.name in chosen])
        self._models = [model for model in self._models if model.name not in chosen]
        return done

    @property
    def names(self) -> list[str]:
        """The names of the models in memory."""
        return [model.name for model in self._models]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[Pressure | None]:
    """What the machine says about its memory, time after time; in the end there is enough."""
    levels: list[Pressure | None] = []
    monkeypatch.setattr(pressure, "read", lambda: levels.pop(0) if levels else None)
    monkeypatch.setattr(unloading, "INTERVAL", 0.0)
    return levels


def unloading_of(pool: Pool, keep_warm: float = 300.0, asked: Any = bool) -> Unloading:
    """What watches over a pool."""
    return Unloading(cast("Engine", pool), lambda: keep_warm, asked)


async def test_short_of_memory(memory: list[Pressure | None]) -> None:
    """One idle model goes each time, the least recently used first, and it is said why."""
    pool = Pool({"oldest": 90, "older": 60, "latest": 1}, busy=["oldest"])
    watch = unloading_of(pool)
    memory[:] = [SHORT, SHORT, None]
    await watch.look()
    assert pool.names == ["oldest", "latest"]
    await watch.look()
    await watch.look()
    assert pool.names == ["oldest", "latest"]
    [unloaded] = watch.latest
    assert (unloaded.name, unloaded.bytes, unloaded.reason) == ("older", 1000, SHORT.reason)
    assert unloaded.at == pytest.approx(time.time(), abs=60)


async def test_no_memory_left(memory: list[Pressure | None]) -> None:
    """All idle models go at once, even one that has just answered."""
    pool = Pool({"busy": 90, "older": 60, "latest": 0}, busy=["busy"])
    memory[:] = [EXHAUSTED]
    await unloading_of(pool).look()
    assert pool.names == ["busy"]


async def test_keep_warm(memory: list[Pressure | None]) -> None:
    """A model goes when it was not used for long enough, while others stay."""
    pool = Pool({"older": 301, "latest": 299})
    watch = unloading_of(pool)
    await watch.look()
    assert pool.names == ["latest"]
    assert watch.latest[0].reason == "not used for 5 min"


async def test_both_reasons(memory: list[Pressure | None]) -> None:
    """What goes anyway leaves room, but does not count as the one model for now."""
    pool = Pool({"oldest": 301, "older": GRACE + 1, "latest": GRACE})
    watch = unloading_of(pool)
    memory[:] = [SHORT]
    await watch.look()
    assert pool.names == ["latest"]
    assert [each.reason for each in watch.latest] == ["not used for 5 min", SHORT.reason]


async def test_only_the_latest_are_remembered(memory: list[Pressure | None]) -> None:
    """The list of what was unloaded stays short."""
    names = [f"model-{number}" for number in range(9)]
    watch = unloading_of(Pool(dict.fromkeys(names, 90)))
    memory[:] = [EXHAUSTED]
    await watch.look()
    assert [each.name for each in watch.latest] == names[-5:]


async def test_watching_ends(memory: list[Pressure | None], caplog: Any) -> None:
    """It watches while there are models or requests, once at a time, and tells the log."""
    pool = Pool({"only": 90})
    answers = [True, True, False]
    watch = unloading_of(pool, asked=lambda: answers.pop(0) if answers else False)
    memory[:] = [None, None, SHORT]
    watch.watch()
    task = watch._watching
    watch.watch()
    assert task
    assert watch._watching is task
    await asyncio.wait_for(task, 10)
    assert pool.names == []
    assert memory == []
    assert caplog.messages == ["unloaded: only (0 MB), 1 GB was available"]
    watch.watch()
    assert watch._watching is not task


async def test_nothing_is_looked_at_without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without models does not ask for the memory."""
    monkeypatch.setattr(unloading, "INTERVAL", 0.0)
    monkeypatch.setattr(pressure, "read", lambda: pytest.fail("asked"))
    answers = [True, False]
    watch = unloading_of(Pool({}), asked=lambda: answers.pop(0))
    await watch._watch()
    assert answers == []
