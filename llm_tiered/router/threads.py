"""Async versions of models whose plugins have none: they run the sync model in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from contextlib import nullcontext, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import llm

from .. import openai_plugin
from ..endings import attentive

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from contextlib import AbstractContextManager

    from llm.models import Attachment

# What tells the models of llm apart, beside their methods and properties.
_FACTS = (
    *("model_id", "can_stream", "attachment_types", "supports_schema", "supports_tools"),
    *("supports_conversation", "needs_key", "key", "key_env_var", "Options", "runs_here"),
)

# A model without a key most likely computes here, and its library may not be made for threads.
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def get_async_model(name: str) -> llm.AsyncModel | llm.AsyncKeyModel:
    """Return the async model with that id or alias, in a thread if there is only a sync one.

    Raises llm.UnknownModelError.
    """
    try:
        return llm.get_async_model(name)
    except llm.UnknownModelError:
        model = llm.get_model_aliases().get(name)
        if model is None:
            raise
        return ThreadedModel(model)


class ThreadedModel(llm.AsyncKeyModel):
    """The async version of a sync model.

    Its answers come as the sync model puts them out. An answer that is given up ends the thread
    with the next piece of it, and nobody waits for that.
    """

    def __init__(self, model: Any) -> None:
        self._model = openai_plugin.without_retries(attentive(model))
        vars(self).update({name: getattr(model, name) for name in _FACTS if hasattr(model, name)})

    def __str__(self) -> str:
        return str(self._model)

    @property
    def supported_server_side_tools(self) -> tuple[type[llm.ServerSideTool], ...]:
        """The server-side tools of the sync model."""
        tools: tuple[type[llm.ServerSideTool], ...] = self._model.supported_server_side_tools
        return tools

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The key that the sync model uses."""
        key: str | None = self._model.get_key(explicit_key)
        return key

    def _validate_attachments(self, attachments: list[Attachment] | None = None) -> None:
        self._model._validate_attachments(attachments)

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[Any, None]:
        """Yield what the sync model yields, and raise what it raises."""
        before = await self._before(conversation) if conversation else None
        arguments: dict[str, Any] = {"response": response, "conversation": before}
        if isinstance(self._model, llm.KeyModel):
            arguments["key"] = key

        def pieces() -> Iterator[Any]:
            return iter(self._model.execute(prompt, stream=stream, **arguments))

        with _Reader(pieces, nullcontext() if self.needs_key else _turns[self.model_id]) as reader:
            while True:
                piece, error = await reader.queue.get()
                if error is not None:
                    raise error
                if piece is _END:
                    return
                yield piece

    async def _before(self, conversation: llm.AsyncConversation) -> llm.Conversation:
        """The conversation with responses that a sync model can read."""
        earlier: list[Any] = conversation.responses
        responses = []
        for response in earlier:
            sync = await response.to_sync_response()
            sync.attachments = response.attachments
            responses.append(sync)
        return llm.Conversation(
            model=self._model,
            id=conversation.id,
            name=conversation.name,
            responses=responses,
            tools=conversation.tools,
        )


_END = object()


class _Reader:
    """Reads an answer in a thread of its own, which does not keep the process alive.

    The `queue` gets each piece with None, and in the end _END with None, or None with the error.
    """

    def __init__(
        self, pieces: Callable[[], Iterator[Any]], turn: AbstractContextManager[Any]
    ) -> None:
        self.queue: asyncio.Queue[tuple[Any, BaseException | None]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._pieces = pieces
        self._turn = turn
        self._given_up = threading.Event()

    def __enter__(self) -> _Reader:
        run = copy_context().run
        threading.Thread(target=run, args=(self._read,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()

    def _read(self) -> None:
        try:
            with self._turn:
                self._read_all()
        except BaseException as error:
            self._put(None, error)
        else:
            self._put(_END)

    def _read_all(self) -> None:
        if self._given_up.is_set():
            return
        pieces = self._pieces()
        try:
            for piece in pieces:
                if self._given_up.is_set():
                    return
                self._put(piece)
        finally:
            if close := getattr(pieces, "close", None):
                close()

    def _put(self, piece: Any, error: BaseException | None = None) -> None:
        # The loop is closed if the answer was given up.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.queue.put_nowait, (piece, error))
