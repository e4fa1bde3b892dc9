"""A request to a server, sync and async, from its body to the last event of the answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm.parts import AttachmentPart

from .. import passage
from ..errors import IncompleteAnswer, TieredError
from ..redaction import redact
from . import chat_request, clients, problems
from .answer import ServerAnswer
from .failover import Failover
from .pool import pool_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    import llm
    from llm.parts import StreamEvent

    from ..config.tiers import Tier
    from .endpoint import Endpoint

# Seconds that a server may be silent: it may have a long prompt to read first, and some send a
# tool call only once it is whole.
SILENCE = 120.0

# Seconds for the list of a server's models, which only improves a message.
_LIST_WITHIN = 3.0

_CHAT, _MODELS = "/chat/completions", "/models"


def ask(
    tier: Tier,
    prompt: llm.Prompt,
    response: llm.Response,
    key: str | None,
    *,
    stream: bool,
) -> Iterator[StreamEvent]:
    """Yield the answer of a tier's server.

    Without `stream`, nothing is yielded before the answer is known to be complete. Raises
    TieredError or, for an error that the server reports, one of OpenAI's library or FailedReply.
    """
    body = chat_request.body(tier.model, prompt)
    failover = Failover(pool_of(tier), chat_request.prefix(prompt))

    def ask_one(endpoint: Endpoint) -> Generator[StreamEvent, None, None]:
        answer = ServerAnswer(prompt, response, endpoint.address, key, [*failover.failed.values()])
        request = _Request(endpoint, key, body, _silence(prompt), _headers(tier))
        return _answer(request, answer, stream=stream)

    return failover.events(ask_one)


def _answer(
    request: _Request, answer: ServerAnswer, *, stream: bool
) -> Generator[StreamEvent, None, None]:
    held: list[StreamEvent] = []
    with request.key_hidden(), closing(_chunks(request)) as chunks:
        for chunk in chunks:
            events = answer.take(chunk)
            if stream:
                yield from events
            else:
                held += events
        held += answer.finish()
        yield from held


async def ask_async(
    tier: Tier,
    prompt: llm.Prompt,
    response: llm.AsyncResponse,
    key: str | None,
    *,
    stream: bool,
) -> AsyncGenerator[StreamEvent, None]:
    """Async counterpart of `ask`."""
    if _has_files(prompt):
        body = await asyncio.to_thread(chat_request.body, tier.model, prompt)
    else:
        body = chat_request.body(tier.model, prompt)
    failover = Failover(pool_of(tier), chat_request.prefix(prompt))

    def ask_one(endpoint: Endpoint) -> AsyncGenerator[StreamEvent, None]:
        answer = ServerAnswer(prompt, response, endpoint.address, key, [*failover.failed.values()])
        request = _Request(endpoint, key, body, _silence(prompt), _headers(tier))
        return _answer_async(request, answer, stream=stream)

    async with aclosing(failover.events_async(ask_one)) as events:
        async for event in events:
            yield event


async def _answer_async(
    request: _Request, answer: ServerAnswer, *, stream: bool
) -> AsyncGenerator[StreamEvent, None]:
    held: list[StreamEvent] = []
    with request.key_hidden():
        async with aclosing(_chunks_async(request)) as chunks:
            async for chunk in chunks:
                events = answer.take(chunk)
                if stream:
                    for event in events:
                        yield event
                else:
                    held += events
        held += answer.finish()
        for event in held:
            yield event


def _silence(prompt: llm.Prompt) -> float:
    options: Any = prompt.options
    return SILENCE if options.timeout is None else float(options.timeout)


def _headers(tier: Tier) -> dict[str, str]:
    """What another `llm tiered serve` has to know to send a prompt on.

    Its `tiered` models could otherwise send the prompt to a cloud tier of its own, although the
    tier's place is nearer, or back to where it came from.
    """
    if tier.model.partition("/")[0] != "tiered":
        return {}
    if tier.place == "cloud":
        return passage.headers()
    kept = "x-tiered-local-only" if tier.place == "here" else "x-tiered-private"
    return {kept: "true"} | passage.headers()


def _has_files(prompt: llm.Prompt) -> bool:
    return any(isinstance(part, AttachmentPart) for each in prompt.messages for part in each.parts)


@dataclass(frozen=True)
class _Request:
    """A request to a server, which may be silent for `silence` seconds."""

    endpoint: Endpoint
    key: str | None
    body: dict[str, Any]
    silence: float
    headers: dict[str, str]

    @contextmanager
    def key_hidden(self) -> Iterator[None]:
        """Take the key out of errors that quote the server, because their reasons are stored."""
        try:
            yield
        except TieredError as error:
            raise type(error)(redact(error.message, [self.key]), fix=error.fix) from error.__cause__

    def post_arguments(self, stream_class: Any) -> dict[str, Any]:
        """The arguments of the library's `post`; `object` keeps it from validating each chunk."""
        return {
            "body": self.body,
            "cast_to": object,
            "stream": True,
            "stream_cls": stream_class[object],
            "options": clients.options(self.key, self.silence, self.headers),
        }

    def list_arguments(self) -> dict[str, Any]:
        """The arguments of the library's `get` for the list of models."""
        return {"cast_to": object, "options": clients.options(self.key, _LIST_WITHIN, {})}

    def explained(self, error: Exception) -> Exception | None:
        """The error to raise for one of the library, or None if that is clear by itself."""
        where = self.endpoint.address
        if isinstance(error, UnicodeDecodeError):
            return IncompleteAnswer("the stream holds bytes that are not text")
        if isinstance(error, json.JSONDecodeError):
            return problems.not_json(error)
        if connection := problems.connection_error(error, self.endpoint):
            return connection
        if type(error).__name__ == "APITimeoutError":
            return problems.silence_error(self.silence, where)
        response = getattr(error, "response", None)
        location = response.headers.get("location") if response is not None else None
        status = getattr(error, "status_code", 0)
        return problems.redirect_error(status, location, where)

    def not_found(self, error: Exception, listed: Any) -> Exception | None:
        """The same for a 404; `listed` is the server's list of models, if there is one."""
        data = listed.get("data") if isinstance(listed, dict) else None
        models = None
        if isinstance(data, list):
            models = [str(each["id"]) for each in data if isinstance(each, dict) and "id" in each]
        message = problems.message_of(error)
        where = self.endpoint.address
        return problems.not_found_error(message, self.body["model"], models, where)


