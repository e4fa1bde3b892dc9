"""The models of the tiers' servers, as llm runs them, sync and async.

They are not registered with llm: `router.registry` makes them from the config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from ..errors import NotRunning
from .options import ServerOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from llm.parts import StreamEvent

    from ..config.tiers import Tier
    from ..errors import BusyServer

# The images that servers with a vision model read.
IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})


class _Served:
    """What the sync and the async model have in common."""

    can_stream = True
    # Some servers ignore them, so the answer is checked.
    supports_schema = True
    supports_tools = True

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.model_id = tier.model_id
        self.needs_key = tier.key
        self.attachment_types = IMAGES if tier.images else frozenset[str]()
        self.runs_here = tier.place == "here"

    def left_alone(self) -> NotRunning | BusyServer | None:
        """Return why all servers of the tier are left alone now, or None; none of them is asked."""
        from .pool import pool_of

        return pool_of(self.tier).left_alone()

    def check(self) -> None:
        """Raise NotRunning if all servers are left alone; a busy one can be waited for."""
        error = self.left_alone()
        if isinstance(error, NotRunning):
            raise error

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The key for the server, or None. Raises llm.NeedsKeyException if it is not stored."""
        if self.needs_key is None:
            return explicit_key
        key: str | None = super().get_key(explicit_key)  # type: ignore[misc]  # llm's model
        return key


class ServerModel(_Served, llm.KeyModel):  # type: ignore[misc]  # llm declares the attributes
    """The model of a tier with a server."""

    Options = ServerOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[StreamEvent]:
        """Return the answer in pieces. Iterating over them raises an error of the server."""
        from . import asking

        return asking.ask(self.tier, prompt, response, key, stream=stream)


class AsyncServerModel(_Served, llm.AsyncKeyModel):  # type: ignore[misc]  # as above
    """The model of a tier with a server, for asyncio."""

    Options = ServerOptions  # type: ignore[assignment]  # llm declares it as a nested class

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Return the answer in pieces. Iterating over them raises an error of the server."""
        from . import asking

        return asking.ask_async(self.tier, prompt, response, key, stream=stream)
