"""Conversations that stay on this machine, or the user's, remembered while the process runs.

llm's log knows them, too, but logging may be off, and a client of the server that ends an answer at
a stop text sends less of it back than was logged.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

from llm.parts import AttachmentPart, TextPart, ToolCallPart, ToolResultPart

from ..config.terms import strictest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import llm
    from llm.models import _BaseResponse
    from llm.parts import Part

    from ..config.terms import Kept

# Conversations, 100 bytes each; after that the oldest is forgotten.
_MOST = 100_000


class PrivateConversations:
    """The private conversations up to each answer, as hashes of what a client sees of them."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # A dictionary keeps the order.
        self._hashes: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def add(self, messages: Sequence[llm.Message], kept: Kept) -> None:
        """Remember a conversation that ends with an answer."""
        last = list(_hashes(messages))[-1]
        with self._lock:
            self._hashes[last] = strictest(self._hashes.pop(last, None), kept) or kept
            if len(self._hashes) > self._most:
                self._hashes.pop(next(iter(self._hashes)))

    def kept(self, messages: Sequence[llm.Message]) -> Kept | None:
        """Return where these messages, or the first of them, have to stay, or None."""
        return strictest(*map(self._hashes.get, _hashes(messages)))


PRIVATE = PrivateConversations()
"""Those of this process."""


def remember(response: _BaseResponse, kept: Kept) -> None:
    """Remember that a finished answer had to stay on this machine, or on the user's.

    A program may hand on its messages without a conversation (`response.reply()`).
    """
    PRIVATE.add([*response.prompt.messages, *response._messages_now()], kept)


def _hashes(messages: Sequence[llm.Message]) -> Iterable[str]:
    """Yield a hash for the messages up to each of them."""
    before = ""
    for message in messages:
        shown = [before, message.role, [_shown(part) for part in message.parts if _is_shown(part)]]
        before = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
        yield before


def _is_shown(part: Part) -> bool:
    return not isinstance(part, TextPart) or bool(part.text.strip())


def _shown(part: Part) -> Any:
    if isinstance(part, TextPart):
        return part.text.strip()
    if isinstance(part, ToolCallPart):
        return [part.name, part.arguments]
    if isinstance(part, ToolResultPart):
        return [part.name, part.output]
    if isinstance(part, AttachmentPart) and part.attachment:
        return part.attachment.id()
    return None
