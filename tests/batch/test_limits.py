"""How many requests run at a time and start in a minute."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.batch.limits import LOCAL_CONCURRENCY, limit
from tests.batch.echo import CLOUD, OTHER, SMALL, Echoes, config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited; nobody really waits."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", note)
    return waited


async def ask(name: str, number: int, rate: float | None = None, **options: Any) -> None:
    """Ask the model that many times at once; the cloud has room for three."""
    model = limit(llm.get_async_model(name), 3, rate)
    await asyncio.gather(*(model.prompt(f"Prompt {i}", **options) for i in range(number)))


@pytest.mark.parametrize("name", [OTHER, CLOUD])
async def test_concurrency(echoes: Echoes, name: str) -> None:
    """A model that is not local is asked as often at a time as is allowed, no more."""
    await ask(name, 20)
    assert (echoes.most[name], len(echoes.asked)) == (3, 20)


async def test_concurrency_of_local_models(echoes: Echoes) -> None:
    """A local model has a limit of its own."""
    await ask(SMALL, 2 * LOCAL_CONCURRENCY)
    assert echoes.most[SMALL] == LOCAL_CONCURRENCY


async def test_concurrency_behind_tiered(echoes: Echoes) -> None:
    """Behind `tiered`, the cloud has its limit as well."""
    await ask("tiered", 20, complexity=9)
    assert (echoes.most[CLOUD], len(echoes.asked)) == (3, 20)


async def test_fallback_to_the_cloud(echoes: Echoes, config_file: Path) -> None:
    """What comes to the cloud because a local model failed is limited too."""

    async def act(model: str, prompt: str) -> str:
        await asyncio.sleep(0)
        if model == SMALL:
            raise llm.ModelError("out of order")
        return prompt

    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    echoes.act = act
    await ask("tiered", 20, complexity=2)
    assert echoes.most[SMALL] == 20
    assert echoes.most[CLOUD] == 3


@pytest.mark.parametrize(("name", "number"), [(OTHER, 5), ("tiered", 5)])
async def test_rate(echoes: Echoes, pauses: list[float], name: str, number: int) -> None:
    """Requests to the cloud begin evenly over the minute."""
    await ask(name, number, rate=6, **({"complexity": 9} if name == "tiered" else {}))
    assert pauses == pytest.approx([10, 20, 30, 40], abs=1)


async def test_rate_counts_retries(echoes: Echoes, pauses: list[float]) -> None:
    """A request that is tried again counts again."""
    failures = iter([llm.ModelError("overloaded")])

    async def act(model: str, prompt: str) -> str:
        for failure in failures:
            raise failure
        return prompt

    echoes.act = act
    await ask("tiered", 1, rate=6, complexity=9)
    # The first is the chain's own.
    assert pauses == pytest.approx([1, 10], abs=1)


async def test_no_rate_for_local_models(echoes: Echoes, pauses: list[float]) -> None:
    """Local models are as fast as they are."""
    await ask("tiered", 5, rate=1, complexity=2)
    assert pauses == []


async def test_failure_makes_room(echoes: Echoes) -> None:
    """A request that fails, or is given up, leaves its place to others."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "wait":
            await asyncio.Event().wait()
        raise llm.ModelError("out of order")

    echoes.act = act
    model = limit(llm.get_async_model(OTHER), 1, None)
    waiting = asyncio.ensure_future(model.prompt("wait").text())
    while not echoes.asked:
        await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(2):
        with pytest.raises(llm.ModelError):
            await model.prompt("fail")
