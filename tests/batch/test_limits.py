"""How many requests run at the same time and start each minute."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered.batch.limits import LOCAL_CONCURRENCY, limit
from tests import gemini
from tests.batch.echo import CLOUD, MEDIUM, OTHER, SMALL, Echoes, config

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpx import HTTPXMock


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each sleep; no time is spent on it."""
    seconds_slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            seconds_slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", note)
    return seconds_slept


async def ask(name: str, number: int, rate: float | None = None, **options: Any) -> None:
    """Send that many prompts concurrently; the cloud admits three at the same time."""
    model = limit(llm.get_async_model(name), 3, rate)
    await asyncio.gather(*(model.prompt(f"Prompt {i}", **options) for i in range(number)))


@pytest.mark.parametrize("name", [OTHER, CLOUD])
async def test_concurrency(echoes: Echoes, name: str) -> None:
    """A model that is not local gets exactly as many concurrent requests as allowed."""
    await ask(name, 20)
    assert (echoes.peaks[name], len(echoes.requests)) == (3, 20)


async def test_concurrency_of_local_models(echoes: Echoes) -> None:
    """A local model has a limit of its own."""
    await ask(SMALL, 2 * LOCAL_CONCURRENCY)
    assert echoes.peaks[SMALL] == LOCAL_CONCURRENCY


async def until_three_run(echoes: Echoes) -> None:
    """Wait until the cloud has three requests at the same time, but not for ever."""
    for _ in range(1000):
        if echoes.peaks[CLOUD] >= 3:
            break
        await asyncio.sleep(0.001)


async def test_concurrency_behind_tiered(echoes: Echoes) -> None:
    """The cloud has its limit behind `tiered` as well."""

    async def act(model: str, prompt: str) -> str:
        await until_three_run(echoes)
        return prompt

    echoes.act = act
    await ask("tiered", 20, complexity=9)
    assert (echoes.peaks[CLOUD], len(echoes.requests)) == (3, 20)


@pytest.mark.parametrize("name", [gemini.MODEL, "tiered"])
async def test_gemini_has_limits(
    pauses: list[float],
    config_file: Path,
    httpx_mock: HTTPXMock,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """The limits hold for a model that is watched for how its answers end, and it still is."""
    config_file.write_text(yaml.safe_dump({"log_api": False}))
    monkeypatch.setenv("LLM_GEMINI_KEY", gemini.KEY)
    for _ in range(3):
        last = gemini.last(gemini.text("Hello"))
        tokens = {"usageMetadata": last["usageMetadata"], "modelVersion": gemini.VERSION}
        gemini.answer(httpx_mock, last, tokens)
    options: dict[str, Any] = {"complexity": 9} if name == "tiered" else {}
    model: Any = limit(llm.get_async_model(name), 3, 60)
    prompts = [model.prompt(f"Prompt {number}", **options) for number in range(3)]
    assert await asyncio.gather(*(prompt.text() for prompt in prompts)) == ["Hello"] * 3
    assert len(pauses) == 2
    assert {prompt.output_tokens for prompt in prompts} == {5}


async def test_fallback_to_the_cloud(echoes: Echoes, config_file: Path) -> None:
    """Requests that fall back from the local models to the cloud are limited too."""

    async def act(model: str, prompt: str) -> str:
        await asyncio.sleep(0)
        if model in (SMALL, MEDIUM):
            raise llm.ModelError("out of order")
        await until_three_run(echoes)
        return prompt

    config_file.write_text(yaml.safe_dump(config(fallback="any")))
    echoes.act = act
    await ask("tiered", 20, complexity=2)
    assert [model for model, _ in echoes.requests].count(CLOUD) == 20
    assert echoes.peaks[CLOUD] == 3


@pytest.mark.parametrize(("name", "options"), [(OTHER, {}), ("tiered", {"complexity": 9})])
async def test_rate(
    echoes: Echoes, pauses: list[float], name: str, options: dict[str, Any]
) -> None:
    """Requests to the cloud start evenly over the minute."""
    await ask(name, 5, rate=6, **options)
    assert pauses == pytest.approx([10, 20, 30, 40], abs=1)


async def test_rate_counts_retries(echoes: Echoes, pauses: list[float]) -> None:
    """A retry counts as another request."""
    failures = iter([llm.ModelError("overloaded")])

    async def act(model: str, prompt: str) -> str:
        for failure in failures:
            raise failure
        return prompt

    echoes.act = act
    await ask("tiered", 1, rate=6, complexity=9)
    # The first pause is the router's own, before its retry.
    assert pauses == pytest.approx([1, 10], abs=1)


async def test_no_rate_for_local_models(echoes: Echoes, pauses: list[float]) -> None:
    """Requests to local models start without a pause."""
    await ask("tiered", 5, rate=1, complexity=2)
    assert pauses == []


async def test_failures_free_their_place(echoes: Echoes) -> None:
    """A request that fails or is cancelled frees its place."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "wait":
            await asyncio.Event().wait()
        raise llm.ModelError("out of order")

    echoes.act = act
    model = limit(llm.get_async_model(OTHER), 1, None)
    waiting = asyncio.ensure_future(model.prompt("wait").text())
    while not echoes.requests:
        await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(2):
        with pytest.raises(llm.ModelError):
            await model.prompt("fail")
