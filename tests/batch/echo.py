"""Echo models, which answer a prompt with the prompt: one for each tier, and one without a tier."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import llm
from llm.plugins import pm

from tests.stand_in import AsyncStandIn, StandIn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.stand_in import Action

SMALL, MEDIUM, CLOUD, OTHER = "mlx/echo-small", "mlx/echo-medium", "cloud/echo", "other/echo"
SYNC = "other/sync"

TIERS = [
    {"name": "small", "complexity": "1-4", "model": SMALL},
    {"name": "medium", "complexity": "5-7", "model": MEDIUM},
    {"name": "cloud", "complexity": "8-10", "model": CLOUD},
]

# Model and prompt → answer.
Act = Callable[[str, str], Awaitable[str]]


async def repeat(model: str, prompt: str) -> str:
    """Answer with the prompt, after every other task has had a turn."""
    await asyncio.sleep(0)
    return prompt


def refuse(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Fail: llm requires a sync model beside the async one, but batches use async models."""
    yield AssertionError("a batch asks async models")


def say_prompt(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Answer with the prompt."""
    yield prompt.prompt


class Echoes:
    """The plugin with the echo models, and the requests to those that are async.

    `requests` are pairs of model and prompt; `running` counts the current requests of each model,
    `peaks` the most at the same time.
    """

    __name__ = "echoes"

    def __init__(self, act: Act = repeat) -> None:
        self.act = act
        self.requests: list[tuple[str, str]] = []
        self.prompts: list[llm.Prompt] = []
        self.running: Counter[str] = Counter()
        self.peaks: dict[str, int] = dict.fromkeys((SMALL, MEDIUM, CLOUD, OTHER), 0)

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register the echo models with llm."""
        for model_id in self.peaks:
            features = {"supports_schema": True, "runs_here": model_id.startswith("mlx/")}
            register(
                StandIn(model_id, refuse, **features),
                AsyncStandIn(model_id, self._answer, **features),
            )
        register(StandIn(SYNC, say_prompt))

    def _answer(self, prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
        """Record the request and answer it."""
        model, text = prompt.model.model_id, prompt.prompt
        self.requests.append((model, text))
        self.prompts.append(prompt)
        self.running[model] += 1
        self.peaks[model] = max(self.peaks[model], self.running[model])
        try:
            yield self.act(model, text)
        finally:
            self.running[model] -= 1
        response.set_usage(input=3, output=2)


@contextmanager
def registered(act: Act = repeat) -> Iterator[Echoes]:
    """Register echo models with llm until the context ends."""
    echoes = Echoes(act)
    pm.register(echoes, name="echoes")
    try:
        yield echoes
    finally:
        pm.unregister(echoes)


def config(**settings: Any) -> dict[str, Any]:
    """A config with the echo models as tiers, without logging, fallbacks and an engine."""
    return {"tiers": TIERS, "log_api": False, "fallback": "none", "keep_warm": 0} | settings
