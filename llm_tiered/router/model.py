"""The virtual model `tiered`, sync and async, as llm registers it.

llm registers its models whenever it starts, so this module imports little. Everything that answers
a prompt is imported with the first prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from ..errors import TieredError
from .options import TieredOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from llm.models import Attachment, ModelWithAliases, _BaseModel
    from llm.parts import StreamEvent

    from .registry import Registry


class _Shared:
    """What the sync and the async model have in common."""

    model_id = "tiered"
    can_stream = True

    def __init__(self, models: list[ModelWithAliases] | None) -> None:
        self._models = models

    @property
    def registry(self) -> Registry:
        """All models that llm knows."""
        from .registry import Registry

        if self._models is None:
            self._models = llm.get_models_with_aliases()
        return Registry(self._models)

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The request's API key, for the model that needs it; `tiered` itself needs none."""
        return explicit_key

    def _validate_attachments(self, attachments: list[Attachment] | None = None) -> None:
        """Leave this to the check of each model.

        llm would ask an attachment's server for its type, but the prompt may have to stay here.
        """

    # llm checks these before routing, so `tiered` claims everything that any of its tiers can do.

    @property
    def supports_schema(self) -> bool:
        """Whether any tier supports schemas."""
        return any(model.supports_schema for model in self._tier_models())

    @property
    def supports_tools(self) -> bool:
        """Whether any tier supports tools."""
        return any(model.supports_tools for model in self._tier_models())

    @property
    def attachment_types(self) -> set[str]:
        """The attachment types that any tier accepts."""
        return {kind for model in self._tier_models() for kind in model.attachment_types}

    @property
    def supported_server_side_tools(self) -> tuple[type[llm.ServerSideTool], ...]:
        """The server-side tools that any tier offers."""
        models = self._tier_models()
        tools = [tool for model in models for tool in model.supported_server_side_tools]
        return tuple(dict.fromkeys(tools))

    def _tier_models(self) -> list[_BaseModel]:
        from ..config.sections import Config
        from ..config.settings import load_settings

        try:
            tiers = load_settings().tiers
        except TieredError:
            # The first prompt reports the mistake; until then nothing is ruled out.
            tiers = Config().tiers
        registry = self.registry
        return [registry.get(tier.model_id) for tier in tiers if tier.model_id in registry]


class TieredModel(_Shared, llm.KeyModel):  # type: ignore[misc, override]  # llm declares attributes
    """The virtual model."""

    Options = TieredOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[StreamEvent]:
        """Yield the answer of the chosen model. Iterating over it raises TieredError."""
        from . import drivers

        return drivers.answer(self.registry, prompt, response, conversation, key, stream=stream)


class AsyncTieredModel(_Shared, llm.AsyncKeyModel):  # type: ignore[misc, override]  # as above
    """The virtual model, for asyncio."""

    Options = TieredOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer of the chosen model. Iterating over it raises TieredError."""
        from . import drivers

        return drivers.answer_async(
            self.registry, prompt, response, conversation, key, stream=stream
        )
