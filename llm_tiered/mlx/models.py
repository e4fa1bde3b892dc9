"""Local models as llm knows them, sync and async: what is registered, and nothing more.

llm registers its models whenever it starts. So this module imports little, and the engine
comes in with the first prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from .options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from llm.parts import StreamEvent

    from .catalog import ModelSpec
    from .engine.requests import Limits


class LocalModel:
    """What the sync and the async model have in common.

    `limits` says how much memory and disk models may take just now, `find` knows the local
    models by id and alias.
    """

    can_stream = True
    supports_schema = True
    # Privacy goes by this, and not by names.
    runs_here = True
    spec: ModelSpec

    def __init__(
        self,
        spec: ModelSpec,
        limits: Callable[[], Limits],
        find: Callable[[str], ModelSpec | None],
    ) -> None:
        self.model_id = spec.model_id
        self.spec = spec
        self.limits = limits
        self.find = find

    @property
    def supports_tools(self) -> bool:
        """Whether the model's chat template knows tools."""
        if self.spec.tools is not None:
            return self.spec.tools
        from .weights import store

        return store.knows_tools(self.spec)

    def check(self, *, allow_cpu: bool) -> None:
        """Raise ModelUnavailable if the model is known not to work on this machine just now."""
        from . import prompt as asking

        asking.check(self, allow_cpu=allow_cpu)


class MlxModel(LocalModel, llm.Model):  # type: ignore[override]  # computed there
    """A local model."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[StreamEvent]:
        """The answer, in pieces. Reading it raises TieredError."""
        from . import prompt as asking

        return asking.ask(self, prompt, response)


class AsyncMlxModel(LocalModel, llm.AsyncModel):  # type: ignore[override]  # computed there
    """A local model, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """The answer, in pieces. Reading it raises TieredError."""
        from . import prompt as asking

        return asking.ask_async(self, prompt, response)