def _chunks(request: _Request) -> Generator[Any, None, None]:
    """Yield the chunks of an answer."""
    import openai

    client = clients.client_for(request.endpoint, request.key)
    try:
        with client.post(_CHAT, **request.post_arguments(openai.Stream)) as stream:
            if kind := problems.not_streamed(stream.response.headers):
                text = stream.response.read().decode("utf-8", "replace")
                yield problems.whole_reply(kind, text, request.endpoint.address)
            else:
                yield from stream
    except openai.NotFoundError as error:
        try:
            listed: Any = client.get(_MODELS, **request.list_arguments())
        except (openai.OpenAIError, ValueError):  # mlx_lm.server may list nothing at all
            listed = None
        if explained := request.not_found(error, listed):
            raise explained from error
        raise
    except (openai.OpenAIError, ValueError) as error:
        if explained := request.explained(error):
            raise explained from error
        raise


async def _chunks_async(request: _Request) -> AsyncGenerator[Any, None]:
    """Async counterpart of `_chunks`."""
    import openai

    client = await clients.async_client_for(request.endpoint, request.key)
    try:
        async with await client.post(_CHAT, **request.post_arguments(openai.AsyncStream)) as stream:
            if kind := problems.not_streamed(stream.response.headers):
                text = (await stream.response.aread()).decode("utf-8", "replace")
                yield problems.whole_reply(kind, text, request.endpoint.address)
            else:
                async for chunk in stream:
                    yield chunk
    except openai.NotFoundError as error:
        try:
            listed: Any = await client.get(_MODELS, **request.list_arguments())
        except (openai.OpenAIError, ValueError):  # mlx_lm.server may list nothing at all
            listed = None
        if explained := request.not_found(error, listed):
            raise explained from error
        raise
    except (openai.OpenAIError, ValueError) as error:
        if explained := request.explained(error):
            raise explained from error
        raise
