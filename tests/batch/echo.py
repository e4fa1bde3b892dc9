"""Toy models that answer each prompt with itself, as the tiers of `tiered`, and one besides."""

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
    """Answer with the prompt, after everybody else has had a turn."""
    await asyncio.sleep(0)
    return prompt


class Options(llm.Options):
    """What an echo is told; it takes no notice."""

    temperature: float | None = None
    max_tokens: int | None = None


class _Echo:
    """What the sync and the async model have in common."""

    supports_schema = True
    can_stream = True
    Options = Options

    def __init__(self, model_id: str, echoes: Echoes) -> None:
        self.model_id = model_id
        self.runs_here = model_id.startswith("mlx/")
        self.echoes = echoes


class EchoModel(_Echo, llm.Model):  # type: ignore[misc]  # llm declares Options as a nested class
    """Only there because llm wants one beside the async model."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[str]:
        """Fail."""
        raise AssertionError("a batch asks async models")


class AsyncEchoModel(_Echo, llm.AsyncModel):  # type: ignore[misc]  # as above
    """A model that answers with the prompt, or does whatever the test wants."""

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str, None]:
        """Act, and keep account of it."""
        echoes, text = self.echoes, prompt.prompt
        echoes.asked.append((self.model_id, text))
        echoes.prompts.append(prompt)
        echoes.under_way[self.model_id] += 1
        echoes.most[self.model_id] = max(
            echoes.most[self.model_id], echoes.under_way[self.model_id]
        )
        try:
            yield await echoes.act(self.model_id, text)
        finally:
            echoes.under_way[self.model_id] -= 1
        response.set_usage(input=3, output=2)


class Echoes:
    """The plugin, and what its models were asked. `most` is how many ran at a time."""

    __name__ = "echoes"

    def __init__(self, act: Act = repeat) -> None:
        self.act = act
        self.asked: list[tuple[str, str]] = []
        self.prompts: list[llm.Prompt] = []
        self.under_way: Counter[str] = Counter()
        self.most: dict[str, int] = dict.fromkeys((SMALL, MEDIUM, CLOUD, OTHER), 0)

    @llm.hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Register the echoes with llm."""
        for model_id in self.most:
            register(EchoModel(model_id, self), AsyncEchoModel(model_id, self))


@contextmanager
def registered(act: Act = repeat) -> Iterator[Echoes]:
    """Echoes that llm knows for as long as the context lasts."""
    echoes = Echoes(act)
    pm.register(echoes, name="echoes")
    try:
        yield echoes
    finally:
        pm.unregister(echoes)


def config(**settings: Any) -> dict[str, Any]:
    """A config with the echoes as tiers, which logs nothing and falls back on nobody."""
    return {"tiers": TIERS, "log_api": False, "fallback": "none"} | settings
