"""A request from its first byte to the last one of its answer, in either of OpenAI's APIs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from ..config.settings import held_settings
from . import asking, body, responses
from .access import key_name
from .connections import ABORT
from .failure import ApiError, api_error
from .fields import Chat
from .items import ItemsReply
from .replies import Reply, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from llm.parts import StreamEvent
    from starlette.types import Message, Receive, Scope, Send

    from .asking import ChatRequest
    from .line import Line, Place
    from .metrics import Metrics
    from .offers import Offers

logger = logging.getLogger("llm_tiered.server")

# The largest body, in bytes: long conversations with a few images.
LARGEST_BODY = 32 * 1024 * 1024

# A body that is read faster, in bytes, than a thread is woken.
SHORT_BODY = 32 * 1024

# Seconds in which a client has to send its request, and to take each piece of the answer.
PATIENCE = 30.0
PATIENCE_FOR_READER = 60.0

_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # Proxies would collect the pieces.
    "x-accel-buffering": "no",
}
_JSON = {"content-type": "application/json"}


class Api(NamedTuple):
    """What is different between the two APIs: how requests are read, and how answers are sent."""

    path: str
    to_chat: Callable[[Mapping[str, Any]], Chat]
    reply: Callable[[ChatRequest], Reply | ItemsReply]


COMPLETIONS = Api("/v1/chat/completions", Chat, Reply)
RESPONSES = Api("/v1/responses", responses.to_chat, ItemsReply)


class Answers:
    """The endpoint of an API, as an ASGI application."""

    def __init__(self, api: Api, offers: Offers, line: Line, metrics: Metrics) -> None:
        self._api = api
        self._offers = offers
        self._line = line
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = _Exchange(self._api, scope, receive, send, self._metrics)
        try:
            with self._line.place() as place, self._metrics.running.track_inprogress():
                data = await exchange.read()
                failure = None
                if data is not None:
                    failure = await self._answer(exchange, data, place, receive)
                if place.was_stopped:
                    failure = ApiError(503, "the server is stopping", code="stopping")
                if failure:
                    raise failure
        except ApiError as error:
            await exchange.fail(error)
        exchange.close()

    async def _answer(
        self, exchange: _Exchange, data: bytes, place: Place, receive: Receive
    ) -> ApiError | None:
        """Answer until the client leaves or the server stops; an error if there is no answer."""
        failure = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, place.scope)
            with place.scope:
                try:
                    await exchange.answer(data, self._offers)
                except ApiError as error:
                    failure = error
            group.cancel_scope.cancel()
        return failure


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, api: Api, scope: Scope, receive: Receive, send: Send, metrics: Metrics
    ) -> None:
        self._api = api
        self._scope = scope
        self._receive = receive
        self._send = send
        self._metrics = metrics
        self._started = time.perf_counter()
        self._status: int | str | None = None
        self._request: ChatRequest | None = None
        self._has_begun = False
        self._is_over = False
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def read(self) -> bytes | None:
        """Return the body, or None if the client left before it was complete. Raises ApiError."""
        data, size = bytearray(), 0
        with anyio.move_on_after(PATIENCE) as limit:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    return None
                piece = message.get("body", b"")
                size += len(piece)
                # Too large a body is read to its end, or the client would not get the error.
                if size > LARGEST_BODY:
                    data.clear()
                else:
                    data += piece
                if not message.get("more_body"):
                    break
        if limit.cancelled_caught:
            late = f"the request was not complete after {PATIENCE:.0f} s"
            raise ApiError(408, late, code="timeout", headers={"connection": "close"})
        if size > LARGEST_BODY:
            large = f"the body has {size} bytes, more than {LARGEST_BODY}"
            raise ApiError(413, large, code="request_too_large")
        return bytes(data)

    async def answer(self, data: bytes, offers: Offers) -> None:
        """Answer the request that a body holds."""
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._scope["headers"]
        ]
        try:
            # A response may continue another one, which is in the log.
            is_short = self._api is COMPLETIONS and len(data) <= SHORT_BODY
            read = partial(self._chat, data)
            # A config that is edited meanwhile applies to the next request.
            with held_settings():
                self._request = await asking.ask(read, headers, offers, is_short=is_short)
                await self._respond(self._request)
        except Exception as error:
            known = api_error(error, self._request.attempts if self._request else ())
            if known.code == "internal_error":
                _report(error)
            raise known from error

    async def _respond(self, request: ChatRequest) -> None:
        async with aclosing(request.response.astream_events()) as events:
            if request.asked.stream:
                await self._stream(events, request)
            else:
                await self._whole(events, request)

    def _chat(self, data: bytes) -> Chat:
        return self._api.to_chat(body.parse(data))

    async def _whole(self, events: AsyncIterator[StreamEvent], request: ChatRequest) -> None:
        reply = self._api.reply(request)
        async for event in events:
            self._count_first()
            reply.keep(event)
        await asking.finish(request)
        await self._all(200, reply.whole(), request.headers())
        self._count_answer(request)

    async def _stream(self, events: AsyncIterator[StreamEvent], request: ChatRequest) -> None:
        reply = self._api.reply(request)
        held: list[StreamEvent] = []
        async for event in events:
            self._count_first()
            if request.asked.must_call:
                held.append(event)
                continue
            await self._piece(reply.chunk(event), request)
        await asking.finish(request)
        for event in held:
            await self._piece(reply.chunk(event), request)
        await self._piece(b"".join(reply.last_chunks()), request)
        await self._put(b"", more=False)
        self._count_answer(request)

    async def _piece(self, piece: bytes, request: ChatRequest) -> None:
        if not piece:
            return
        if self._status is None:
            await self._start(200, _STREAM | request.headers())
        await self._put(piece, more=True)

    async def fail(self, error: ApiError) -> None:
        """Tell the client about an error, in the middle of a stream if it has begun."""
        if self._is_over:
            return
        if self._status is None:
            who = self._request.headers() if self._request else {}
            await self._all(error.status, error.body(), error.headers | _ignored(who))
        else:
            # Without the mark at the end, nobody takes this for a whole answer.
            self._status = f"{self._status}, then {error.status}"
            await self._put(sse(error.body()), more=False)

    def close(self) -> None:
        """Count and report the request."""
        if self._timer:
            self._timer.cancel()
        status = self._status if self._is_over and self._status else "left"
        self._metrics.count_request(status)
        request = self._request
        who = f"{request.tier or '-'} {request.model}" if request else "-"
        failed = [each for each in request.attempts if each.outcome != "ok"] if request else []
        who += "".join(f", {each.model} {each.outcome}" for each in failed)
        seconds = time.perf_counter() - self._started
        logger.info(
            "POST %s %s %s %.2f s %s",
            self._api.path,
            status,
            who,
            seconds,
            key_name(self._scope),
        )

    async def _all(self, status: int, value: dict[str, Any], headers: dict[str, str]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        await self._start(status, _JSON | {"content-length": str(len(data))} | headers)
        await self._put(data, more=False)

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._sent({"type": "http.response.start", "status": status, "headers": raw})

    async def _put(self, data: bytes, *, more: bool) -> None:
        self._is_over = not more
        await self._sent({"type": "http.response.body", "body": data, "more_body": more})

    async def _sent(self, message: Message) -> None:
        # There is one for each token: a timer for each would cost more than the rest of it.
        self._sending_since = time.monotonic()
        if self._timer is None:
            self._watch_reader()
        try:
            await self._send(message)
        finally:
            self._sending_since = None

    def _watch_reader(self) -> None:
        """Abort if the client does not take what is being sent, and look again after a while."""
        since, now = self._sending_since, time.monotonic()
        waits = PATIENCE_FOR_READER if since is None else since + PATIENCE_FOR_READER - now
        if waits <= 0:
            self._abort()
        else:
            self._timer = asyncio.get_running_loop().call_later(waits, self._watch_reader)

    def _abort(self) -> None:
        # A connection that is closed would wait until all of this is read.
        self._status, self._is_over = "left", True
        self._scope["state"][ABORT]()

    def _count_first(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._metrics.count_first_output(time.perf_counter() - self._started)

    def _count_answer(self, request: ChatRequest) -> None:
        self._metrics.count_answer(request, time.perf_counter() - self._started)


def _ignored(headers: dict[str, str]) -> dict[str, str]:
    """What the headers of an error say of the request: nobody has answered."""
    return {name: value for name, value in headers.items() if name == "x-tiered-ignored"}


def _report(error: Exception) -> None:
    """Log an error of the program itself, with its place and without its text, which may quote."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    logger.error("%s at %s", type(error).__name__, place)
