"""Local models as llm registers them, sync and async.

llm registers its models every time it starts, so this module imports little, and the engine is
imported with the first prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from .options import MlxOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from llm.parts import StreamEvent

    from .catalog import ModelSpec
    from .engine.requests import Limits


class LocalModel:
    """What the sync and the async model share.

    `limits` returns how much memory and disk models may use at the moment; `find` returns the
    local model with an id or alias.
    """

    can_stream = True
    supports_schema = True
    # The privacy rules rely on this, not on names.
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
        """Whether the model's chat template supports tools."""
        if self.spec.tools is not None:
            return self.spec.tools
        from .weights import store

        return store.supports_tools(self.spec)

    def check_may_block(self) -> bool:
        """Return whether `check` may take a while."""
        from . import prompt

        return prompt.check_may_block(self)

    def check(self, *, allow_cpu: bool) -> None:
        """Raise ModelUnavailable if the model is known not to work on this machine right now."""
        from . import prompt

        prompt.check(self, allow_cpu=allow_cpu)


class MlxModel(LocalModel, llm.Model):  # type: ignore[override]  # supports_tools is a property
    """A local model."""

    Options = MlxOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[StreamEvent]:
        """Return the answer in pieces. Iterating over them raises TieredError."""
        from .prompt import ask

        return ask(self, prompt, response)


class AsyncMlxModel(LocalModel, llm.AsyncModel):  # type: ignore[override]  # a property, as above
    """A local model for asyncio."""

    Options = MlxOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Return the answer in pieces. Iterating over them raises TieredError."""
        from .prompt import ask_async

        return ask_async(self, prompt, response)
