"""The virtual model `tiered`, as llm knows it: what is registered, and nothing more.

llm registers its models whenever it starts. So this module imports little, and all that answers
a prompt comes in with the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from ..errors import TieredError
from .options import Options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from llm.models import Attachment, _BaseModel
    from llm.parts import StreamEvent

    from .registry import Registry


class _Shared:
    """What the sync and the async model have in common."""

    model_id = "tiered"
    can_stream = True
    registry: Registry

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The key of the request, for whichever model needs it; `tiered` needs none itself."""
        return explicit_key

    def _validate_attachments(self, attachments: list[Attachment] | None = None) -> None:
        """Leave it to the check of each model.

        llm would ask an attachment's server for its type, and the prompt may have to stay here.
        """

    # llm asks these before the prompt gets here, so `tiered` claims what any of its tiers can.

    @property
    def supports_schema(self) -> bool:
        """Whether any tier can do schemas."""
        return any(model.supports_schema for model in self._tier_models())

    @property
    def supports_tools(self) -> bool:
        """Whether any tier can use tools."""
        return any(model.supports_tools for model in self._tier_models())

    @property
    def attachment_types(self) -> set[str]:
        """The attachments that any tier can read."""
        return {kind for model in self._tier_models() for kind in model.attachment_types}

    @property
    def supported_server_side_tools(self) -> tuple[type[llm.ServerSideTool], ...]:
        """The server-side tools that any tier has."""
        models = self._tier_models()
        tools = [tool for model in models for tool in model.supported_server_side_tools]
        return tuple(dict.fromkeys(tools))

    def _tier_models(self) -> list[_BaseModel]:
        from ..config.sections import Config
        from ..config.settings import load_settings

        try:
            tiers = load_settings().tiers
        except TieredError:
            # The mistake is told when a prompt comes; until then nothing is ruled out.
            tiers = Config().tiers
        return [self.registry.get(tier.model) for tier in tiers if tier.model in self.registry]


class TieredModel(_Shared, llm.KeyModel):  # type: ignore[misc, override]  # computed there
    """The virtual model."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[StreamEvent]:
        """The answer of the model that was picked, in pieces. Reading it raises TieredError."""
        from . import drivers

        return drivers.answer(self.registry, prompt, response, conversation, key, stream=stream)


class AsyncTieredModel(_Shared, llm.AsyncKeyModel):  # type: ignore[misc, override]  # as above
    """The virtual model, for asyncio."""

    Options = Options  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """The answer of the model that was picked, in pieces. Reading it raises TieredError."""
        from . import drivers

        return drivers.answer_async(
            self.registry, prompt, response, conversation, key, stream=stream
        )
