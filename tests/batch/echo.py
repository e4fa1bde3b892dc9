"""Echo models, which answer a prompt with the prompt: one for each tier, and one without a tier."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import llm
from llm.plugins import pm

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

SMALL, MEDIUM, CLOUD, OTHER = "mlx/echo-small", "mlx/echo-medium", "cloud/echo", "other/echo"

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


class Options(llm.Options):
    """Options that an echo model accepts and ignores."""

    temperature: float | None = None
    max_tokens: int | None = None


class _Echo:
    """Common parts of the sync and the async model."""

    supports_schema = True
    can_stream = True
    Options = Options

    def __init__(self, model_id: str, echoes: Echoes) -> None:
        self.model_id = model_id
        self.runs_here = model_id.startswith("mlx/")
        self.echoes = echoes


class EchoModel(_Echo, llm.Model):  # type: ignore[misc]  # llm declares Options as a nested class
    """The sync model, which llm requires beside the async one."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """Fail: batches use async models."""
        raise AssertionError("a batch asks async models")


class AsyncEchoModel(_Echo, llm.AsyncModel):  # type: ignore[misc]  # as above
    """A model that answers with the prompt, or with whatever the test sets."""

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str, None]:
        """Record the request and answer it."""
        echoes, text = self.echoes, prompt.prompt
        echoes.requests.append((self.model_id, text))
        echoes.prompts.append(prompt)
        echoes.running[self.model_id] += 1
        echoes.peaks[self.model_id] = max(
            echoes.peaks[self.model_id], echoes.running[self.model_id]
        )
        try:
            yield await echoes.act(self.model_id, text)
        finally:
            echoes.running[self.model_id] -= 1
        response.set_usage(input=3, output=2)


class Echoes:
    """The plugin with the echo models, and their requests.

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
            register(EchoModel(model_id, self), AsyncEchoModel(model_id, self))


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
    """A config with the echo models as tiers, without logging and without fallbacks."""
    return {"tiers": TIERS, "log_api": False, "fallback": "none"} | settings
